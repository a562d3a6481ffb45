package audit

import "strconv"

// maxFastDigits is how many digits a number has at most that is read here: so many fit into
// an int64. Whether more do is left to encoding/json.
const maxFastDigits = 18

// int64 takes a number without a fraction.
func (d *decoder) int64() int64 {
	negative := d.peek() == '-'
	if negative {
		d.i++
	}
	n := d.digits()
	if negative {
		return -n
	}
	return n
}

// digits takes up to maxFastDigits, without a zero before others. Behind them may be more,
// or a fraction: neither is what comes next after a value, so that whoever looks for that
// gives up.
func (d *decoder) digits() (n int64) {
	from := d.i
	for ; d.i < len(d.b) && d.b[d.i]-'0' <= 9 && d.i-from < maxFastDigits; d.i++ {
		n = n*10 + int64(d.b[d.i]-'0')
	}
	if d.i == from || d.b[from] == '0' && d.i > from+1 {
		d.giveUp()
	}
	return n
}

func (d *decoder) int() int {
	n := d.int64()
	if int64(int(n)) != n {
		d.giveUp()
	}
	return int(n)
}

func (d *decoder) uint64() uint64 {
	d.peek()
	return uint64(d.digits())
}

func (d *decoder) bool() bool {
	switch {
	case d.word("true"):
		return true
	case !d.word("false"):
		d.giveUp()
	}
	return false
}

// word takes a word, if it is the next one.
func (d *decoder) word(word string) bool {
	d.peek()
	if end := d.i + len(word); end <= len(d.b) && string(d.b[d.i:end]) == word {
		d.i = end
		return true
	}
	return false
}

func (d *decoder) list() []string {
	list := []string{}
	for ok := d.open('['); ok; ok = d.more(']') {
		list = append(list, d.text())
	}
	return list
}

func (d *decoder) texts(m *map[string]string) {
	if *m == nil {
		*m = map[string]string{}
	}
	for ok := d.open('{'); ok; ok = d.more('}') {
		name := d.memberName()
		(*m)[name] = d.text()
	}
}

func (d *decoder) numbers(m *map[string]int) {
	if *m == nil {
		*m = map[string]int{}
	}
	for ok := d.open('{'); ok; ok = d.more('}') {
		name := d.memberName()
		(*m)[name] = d.int()
	}
}

func (d *decoder) values(m *map[string]any) {
	if *m == nil {
		*m = map[string]any{}
	}
	d.object(*m, 0)
}

// memberName is a name that may have anything in it.
func (d *decoder) memberName() string {
	name := d.text()
	d.take(':')
	return name
}

func (d *decoder) object(m map[string]any, depth int) {
	for ok := d.open('{'); ok; ok = d.more('}') {
		name := d.memberName()
		m[name] = d.value(depth + 1)
	}
}

// value is anything, as encoding/json decodes it into an interface.
func (d *decoder) value(depth int) any {
	if depth > maxFastDepth {
		d.giveUp()
		return nil
	}
	switch c := d.peek(); c {
	case '"':
		return d.text()
	case '{':
		m := map[string]any{}
		d.object(m, depth)
		return m
	case '[':
		list := []any{}
		for ok := d.open('['); ok; ok = d.more(']') {
			list = append(list, d.value(depth+1))
		}
		return list
	case 'n':
		if !d.word("null") {
			d.giveUp()
		}
		return nil
	case 't', 'f':
		return d.bool()
	}
	n := numberLen(d.b[d.i:])
	f, err := strconv.ParseFloat(string(d.b[d.i:d.i+n]), 64)
	if err != nil { // it is none, or too large
		d.giveUp()
		return nil
	}
	d.i += n
	return f
}
