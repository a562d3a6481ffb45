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
//   - each line of a block of the language sh, and in one without a language, those that begin
//     with a program that this project's readers run
//   - in any other block, what follows "$ " at a line's begin; what is below it is what it prints
//   - each line of an indented block
//   - code in text that begins with such a program
//
// A line that ends with a backslash goes on in the next one.
func find(doc, text string) (all []command) {
	lines := strings.Split(text, "\n")
	var fenced bool
	var language string
	var paragraph []string // that is being read, from the line begin on
	var begin int
	flush := func() {
		all = append(all, mentions(doc, begin, paragraph)...)
		paragraph = nil
	}
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		trimmed := strings.TrimSpace(l)
		switch {
		case isFence(l):
			flush()
			fenced, language = !fenced, strings.TrimLeft(trimmed, "`")
		case fenced && slices.Contains(shells, language), fenced && language == "" && isCommand.MatchString(trimmed), !fenced && paragraph == nil && isIndented(l):
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
		case fenced:
			if after, ok := strings.CutPrefix(trimmed, "$ "); ok {
				all = append(all, command{doc: doc, line: i + 1, text: withoutComment(after)})
			} else if last := len(all) - 1; last >= 0 && !slices.ContainsFunc(lines[all[last].line-1:i], isFence) {
				all[last].shows = append(all[last].shows, l)
			}
		case trimmed == "":
			flush()
		case strings.HasPrefix(trimmed, "|"): // a row
			flush()
			all = append(all, mentions(doc, i, []string{l})...)
		default:
			if paragraph == nil {
				begin = i
			}
			paragraph = append(paragraph, l)
		}
	}
	flush()
	return all
}

var shells = []string{"sh", "bash", "shell"}

func isFence(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), "```") }

// isIndented says whether a line is one of an indented block, and not of a list in a list.
func isIndented(l string) bool {
	return strings.HasPrefix(l, "    ") && strings.TrimSpace(l) != "" && !item.MatchString(l)
}

var item = regexp.MustCompile(`^\s+([-*]|\d+\.) `)

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
