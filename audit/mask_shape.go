package audit

import (
	"strings"
)

// trait is what a text has that a credential may show by. A text without any
// holds none by shape.
type trait uint8

const (
	traitRun    trait = 1 << iota // a long word
	traitDigits                   // as many digits as a card's number
	traitDash                     // two dashes
	traitPair                     // what stands between a name and a value
	traitQuote
	traitScheme // the scheme of an Authorization header and a space
	traitEscape
	traitBrace // it begins as JSON does
)

const (
	minMarked  = 12 // the shortest word that a mark makes a credential
	minBase64  = 16 // the shortest word that may encode one
	minRandom  = 32 // the shortest word that is one for its look
	minDigits  = 13 // of a card's number
	maxDigits  = 19
	maxPairKey = 64
)

// runChars make a word that may be a credential, base64 included.
const runChars = wordChars + "+/="

// tailChars go on behind a mark: some credentials have several parts.
const tailChars = runChars + ".~"

var (
	isRun  = charSet(runChars)
	isTail = charSet(tailChars)
	isWord = charSet(wordChars)
	isKey  = charSet(wordChars + ".")
	isGap  = charSet(" \t\r\n")
)

func charSet(chars string) (set [256]bool) {
	for i := range len(chars) {
		set[chars[i]] = true
	}
	return set
}

var traitOf = func() (of [256]trait) {
	of[':'], of['='], of['>'] = traitPair, traitPair, traitPair
	of['\''], of['"'] = traitQuote, traitQuote
	of['%'], of['&'], of['\\'], of['+'] = traitEscape, traitEscape, traitEscape, traitEscape
	return of
}()

func traitsOf(s string) trait {
	var has trait
	length, digits := 0, 0
	for i := range len(s) {
		c := s[i]
		has |= traitOf[c]
		if !isRun[c] {
			if isGap[c] && endsScheme(s[:i]) {
				has |= traitScheme
			}
			length = 0
			continue
		}
		if length++; length == minMarked {
			has |= traitRun
		}
		if isDigit(c) {
			if digits++; digits == minDigits {
				has |= traitDigits
			}
		} else if c == '-' && i > 0 && s[i-1] == '-' {
			has |= traitDash
		}
	}
	if start := strings.TrimLeft(s, " \t\r\n"); start != "" && (start[0] == '{' || start[0] == '[') {
		has |= traitBrace
	}
	return has
}

