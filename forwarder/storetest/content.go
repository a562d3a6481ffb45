package storetest

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// contentCases are about what may be in an entry.
var contentCases = []testCase{
	{"an entry of 1 MiB arrives whole", func(s *subject) {
		big := entry(2, 1)
		big.Actor.UserAgent = strings.Repeat("0123456789abcdef", 1<<16)
		s.send([]forwarder.Record{record(s, entry(1, 1), 1), record(s, big, 2), record(s, entry(3, 1), 3)})
		s.check()
	}},
	{"every character arrives as it was written", func(s *subject) {
		var batch []forwarder.Record
		for i, text := range hostileTexts() {
			e := entry(i+1, 1)
			e.OrganizationSlug, e.ProjectRef, e.Actor.UserAgent, e.Actor.UserID = text, text, text, text
			e.Actor.SessionID, e.Actor.TokenHash, e.Actor.IP, e.Action.Path = text, text, text, text
			e.Action.Metadata = map[string]any{text: text}
			batch = append(batch, record(s, e, i+1))
		}
		s.write(batch)
		s.write(batch)
		s.check()
	}},
	{"JSON arrives as it was encoded", func(s *subject) {
		var batch []forwarder.Record
		for i, value := range hostileJSON {
			n := i + 1
			batch = append(batch, payload(s, instance, n, fmt.Appendf(nil, `{"not_known_yet":%s,"id":%q,"revision":1,"timestamp":%d, `+
				`"action":{"metadata":{"value":%s}},"actor":{"token_type":"none","verification":"none"},"outcome":"success",`+
				`"policy":{"rule":"default","level":"metadata","durability":"strict"},"schema_version":1}`,
				value, id(n), epoch+n*1000, value)))
		}
		s.write(batch)
		s.check()
	}},
	{"an entry with nothing known and one with everything arrive", func(s *subject) {
		full := new(audit.Entry)
		fill(reflect.ValueOf(full).Elem())
		full.ID, full.Revision, full.Timestamp = id(2), audit.RevisionAnswer, epoch+2000
		s.write(append(bare(s, 1, 1), record(s, full, 2)))
		s.check()
	}},
}

// hostileTexts are texts that somebody's parser, driver or column cannot hold.
func hostileTexts() []string {
	var planes strings.Builder
	for plane := rune(0); plane <= 16; plane++ {
		for _, r := range []rune{0x41, 0xFFFD, 0xFFFE, 0xFFFF} {
			planes.WriteRune(plane<<16 | r)
		}
	}
	var controls strings.Builder
	for r := range rune(0x20) {
		controls.WriteRune(r)
	}
	return []string{
		"", " ", "\x00", "a\x00b", controls.String(), "\x7f\u0080\u009f", planes.String(),
		"\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627", // right to left
		"\u202eabc\u202c\u2066x\u2069\ufeff", "\u2028\u2029\n\r\n\t",
		"\u00e9", "e\u0301", strings.Repeat("o\u0308\u0323", 100), // alike, but not the same
		"\U0001f468\u200d\U0001f469\u200d\U0001f467", "\uac00\u1100\u1161", "\u01c4\u0130\u00df\ufb03",
		`"`, `\`, `\\"\u0000`, `'; DROP TABLE entry; --`, "%_", "$1", "?1", ":x", "{}", "{env.HOME}", "NULL", "\\N", "\\.", "0", "1e3", "true",
		"<script>&amp;", "=1+1", "a,b;c\td", strings.Repeat("x", 70_000),
	}
}

// hostileJSON are values that are lost when somebody decodes and encodes them again.
var hostileJSON = []string{
	`"\u0000"`, `"\ud800"`, `"\udfff\ud800"`, `"\ud83d\ude00"`, `"\/\u002f\u00e9"`, `"\u2028"`,
	`123456789012345678901234567890`, `0.1234567890123456789012345678901234567890`, `-0`, `-0.0`, `1E+2`, `1e300`, `9007199254740993`, `18446744073709551616`,
	`{"b":1,"a":2}`, `{"a":1,"a":2}`, `{"":{"":""}}`, `[]`, `{}`, `[ 1 ,  2 ]`, `null`, `true`,
	strings.Repeat("[", 100) + strings.Repeat("]", 100),
	strings.Repeat(`{"a":`, 100) + `""` + strings.Repeat("}", 100),
}

// fill sets every field of a struct, so that a field which is added later is there.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(42)
	case reflect.Uint64:
		v.SetUint(42)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i))
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Interface:
		v.Set(reflect.ValueOf("text"))
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field)
		}
	default:
		panic("filling an entry: no value for " + v.Type().String())
	}
}
