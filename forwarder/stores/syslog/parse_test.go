package syslogstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

// message is one as RFC 5424 has it, taken apart.
type message struct {
	facility, severity               int
	timestamp                        time.Time // zero is the NILVALUE
	hostname, appName, procID, msgID string
	// data has the parameters of each element.
	data map[string]map[string]string
	msg  []byte
}

// parser takes a message apart strictly as the grammar of RFC 5424, section 6, has it. It
// shares nothing with what writes messages.
type parser struct {
	b []byte
}

func parse(b []byte) (m message, err error) {
	p := parser{b}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w, before %.40q of %.200q", err, p.b, b)
		}
	}()
	if !p.skip("<") {
		return m, errors.New("no PRI")
	}
	pri, err := p.number(1, 3)
	if err != nil || pri > 191 || !p.skip(">") {
		return m, errors.New("PRI is not from 0 to 191")
	}
	m.facility, m.severity = pri/8, pri%8
	if !p.skip("1 ") {
		return m, errors.New("VERSION is not 1")
	}
	if m.timestamp, err = p.timestamp(); err != nil {
		return m, err
	}
	for _, f := range []struct {
		name string
		most int
		into *string
	}{{"HOSTNAME", 255, &m.hostname}, {"APP-NAME", 48, &m.appName}, {"PROCID", 128, &m.procID}, {"MSGID", 32, &m.msgID}} {
		word := p.word()
		if len(word) == 0 || len(word) > f.most || !p.skip(" ") {
			return m, fmt.Errorf("%s has %d characters", f.name, len(word))
		}
		*f.into = word
	}
	if m.data, err = p.structuredData(); err != nil {
		return m, err
	}
	if len(p.b) > 0 {
		if !p.skip(" ") {
			return m, errors.New("no space before MSG")
		}
		m.msg = p.b
		p.b = nil
		if bytes.HasPrefix(m.msg, []byte("\xef\xbb\xbf")) && !utf8.Valid(m.msg) {
			return m, errors.New("MSG says that it is UTF-8 and is not")
		}
	}
	return m, nil
}

func (p *parser) skip(s string) bool {
	rest, ok := bytes.CutPrefix(p.b, []byte(s))
	p.b = rest
	return ok
}

func (p *parser) number(least, most int) (int, error) {
	n := 0
	for n < len(p.b) && p.b[n] >= '0' && p.b[n] <= '9' {
		n++
	}
	if n < least || n > most || n > 1 && p.b[0] == '0' && least != most {
		return 0, errors.New("no number")
	}
	v, err := strconv.Atoi(string(p.b[:n]))
	p.b = p.b[n:]
	return v, err
}

// word is PRINTUSASCII, as much as there is.
func (p *parser) word() string {
	n := 0
	for n < len(p.b) && p.b[n] >= 33 && p.b[n] <= 126 {
		n++
	}
	w := string(p.b[:n])
	p.b = p.b[n:]
	return w
}

func (p *parser) timestamp() (t time.Time, err error) {
	if p.skip("- ") {
		return t, nil
	}
	text, rest, ok := bytes.Cut(p.b, []byte(" "))
	if !ok {
		return t, errors.New("no TIMESTAMP")
	}
	// At most six digits of a second, a T and a Z, and nothing that Go takes besides.
	const form = "2006-01-02T15:04:05.000000Z"
	if t, err = time.Parse(form, string(text)); err != nil {
		return t, fmt.Errorf("TIMESTAMP: %w", err)
	}
	p.b = rest
	return t, nil
}

func (p *parser) structuredData() (map[string]map[string]string, error) {
	if p.skip("-") {
		return nil, nil
	}
	all := map[string]map[string]string{}
	for p.skip("[") {
		id := p.sdName()
		if _, again := all[id]; id == "" || again {
			return nil, fmt.Errorf("SD-ID %q", id)
		}
		params := map[string]string{}
		all[id] = params
		for p.skip(" ") {
			name := p.sdName()
			if _, again := params[name]; name == "" || again || !p.skip(`="`) {
				return nil, fmt.Errorf("PARAM-NAME %q", name)
			}
			value, err := p.value()
			if err != nil {
				return nil, err
			}
			params[name] = value
		}
		if !p.skip("]") {
			return nil, errors.New("an element without an end")
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no STRUCTURED-DATA")
	}
	return all, nil
}

func (p *parser) sdName() string {
	n := 0
	for n < len(p.b) && p.b[n] >= 33 && p.b[n] <= 126 && !bytes.ContainsRune([]byte(`=]"`), rune(p.b[n])) {
		n++
	}
	if n > 32 {
		return ""
	}
	name := string(p.b[:n])
	p.b = p.b[n:]
	return name
}

// value reads to the quotation mark behind a value.
func (p *parser) value() (string, error) {
	var v []byte
	for i := 0; i < len(p.b); i++ {
		switch c := p.b[i]; c {
		case '"':
			p.b = p.b[i+1:]
			if !utf8.Valid(v) {
				return "", errors.New("PARAM-VALUE is not UTF-8")
			}
			return string(v), nil
		case ']':
			return "", errors.New("a bracket that is not escaped")
		case '\\':
			if i+1 == len(p.b) || !bytes.ContainsRune([]byte(`"\]`), rune(p.b[i+1])) {
				return "", errors.New("a backslash that escapes nothing") // allowed, and never needed
			}
			i++
			v = append(v, p.b[i])
		default:
			v = append(v, c)
		}
	}
	return "", errors.New("a value without an end")
}

// readFrame reads one message as RFC 6587, section 3.4.1, counts it.
func readFrame(r interface {
	io.Reader
	io.ByteReader
},
) ([]byte, error) {
	n := 0
	for digits := 0; ; digits++ {
		c, err := r.ReadByte()
		switch {
		case err != nil && digits > 0:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case c == ' ' && digits > 0:
			b := make([]byte, n)
			_, err := io.ReadFull(r, b)
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return b, err
		case c < '0' || c > '9' || digits == 0 && c == '0' || digits > 8:
			return nil, fmt.Errorf("%q is no MSG-LEN", c)
		}
		n = 10*n + int(c-'0')
	}
}
