package commands

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// command is one that a document tells its reader to run, or names.
type command struct {
	doc  string // its path below the root, with slashes
	line int    // the first one, from 1
	text string // as it stands there, on one line, without a comment behind it
	// inText is one that stands in a sentence or a table: it names a command, and may leave
	// out what is not its subject there.
	inText bool
	// shows is the output that stands below it.
	shows []string
}

// documented are the files that are held against the program.
func documented(name string) bool {
	switch {
	case name == "README.md", name == "CONTRIBUTING.md":
		return true
	case strings.HasSuffix(name, ".md"):
		return strings.HasPrefix(name, "docs/") || strings.HasPrefix(name, "bench/") || strings.HasPrefix(name, "deploy/") && path.Base(name) == "README.md"
	}
	return false
}

// find returns a document's commands in its order:
//
//   - each line of a block of the language sh
//   - in any other block, what follows "$ " at a line's begin, with what is below it as its
//     output; in one of the language console there must be such a line
//   - each line of an indented block
//   - code in text that begins with a program that this project's readers run
//
// A line that ends with a backslash goes on in the next.
func find(doc, text string) (all []command) {
	lines := strings.Split(text, "\n")
	fence, language := "", ""
	blank := true
	var paragraph []string
	begin := 0
	flush := func() {
		all = append(all, mentions(doc, begin, paragraph)...)
		paragraph = nil
	}
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		trimmed := strings.TrimSpace(l)
		opens := strings.HasPrefix(trimmed, "```")
		switch {
		case fence == "" && opens:
			flush()
			fence, language = "```", strings.TrimLeft(trimmed, "`")
		case fence != "" && opens:
			fence = ""
		case fence != "" && language == "sh", fence == "" && blank && isIndented(l), fence == "" && len(paragraph) == 0 && isIndented(l):
			if trimmed == "" || strings.HasPrefix(trimmed, "#") {
				break
			}
			c := command{doc: doc, line: i + 1, text: trimmed}
			for strings.HasSuffix(c.text, `\`) && i+1 < len(lines) {
				i++
				c.text = strings.TrimSpace(strings.TrimSuffix(c.text, `\`)) + " " + strings.TrimSpace(lines[i])
			}
			c.text = withoutComment(c.text)
			all = append(all, c)
		case fence != "":
			if after, ok := strings.CutPrefix(trimmed, "$ "); ok {
				all = append(all, command{doc: doc, line: i + 1, text: withoutComment(after)})
			} else if last := len(all) - 1; last >= 0 && all[last].doc == doc && isBelow(lines, all[last].line, i) {
				all[last].shows = append(all[last].shows, l)
			}
		case trimmed == "" || strings.HasPrefix(trimmed, "|"):
			flush()
			if trimmed != "" {
				all = append(all, mentions(doc, i, []string{l})...)
			}
		default:
			if paragraph == nil {
				begin = i
			}
			paragraph = append(paragraph, l)
		}
		blank = trimmed == ""
	}
	flush()
	return all
}

func isIndented(l string) bool {
	return strings.HasPrefix(l, "    ") && strings.TrimSpace(l) != "" && !regexp.MustCompile(`^\s+([-*]|\d+\.) `).MatchString(l)
}

// isBelow says whether a line is in the same block as the command at another.
func isBelow(lines []string, command, at int) bool {
	return !slices.ContainsFunc(lines[command-1:at], func(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), "```") })
}

var comment = regexp.MustCompile(`\s+#\s.*$`)

func withoutComment(text string) string { return comment.ReplaceAllString(text, "") }

var (
	code = regexp.MustCompile("(?s)`[^`]+`")
	// isCommand is what a command in text begins with: a program, behind sudo and variables.
	isCommand = regexp.MustCompile(`^(?:sudo (?:-u \S+ |--\S+ )*)?(?:[A-Z_]+=\S+ )*(?:(?:\./)?caddy (?:audit|run|stop|reload|validate|fmt)\b|go (?:run|test|build|generate) |\.ci/run|deploy/\S+\.sh|cd \S+ && |echo .*\$\(|(?:sqlite3|pg_dump|pg_restore|psql|nats (?:stream|consumer)|aws|docker|kubectl|cp|install|curl|apt-get|systemctl|journalctl|systemd-analyze|git|gh|promtool) )`)
)

// mentions are the commands in a paragraph's code. Its first line has the index begin.
func mentions(doc string, begin int, paragraph []string) (all []command) {
	text := strings.Join(paragraph, "\n")
	for _, at := range code.FindAllStringIndex(text, -1) {
		span := strings.ReplaceAll(text[at[0]+1:at[1]-1], `\|`, "|")
		span = strings.Join(strings.Fields(span), " ")
		if isCommand.MatchString(span) && span != "caddy audit" {
			all = append(all, command{doc: doc, line: begin + 1 + strings.Count(text[:at[0]], "\n"), text: span, inText: true})
		}
	}
	return all
}
