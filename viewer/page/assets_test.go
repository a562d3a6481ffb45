package page

import (
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func TestEachFileThatThePagesNameIsServed(t *testing.T) {
	for name, r := range hostilePages(t, "x") {
		seen := 0
		for _, n := range all(parsed(t, r), func(n *html.Node) bool { return n.Data == "link" || n.Data == "script" }) {
			path := attr(n, "href") + attr(n, "src")
			file, ok := strings.CutPrefix(path, "/assets/")
			content, kind, found := Asset(file)
			if !ok || !found || len(content) == 0 || kind == "" {
				t.Errorf("%s: nothing is at %s", name, path)
			}
			if !regexp.MustCompile(`^[a-z]+\.[0-9a-f]{12}\.(css|js|svg)$`).MatchString(file) {
				t.Errorf("%s has no hash of what it holds", file)
			}
			seen++
		}
		if seen != 3 {
			t.Errorf("%s: %d files instead of a style, a script and an icon", name, seen)
		}
	}
	for _, name := range []string{"", "audit.css", "../page.go", "audit.000000000000.css"} {
		if _, _, ok := Asset(name); ok {
			t.Errorf("there is a file %q", name)
		}
	}
}

// The pages' Content-Security-Policy takes what comes from the network as text alone.
func TestTheScriptMakesNoHTMLOfText(t *testing.T) {
	script, _, _ := Asset(strings.TrimPrefix(assetPaths["audit.js"], "/assets/"))
	for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "createContextualFragment", ".style.", ".cssText", "setHTML"} {
		if strings.Contains(string(script), bad) {
			t.Errorf("the script has %s", bad)
		}
	}
	style, _, _ := Asset(strings.TrimPrefix(assetPaths["audit.css"], "/assets/"))
	for _, bad := range []string{"url(", "@import", "@font-face"} {
		if strings.Contains(string(style), bad) {
			t.Errorf("the style has %s", bad)
		}
	}
}
