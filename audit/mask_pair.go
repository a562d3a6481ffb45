package audit

import "strings"

// pairs finds values behind the name of a secret: password=…, token: …,
// "secret":"…", AccountKey=…, <password>….
func (f *finder) pairs() {
	s := f.text
	for i := 0; i < len(s); i++ {
		if traitOf[s[i]] != traitPair || s[i] == ':' && f.bot(i) {
			continue
		}
		kind, name := f.nameBefore(i)
		if kind == namePlain || strings.HasPrefix(s[i:], "://") {
			continue
		}
		from, to := f.valueAfter(i)
		if from < to && hidesValue(name, plainValue(s[from:to])) {
			f.add(from, to)
			i = to - 1
		}
	}
}

// plainValue is what stands first in a value, for one that is no secret.
func plainValue(s string) string {
	if end := strings.IndexAny(s, " \t\r\n,;&})]'\"\\"); end >= 0 {
		return s[:end]
	}
	return s
}

// bot finds a bot's token: its number, a colon and the secret.
func (f *finder) bot(colon int) bool {
	from, to := colon, f.end(colon+1, &isWord)
	for from > 0 && isDigit(f.text[from-1]) {
		from--
	}
	if colon-from < 6 || to-colon < 30 {
		return false
	}
	f.add(from, to)
	return true
}

// nameBefore reads the name before a position, of one word or two.
func (f *finder) nameBefore(i int) (nameKind, string) {
	s := f.text[max(0, i-maxPairKey):i]
	s = strings.TrimRight(s, " \t\"'\\`]>")
	start := len(s)
	for start > 0 && isKey[s[start-1]] {
		start--
	}
	name := s[start:]
	if name == "" {
		return namePlain, ""
	}
	if kind := kindOfName(name); kind != namePlain {
		return kind, name
	}
	if start > 1 && s[start-1] == ' ' && isKey[s[start-2]] {
		two := start - 1
		for two > 0 && isKey[s[two-1]] {
			two--
		}
		return kindOfName(s[two:]), s[two:]
	}
	return namePlain, ""
}

// valueAfter is where the value behind a colon or an equals sign stands.
func (f *finder) valueAfter(i int) (from, to int) {
	s := f.text
	if s[i] == '>' {
		if end := strings.IndexByte(s[i:], '<'); end >= 0 {
			return i + 1, i + end
		}
		return i + 1, len(s)
	}
	colon := s[i] == ':'
	for from = i + 1; from < len(s) && (s[from] == '=' || s[from] == '>' || s[from] == ' ' || s[from] == '\t'); from++ {
	}
	if from == len(s) {
		return from, from
	}
	if start, to := f.quoted(from); to > 0 {
		return start, to
	}
	if strings.HasPrefix(s[from:], redactedParam) {
		return from, from
	}
	switch {
	case s[from] == '{' && !colon: // as ODBC has it
		if end := strings.IndexByte(s[from:], '}'); end >= 0 {
			return from, from + end + 1
		}
		return from, len(s)
	case s[from] == '{' || s[from] == '[':
		return from, len(s)
	case colon:
		if end := strings.IndexAny(s[from:], "\r\n"); end >= 0 {
			return from, from + end
		}
		return from, len(s)
	}
	if end := strings.IndexAny(s[from:], " \t\r\n;&"); end >= 0 {
		return from, from + end
	}
	return from, len(s)
}

// quoted is where the text in quotes stands that begins at from; both are 0 if
// none does. Its quotes may be escaped themselves.
func (f *finder) quoted(from int) (start, end int) {
	s := f.text
	start = from
	for start < len(s) && s[start] == '\\' {
		start++
	}
	if start == len(s) || s[start] != '"' && s[start] != '\'' && s[start] != '`' {
		return 0, 0
	}
	quote, escapes := s[start], start-from
	start++
	for i := start; i < len(s); i++ {
		if s[i] != quote {
			continue
		}
		n := 0
		for i-1-n >= start && s[i-1-n] == '\\' {
			n++
		}
		if n == escapes {
			return start, i - n
		}
	}
	return start, len(s)
}

