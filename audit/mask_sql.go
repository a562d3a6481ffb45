package audit

import "strings"

// MaskSQL gives a statement with ? for each of its literals and without its
// comments, of at most 2048 bytes. Names stay, unless they look like a
// credential; what is in double quotes is a name, as the standard has it. Where
// it cannot be told with certainty where a literal ends, all that follows is
// left out.
func MaskSQL(query string) string {
	masked, _ := masker{}.sql(query)
	return masked
}

// maxSQL is how much of a statement is looked at.
const maxSQL = 64 << 10

// maxIdentifier is the longest name in quotes that is taken for one: longer
// than PostgreSQL's own bound, and shorter than what may hide there.
const maxIdentifier = 128

// stripSQL replaces the literals. What is unterminated ends the text.
func stripSQL(query string) string {
	l := sqlLexer{text: clip(query, maxSQL)}
	for l.at < len(l.text) && l.out.Len() < 2*maxCapturedSQL {
		l.next()
	}
	return l.out.String()
}

type sqlLexer struct {
	text string
	at   int
	out  strings.Builder
	// data says that lines of data follow the statement.
	data bool
}

// literal writes ? for what ends at to.
func (l *sqlLexer) literal(to int) {
	l.out.WriteByte('?')
	l.at = to
}

func (l *sqlLexer) stop() { l.literal(len(l.text)) }

func (l *sqlLexer) next() {
	rest := l.text[l.at:]
	switch c := rest[0]; {
	case c == '\'':
		l.quoted(l.at, false)
	case c == '"' || c == '`':
		l.identifier(c)
	case c == '$':
		l.dollar(rest)
	case isDigit(c), c == '.' && len(rest) > 1 && isDigit(rest[1]):
		l.number()
	case isNameStart(c):
		l.word()
	case strings.HasPrefix(rest, "--"):
		l.comment(rest, "\n")
	case strings.HasPrefix(rest, "/*"):
		l.block()
	case c == '\\', c == 0: // a command of the shell, which has its own literals
		l.stop()
	default:
		l.out.WriteByte(c)
		l.at++
		if c == ';' && l.data && strings.TrimSpace(l.text[l.at:]) != "" {
			l.stop()
		}
	}
}

// quoted reads a string, whose quote stands at from. Whether a backslash before
// a quote escapes it depends on the dialect, unless the string says so.
func (l *sqlLexer) quoted(from int, escapes bool) {
	s := l.text
	for i := from + 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if !escapes && oddBackslashes(s[i:]) {
				l.stop()
				return
			}
			if escapes {
				i++
			}
		case '\'':
			if i+1 < len(s) && s[i+1] == '\'' {
				i++
				continue
			}
			l.literal(i + 1)
			return
		}
	}
	l.stop()
}

// oddBackslashes reports whether the backslashes that s begins with may escape
// a quote behind them, or make one that seems escaped.
func oddBackslashes(s string) bool {
	n := 0
	for n < len(s) && s[n] == '\\' {
		n++
	}
	return n == len(s) || s[n] == '\''
}

// identifier copies a name in quotes.
func (l *sqlLexer) identifier(quote byte) {
	for i := l.at + 1; i < len(l.text); i++ {
		switch {
		case l.text[i] == '\'' && quote == '`': // an operator in some dialects
			l.stop()
			return
		case l.text[i] != quote:
		case i+1 < len(l.text) && l.text[i+1] == quote:
			i++
		case i-l.at > maxIdentifier:
			l.literal(i + 1)
			return
		default:
			l.out.WriteString(l.text[l.at : i+1])
			l.at = i + 1
			return
		}
	}
	l.stop()
}

// dollar reads $1, which stays, or a string in dollar quotes.
func (l *sqlLexer) dollar(rest string) {
	n := 1
	for n < len(rest) && isNamePart(rest[n]) && rest[n] != '$' {
		n++
	}
	if n < len(rest) && rest[n] == '$' && (n == 1 || !isDigit(rest[1])) {
		tag := rest[:n+1]
		end := strings.Index(rest[len(tag):], tag)
		if end < 0 {
			l.stop()
			return
		}
		l.literal(l.at + end + 2*len(tag))
		return
	}
	if n > 1 && isNumber(rest[1:n]) && n <= 6 {
		l.out.WriteString(rest[:n])
		l.at += n
		return
	}
	l.literal(l.at + n)
}

func (l *sqlLexer) number() {
	i := l.at
	for i < len(l.text) && (isNamePart(l.text[i]) || l.text[i] == '.' ||
		(l.text[i] == '-' || l.text[i] == '+') && l.text[i-1]|0x20 == 'e' && i+1 < len(l.text) && isDigit(l.text[i+1])) {
		i++
	}
	l.literal(i)
}

// word reads a name, a keyword or the prefix of a string.
func (l *sqlLexer) word() {
	i := l.at
	for i < len(l.text) && isNamePart(l.text[i]) {
		i++
	}
	word := l.text[l.at:i]
	if i < len(l.text) && l.text[i] == '\'' {
		switch strings.ToLower(word) {
		case "e":
			l.quoted(i, true)
			return
		case "b", "x", "n":
			l.quoted(i, false)
			return
		}
		if strings.HasPrefix(word, "_") { // MySQL's character sets
			l.quoted(i, false)
			return
		}
	}
	if strings.EqualFold(word, "u") && strings.HasPrefix(l.text[i:], "&'") {
		l.quoted(i+1, false)
		return
	}
	l.data = l.data || strings.EqualFold(word, "stdin")
	l.out.WriteString(word)
	l.at = i
}

func (l *sqlLexer) comment(rest, end string) {
	i := strings.Index(rest, end)
	if i < 0 {
		l.at = len(l.text)
		return
	}
	l.at += i
}

// block skips a comment, in which others may stand.
func (l *sqlLexer) block() {
	depth := 0
	for i := l.at; i+1 < len(l.text); i++ {
		switch l.text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			l.out.WriteByte(' ')
			l.at = i + 1
			return
		}
	}
	l.at = len(l.text)
}

func isNameStart(c byte) bool { return isLetter(c) || c == '_' || c >= 0x80 }
func isNamePart(c byte) bool  { return isNameStart(c) || isDigit(c) || c == '$' }