// endsScheme reports whether a text ends in the scheme of an Authorization
// header.
func endsScheme(s string) bool {
	if len(s) < len("basic") {
		return false
	}
	switch s[len(s)-1] | 0x20 {
	case 'r':
		return hasSuffixFold(s, "bearer")
	case 'c':
		return hasSuffixFold(s, "basic")
	case 'n':
		return hasSuffixFold(s, "token")
	case 'y':
		return hasSuffixFold(s, "apikey")
	}
	return false
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

// credentialMarks begin credentials of services that are in wide use. A mark
// that may stand within a word by chance counts at its start only.
var credentialMarks = byFirst(append([]secretMark{
	{mark: "AKIA", word: true, min: 16},
	{mark: "ASIA", word: true, min: 16},
	{mark: "ABIA", word: true, min: 16},
	{mark: "ACCA", word: true, min: 16},
	{mark: "ghp_", min: 16},
	{mark: "gho_", min: 16},
	{mark: "ghs_", min: 16},
	{mark: "ghu_", min: 16},
	{mark: "ghr_", min: 16},
	{mark: "github_pat_", min: 16},
	{mark: "glpat-", min: 12},
	{mark: "gldt-", min: 12},
	{mark: "glrt-", min: 12},
	{mark: "glptt-", min: 12},
	{mark: "glcbt-", min: 12},
	{mark: "gloas-", min: 12},
	{mark: "glsoat-", min: 12},
	{mark: "glft-", min: 12},
	{mark: "glagent-", min: 12},
	{mark: "xoxa-", min: 8},
	{mark: "xoxb-", min: 8},
	{mark: "xoxc-", min: 8},
	{mark: "xoxd-", min: 8},
	{mark: "xoxe-", min: 8},
	{mark: "xoxe.", min: 8},
	{mark: "xoxp-", min: 8},
	{mark: "xoxr-", min: 8},
	{mark: "xoxs-", min: 8},
	{mark: "xapp-", min: 8},
	{mark: "sk_live_", min: 10},
	{mark: "sk_test_", min: 10},
	{mark: "rk_live_", min: 10},
	{mark: "rk_test_", min: 10},
	{mark: "whsec_", min: 10},
	{mark: "AIza", word: true, min: 30},
	{mark: "ya29.", min: 16},
	{mark: "GOCSPX-", min: 16},
	{mark: "1//0", word: true, min: 24},
	{mark: "sk-ant-", min: 10},
	{mark: "sk-proj-", word: true, min: 16},
	{mark: "sk-svcacct-", word: true, min: 10},
	{mark: "sk-or-", word: true, min: 16},
	{mark: "npm_", word: true, min: 30},
	{mark: "pypi-AgE", min: 8},
	{mark: "rubygems_", min: 32},
	{mark: "dckr_pat_", min: 16},
	{mark: "dckr_oat_", min: 16},
	{mark: "dop_v1_", min: 16},
	{mark: "doo_v1_", min: 16},
	{mark: "dor_v1_", min: 16},
	{mark: "hf_", word: true, min: 24},
	{mark: "hvs.", word: true, min: 16},
	{mark: "hvb.", word: true, min: 16},
	{mark: "hvr.", word: true, min: 16},
	{mark: "AGE-SECRET-KEY-1", min: 10},
	{mark: "age-secret-key-1", min: 10},
	{mark: "shpat_", min: 16},
	{mark: "shpss_", min: 16},
	{mark: "shpca_", min: 16},
	{mark: "shppa_", min: 16},
	{mark: "sq0atp-", min: 12},
	{mark: "sq0csp-", min: 12},
	{mark: "EAACEdEose0cBA", min: 8},
	{mark: "lin_api_", min: 16},
	{mark: "ntn_", word: true, min: 30},
	{mark: "PMAK-", min: 16},
	{mark: "sntrys_", min: 16},
	{mark: "sntryu_", min: 16},
	{mark: "glsa_", min: 16},
	{mark: "glc_eyJ", min: 10},
	{mark: "figd_", min: 16},
	{mark: "nfp_", word: true, min: 24},
	{mark: "pscale_tkn_", min: 12},
	{mark: "pscale_pw_", min: 12},
	{mark: "pscale_oauth_", min: 12},
	{mark: "xkeysib-", min: 16},
	{mark: "r8_", word: true, min: 24},
	{mark: "gsk_", word: true, min: 24},
	{mark: "pplx-", word: true, min: 24},
	{mark: "dapi", word: true, min: 32},
	{mark: "ATATT3", min: 16},
	{mark: "ATBB", word: true, min: 20},
	{mark: "amzn.mws.", min: 16},
	{mark: "tfp_", word: true, min: 24},
	{mark: "rnd_", word: true, min: 24},
	{mark: "re_", word: true, min: 24},
	{mark: "phx_", word: true, min: 24},
	{mark: "fo1_", word: true, min: 16},
	{mark: "fm2_", word: true, min: 16},
	{mark: "ops_eyJ", min: 10},
	{mark: "LTAI", word: true, min: 16},
	{mark: "SK", word: true, min: 32},
	{mark: "key-", word: true, min: 32},
	{mark: "v1.0-", word: true, min: 24},
}, secretMarks...))

func byFirst(marks []secretMark) (first [256][]secretMark) {
	for _, m := range marks {
		first[m.mark[0]] = append(first[m.mark[0]], m)
	}
	return first
}

// finder collects what is masked in a text.
type finder struct {
	masker
	text  string
	found []span
}

func (f *finder) add(from, to int) {
	if from < to && f.text[from:to] != redactedParam {
		f.found = append(f.found, span{from, to})
	}
}

// end is where the characters of a set end that begin at from.
func (f *finder) end(from int, set *[256]bool) int {
	for from < len(f.text) && set[f.text[from]] {
		from++
	}
	return from
}

// marks finds credentials by how they begin.
func (f *finder) marks() {
	s := f.text
	for i := 0; i < len(s); i++ {
		for k := range credentialMarks[s[i]] {
			m := &credentialMarks[s[i]][k]
			if !strings.HasPrefix(s[i:], m.mark) || m.word && !beginsWord(s, i) {
				continue
			}
			from := i + len(m.mark)
			if f.end(from, &isWord)-from >= m.min {
				i = f.end(from, &isTail)
				f.add(from-len(m.mark), i)
				break
			}
		}
		if i < len(s) && s[i] == 's' && strings.HasPrefix(s[i:], "sk-") && beginsWord(s, i) || i < len(s) && s[i] == 'S' && strings.HasPrefix(s[i:], "SG.") {
			f.loose(i)
		}
	}
}

// loose looks at what begins as words may too, and must look random behind it.
func (f *finder) loose(at int) {
	to := f.end(at, &isTail)
	if rest := f.text[at+3 : to]; len(rest) >= 20 && strings.ContainsAny(rest, "0123456789") && turns(rest)*5 >= len(rest) {
		f.add(at, to)
	}
}

// beginsWord takes the letter of an escape before the word for its end.
func beginsWord(s string, at int) bool {
	return startsWord(s, at) || at >= 2 && s[at-2] == '\\' || s[at-1] == '_' || s[at-1] == '-'
}

// runs finds credentials by their look alone, and encoded ones.
func (f *finder) runs() {
	s := f.text
	for i := 0; i < len(s); {
		if !isRun[s[i]] {
			i++
			continue
		}
		to := f.end(i, &isRun)
		if run := s[i:to]; len(run) >= minBase64 && (f.encodes(run) || looksRandom(run)) {
			f.add(i, to)
		}
		f.dotted(i)
		i = to
	}
}

// encodes reports whether a run is a credential in base64.
func (f *finder) encodes(run string) bool {
	if f.nested == maxNested {
		return false
	}
	plain, ok := decodeBase64(run)
	if !ok {
		return false
	}
	m := f.masker
	m.nested++
	return m.mask(plain, len(plain)) != plain
}

// dotted finds tokens of three parts, as a bot's.
func (f *finder) dotted(at int) {
	for part, least := range [3]int{17, 5, 20} {
		end := f.end(at, &isWord)
		switch {
		case end-at < least || part > 0 && at == 0:
			return
		case part == 2 && turns(f.text[at:end])*5 >= end-at:
			from := at
			for from > 0 && (isWord[f.text[from-1]] || f.text[from-1] == '.') {
				from--
			}
			f.add(from, f.end(end, &isTail))
			return
		case end == len(f.text) || f.text[end] != '.':
			return
		}
		at = end + 1
	}
}

// looksRandom reports whether a run of letters, digits and + / _ - = looks as if
// a generator made it: 32 characters or more, of which every third changes
// between small letters, capitals and digits, or every eighth if there are but
// letters of one case and digits. What is behind a dash, an underscore or a
// slash begins anew. UUIDs and SHA-1 and SHA-256 digests in hex do not count; a
// path, a slug and a name of many words do not change that often. Hex of
// another length does.
func looksRandom(run string) bool {
	var c charCount
	for i := 0; i < len(run); {
		if n := digestLen(run, i); n > 0 {
			i += n
			continue
		}
		c.add(run[i])
		i++
	}
	return c.n >= minRandom && c.turns*c.every() >= c.lower+c.upper+c.digit
}

// charCount counts the characters of a run by their class.
type charCount struct {
	n, lower, upper, digit, turns int
	last                          byte
}

func (c *charCount) add(b byte) {
	var class byte
	switch {
	case isLower(b):
		class = 'a'
		c.lower++
	case isUpper(b):
		class = 'A'
		c.upper++
	case isDigit(b):
		class = '0'
		c.digit++
	case b == '=':
		return
	}
	c.n++
	if b == '+' {
		return
	}
	if c.last != 0 && class != 0 && c.last != class {
		c.turns++
	}
	c.last = class
}

// every is how many characters a random run has for each change, at most.
func (c *charCount) every() int {
	if c.lower > 0 && c.upper > 0 {
		return 3
	}
	return 8
}

func turns(s string) int {
	var c charCount
	for i := range len(s) {
		c.add(s[i])
	}
	return c.turns
}

// digestLen is the length of a UUID or a digest in hex that stands at i by
// itself, or 0.
func digestLen(s string, i int) int {
	if i > 0 && isAlnum(s[i-1]) {
		return 0
	}
	if i+36 <= len(s) && isUUID(s[i:i+36]) && (i+36 == len(s) || !isAlnum(s[i+36])) {
		return 36
	}
	n, lower, upper := 0, 0, 0
	for ; i+n < len(s) && isAlnum(s[i+n]); n++ {
		switch c := s[i+n]; {
		case c >= 'a' && c <= 'f':
			lower++
		case c >= 'A' && c <= 'F':
			upper++
		case !isDigit(c):
			return 0
		}
	}
	if (n == 40 || n == 64) && (lower == 0 || upper == 0) {
		return n
	}
	return 0
}

func isAlnum(c byte) bool { return isLetter(c) || isDigit(c) }

// pem finds PEM blocks, of keys and of all else.
func (f *finder) pem() {
	for from := 0; ; {
		i := strings.Index(f.text[from:], "-----BEGIN")
		if i < 0 {
			return
		}
		i += from
		to := len(f.text)
		if end := strings.Index(f.text[i:], "-----END"); end >= 0 {
			to = i + end + len("-----END")
			if dashes := strings.Index(f.text[to:], "-----"); dashes >= 0 {
				to += dashes + 5
			} else {
				to = len(f.text)
			}
		}
		f.add(i, to)
		from = to
	}
}

// cards finds the numbers of payment cards.
func (f *finder) cards() {
	for i := range len(f.text) {
		if isDigit(f.text[i]) && (i == 0 || !isAlnum(f.text[i-1])) {
			if to := cardEnd(f.text, i); to > 0 {
				f.add(i, to)
			}
		}
	}
}

// cardEnd is where the card number ends that begins at i, or 0. Its digits may
// be in groups.
func cardEnd(s string, i int) int {
	var digits [maxDigits]byte
	n := 0
	for ; i < len(s); i++ {
		switch {
		case isDigit(s[i]):
			if n == maxDigits {
				return 0
			}
			digits[n] = s[i] - '0'
			n++
			if i+1 < len(s) && isAlnum(s[i+1]) {
				continue
			}
			if n >= minDigits && isCard(digits[:n]) {
				return i + 1
			}
		case s[i] != ' ' && s[i] != '-', i > 0 && !isDigit(s[i-1]):
			return 0
		}
	}
	return 0
}

func isCard(digits []byte) bool {
	sum := 0
	for i := range digits {
		d := int(digits[len(digits)-1-i])
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	four := 0
	for _, d := range digits[:4] {
		four = 10*four + int(d)
	}
	return sum%10 == 0 && isIssuer(four, len(digits))
}

// isIssuer reports whether cards whose number begins so have n digits.
func isIssuer(four, n int) bool {
	switch {
	case four/1000 == 4:
		return n == 13 || n == 16 || n == 19
	case four/100 == 34, four/100 == 37:
		return n == 15
	case four/100 >= 51 && four/100 <= 55, four >= 2221 && four <= 2720:
		return n == 16
	case four/100 == 36, four/100 == 38, four/10 >= 300 && four/10 <= 305:
		return n == 14
	case four == 6011, four/100 == 65, four/10 >= 644 && four/10 <= 649, four/100 == 35, four/100 == 62:
		return n >= 16
	}
	return false
}