// arguments finds a quoted text behind the name of a secret, PASSWORD '…', and
// the word behind a program's option, --token ….
func (f *finder) arguments() {
	s := f.text
	for i := 1; i < len(s); i++ {
		switch {
		case (s[i] == '"' || s[i] == '\'') && isGap[s[i-1]]:
			if kind, _ := f.nameBefore(i); kind != namePlain {
				f.add(f.quoted(i))
			}
		case s[i] == '-' && s[i-1] == '-':
			f.option(i + 1)
		}
	}
}

func (f *finder) option(at int) {
	end := f.end(at, &isKey)
	if end == len(f.text) || !isGap[f.text[end]] || kindOfName(f.text[at:end]) == namePlain {
		return
	}
	from := f.end(end, &isGap)
	if start, to := f.quoted(from); to > 0 {
		f.add(start, to)
		return
	}
	to := from
	for to < len(f.text) && !isGap[f.text[to]] {
		to++
	}
	if from < to && f.text[from] != '-' {
		f.add(from, to)
	}
}

// urls finds the passwords of URLs and connection strings.
func (f *finder) urls() {
	s := f.text
	for from := 0; ; {
		i := strings.Index(s[from:], "://")
		if i < 0 {
			break
		}
		start := from + i + 3
		f.userinfo(start)
		from = start
	}
	for _, mark := range []string{"@tcp(", "@unix("} {
		at := strings.Index(s, mark)
		if at < 0 {
			continue
		}
		start := strings.LastIndexAny(s[:at], " \t\r\n\"'=") + 1
		if colon := strings.IndexByte(s[start:at], ':'); colon >= 0 {
			f.add(start+colon+1, at)
		}
	}
}

// userinfo masks what stands between the colon and the last at sign. Some
// write a password unescaped, with slashes in it.
func (f *finder) userinfo(start int) {
	s := f.text
	end := start
	for end < len(s) && !isGap[s[end]] && s[end] != '"' && s[end] != '<' && s[end] != '>' {
		end++
	}
	whole := s[start:end]
	if next := strings.Index(whole, "://"); next >= 0 {
		whole = whole[:next]
	}
	authority := whole
	if slash := strings.IndexAny(whole, "/?#"); slash >= 0 {
		authority = whole[:slash]
	}
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		if _, port, ok := strings.Cut(authority, ":"); !ok || port == "" || isNumber(port) && len(port) <= 5 {
			return
		}
		at = strings.LastIndexByte(whole, '@')
	}
	if at < 0 {
		return
	}
	if colon := strings.IndexByte(whole[:at], ':'); colon >= 0 {
		f.add(start+colon+1, start+at)
	}
}

// phrases finds what stands behind the scheme of an Authorization header.
func (f *finder) phrases() {
	s := f.text
	for i := range len(s) {
		if s[i] != ' ' || i < 5 {
			continue
		}
		from := i
		for from > 0 && isLetter(s[from-1]) {
			from--
		}
		value := f.end(i, &isGap)
		to := value
		for to < len(s) && !isGap[s[to]] && strings.IndexByte("\"',;<>", s[to]) < 0 {
			to++
		}
		if isScheme(s[from:i], s[value:to]) {
			f.add(value, to)
		}
	}
}

func isScheme(scheme, value string) bool {
	if len(value) < 8 || value == redactedParam {
		return false
	}
	switch {
	case strings.EqualFold(scheme, "basic"):
		plain, ok := decodeBase64(value)
		return ok && strings.Contains(plain, ":") || !ok && strings.HasSuffix(value, "=")
	case strings.EqualFold(scheme, "bearer"), strings.EqualFold(scheme, "token"), strings.EqualFold(scheme, "apikey"):
		return len(value) >= 20 || strings.Trim(value[1:], "abcdefghijklmnopqrstuvwxyz.") != ""
	}
	return false
}
