package doccheck

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

const index = "docs/README.md"

func TestEveryDocumentIsInTheIndex(t *testing.T) {
	linked := map[string]bool{index: true}
	for _, l := range links(content(t, index)) {
		target, _, _ := strings.Cut(l, "#")
		linked[path.Join("docs", target)] = true
	}
	for _, suffix := range []string{".md", ".Caddyfile"} {
		for _, name := range files(t, suffix) {
			if strings.HasPrefix(name, "docs/") && !linked[name] {
				t.Errorf("%s is not linked from %s: give it a line there", name, index)
			}
		}
	}
}

func TestRelativeLinksLeadSomewhere(t *testing.T) {
	checked := 0
	for _, name := range files(t, ".md") {
		for _, l := range links(content(t, name)) {
			if strings.Contains(l, "://") || strings.HasPrefix(l, "mailto:") {
				continue
			}
			checked++
			target, anchor, _ := strings.Cut(l, "#")
			at := name
			if target != "" {
				at = path.Join(path.Dir(name), target)
			}
			if _, err := os.Stat(filepath.Join(root, at)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, l)
				continue
			}
			if anchor != "" && strings.HasSuffix(at, ".md") && !anchors(content(t, at))[anchor] {
				t.Errorf("%s links to %s: %s has no such heading", name, l, at)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d links were found", checked)
	}
}

var (
	fence    = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	code     = regexp.MustCompile("`[^`\n]*`")
	link     = regexp.MustCompile(`\]\(([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)(?:\s+"[^"]*")?\)`)
	image    = regexp.MustCompile(`<(?:img|a)[^>]*(?:src|href)="([^"]+)"`)
	heading  = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *#*$`)
	linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// links are the targets in a document, but for what stands in code.
func links(text string) (list []string) {
	text = fence.ReplaceAllString(text, "")
	for _, m := range image.FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	// A link's text may be code; its target is none.
	text = code.ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat("x", len(s)) })
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	return list
}

// anchors are the names of a document's headings, as GitHub makes them.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		title := linkText.ReplaceAllString(m[1], "$1")
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		unique := name
		for n := 1; all[unique]; n++ {
			unique = name + "-" + string(rune('0'+n))
		}
		all[unique] = true
	}
	return all
}

func TestWhatALinkIs(t *testing.T) {
	got := links("[a](b.md#c) `[x](y)` [`code`](d.md) ![i](e.png \"t\")\n```\n[f](g)\n```\n<img src=\"h.png\">")
	if strings.Join(got, " ") != "h.png b.md#c d.md e.png" {
		t.Error(got)
	}
	if all := anchors("# What a *test* does, `x_y`\n## Same\n## Same\n"); !all["what-a-test-does-x_y"] || !all["same"] || !all["same-1"] {
		t.Error(all)
	}
}
