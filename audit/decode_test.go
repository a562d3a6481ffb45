package audit

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// decodedByReflection is what Decode is to be equal to.
func decodedByReflection(b []byte) (*Entry, error) {
	e := new(Entry)
	if err := json.Unmarshal(b, e); err != nil {
		return nil, err
	}
	if e.ID == "" {
		return nil, errNoID
	}
	return e, nil
}

// checkDecoded checks that a document is decoded as encoding/json does.
func checkDecoded(t *testing.T, doc []byte) {
	t.Helper()
	was := string(doc)
	want, wantErr := decodedByReflection(doc)
	got, err := Decode(doc)
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("%q: %v, want %v", was, err, wantErr)
	}
	if err != nil {
		if got != nil || !strings.Contains(err.Error(), wantErr.Error()) {
			t.Fatalf("%q: %+v, %v, want %v", was, got, err, wantErr)
		}
		return
	}
	if string(doc) != was {
		t.Fatalf("%q became %q", was, doc)
	}
	clear(doc) // it is the caller's
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q is decoded as\n%+v\nand encoding/json has\n%+v", was, got, want)
	}
	// DeepEqual does not tell zeros apart.
	if a, b := jsonOf(t, got), jsonOf(t, want); a != b {
		t.Fatalf("%q is decoded as\n%s\nand encoding/json has\n%s", was, a, b)
	}
}

func jsonOf(t *testing.T, e *Entry) string {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// member is a document with one member more.
func member(m string) string { return `{"id":"x",` + m + `}` }

// oddDocuments are what nobody writes, and what nearly is an entry.
var oddDocuments = []string{
	``, ` `, `null`, `true`, `"id"`, `[]`, `{}`, `{`, `}`, `{"`, `{"id`, `{"id"`, `{"id":`, `{"id":"`, `{"id":"x`, `{"id":"x"`, `{"id":"x",`, `{"id":"x",}`, `{,"id":"x"}`,
	`{"id":"x"}}`, `{"id":"x"} x`, `{"id":"x"}{}`, "\ufeff{\"id\":\"x\"}", "{\"id\":\"x\"}\x00", " \t\r\n{ \"id\" : \"x\" , \"revision\" : 1 } \n", "{\"id\":\"x\"\v}", "\x00", "{\x00",
	`{"id":null}`, `{"id":1}`, `{"id":["x"]}`, `{"id":{"id":"x"}}`, `{'id':'x'}`, `{"ID":"x"}`, `{"Id":"x","id":"y"}`, `{"id":"y","iD":"x"}`, `{"\u0069d":"x"}`, `{"id":"x","id":"y"}`,
	`{"id":"\u0078"}`, `{"id":"\ud83d\ude00"}`, `{"id":"\ud83d"}`, `{"id":"\ude00\ud83d"}`, `{"id":"\u00"}`, `{"id":"\u12g4"}`, `{"id":"\uABcd\u00e9"}`, `{"id":"\x"}`, `{"id":"\'"}`, `{"id":"\/\b\f\n\r\t\"\\"}`, `{"id":"x\`,
	"{\"id\":\"\xff\"}", "{\"id\":\"a\\n\xc3\"}", "{\"id\":\"a\nb\"}", "{\"id\":\"\x7f<>&\u2028é😀\"}", "{\"id\":\"\\n\x01\"}", "{\"\xff\":1,\"id\":\"x\"}",
	member(`"revision":01`), member(`"revision":-0`), member(`"revision":-`), member(`"revision":1.0`), member(`"revision":1e0`), member(`"revision":+1`), member(`"revision":"1"`), member(`"revision":null`),
	member(`"timestamp":9223372036854775807`), member(`"timestamp":9223372036854775808`), member(`"timestamp":-9223372036854775808`), member(`"timestamp":999999999999999999`), member(`"timestamp":00`), member(`"timestamp":1 2`),
	member(`"origin":{"instance":"i","sequence":18446744073709551615}`), member(`"origin":{"sequence":18446744073709551616}`), member(`"origin":{"sequence":-1}`), member(`"origin":{"sequence":-0}`), member(`"origin":null`), member(`"origin":{}`), member(`"origin":[]`),
	member(`"client_gone":true`), member(`"client_gone":truex`), member(`"client_gone":tru`), member(`"client_gone":null`), member(`"client_gone":1`), member(`"client_gone":false`), member(`"client_gone":"true"`),
	member(`"target":{"type":"a","id":"b"},"target":{"id":"c"}`), member(`"target":{"type":"a"},"target":null`), member(`"target":null,"target":{"id":"c"}`), member(`"target":{"type":"a"},"Target":{"id":"c"}`),
	member(`"action":{"code":"a","params":{"a":"b"}},"action":{"name":"c","params":{"d":"e","a":null}}`), member(`"action":{"params":{"a":"b"},"params":null}`), member(`"action":{"params":{}}`), member(`"action":{"params":{"a":1}}`),
	member(`"action":{"metadata":{"a":{"b":1}},"metadata":{"a":{"c":2},"d":-0}}`), member(`"action":{"metadata":{}}`), member(`"action":{"metadata":null}`), member(`"action":{"metadata":[]}`),
	member(`"action":{"metadata":{"a":[],"b":{},"c":[[]],"d":null,"e":[null,true,false,1.5e3,"\n"],"f":1e400}}`), member(`"action":{"metadata":{"a":[],"b":{},"c":[[]],"d":null,"e":[null,true,false,1.5e3,"\n"],"f":1e-400,"":-0.0}}`),
	member(`"action":{"metadata":{"a":[1,]}}`), member(`"action":{"metadata":{"a":[,1]}}`), member(`"action":{"metadata":{"a":[1 2]}}`), member(`"action":{"metadata":{"a":.5}}`), member(`"action":{"metadata":{"a":1.}}`), member(`"action":{"metadata":{"a":1e}}`), member(`"action":{"metadata":{"a":nul}}`), member(`"action":{"metadata":{"a":01}}`), member(`"action":{"metadata":{"a":-}}`),
	member(`"action":{"metadata":{"a":` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + `}}`), member(`"action":{"metadata":{"a":` + strings.Repeat(`{"a":`, 70) + `1` + strings.Repeat("}", 70) + `}}`),
	member(`"action":{"metadata":{"a":` + strings.Repeat("[", 9997) + strings.Repeat("]", 9997) + `}}`), member(`"action":{"metadata":{"a":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}}`), member(`"action":` + strings.Repeat("[", 20000)),
	member(`"actor":{"amr":[]}`), member(`"actor":{"amr":null}`), member(`"actor":{"amr":["a",null]}`), member(`"actor":{"amr":["a","b"],"amr":["c"]}`), member(`"actor":{"amr":["a","b"],"amr":[null]}`), member(`"actor":{"amr":["a"],"amr":[]}`), member(`"actor":{"amr":"a"}`), member(`"actor":{"amr":[1]}`),
	member(`"cut":{"a":1,"a":2}`), member(`"cut":{"a":1},"cut":{"b":2}`), member(`"cut":{"a":null}`), member(`"cut":{"\u0061":1,"é":2}`), member(`"cut":{"a":1.5}`), member(`"cut":{a:1}`), member(`"cut":{"a"1}`), member(`"cut":{"a":}`),
	member(`"new":{"of":["a","later",{"version":1}]},"revision":2`), member(`"new":[1,]`), member(`"policy":{"new":1,"rule":"r"}`), member(`"request_bytes":1,"request_bytes":null`), member(`"request_bytes":1,"request_bytes":2`),
	member(`"outcome":"Success"`), member(`"outcome":"suc\u0063ess"`), member(`"outcome":""`), member(`"":1`), member(`"retention":{"class":"c","hold":true},"retention":{"plan":"p"}`),
}

func TestOddDocumentsAreDecodedAsEncodingJSONDoes(t *testing.T) {
	for _, doc := range oddDocuments {
		checkDecoded(t, []byte(doc))
	}
}

func TestAnyEntryIsDecodedAsEncodingJSONDoes(t *testing.T) {
	for seed := range uint64(1000) {
		f := newFiller(seed, "text")
		f.half = seed%10 != 0
		var e Entry
		f.fill(reflect.ValueOf(&e).Elem())
		if b, err := e.Encode(); err == nil {
			checkDecoded(t, b)
		}
	}
}

// Each end of a document is no document, and each byte of it may be another one.
func TestADamagedEntryIsDecodedAsEncodingJSONDoes(t *testing.T) {
	e, _ := stampedEntry()
	e.Action.Metadata = map[string]any{"a": []any{1.5, "é\n", nil, true, map[string]any{}}}
	whole, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		checkDecoded(t, append([]byte(nil), whole[:i]...))
		for _, c := range []byte{'"', '\\', ',', ':', '{', ']', '0', ' ', 0, 0x80, whole[i] ^ 0x20} {
			doc := append([]byte(nil), whole...)
			doc[i] = c
			checkDecoded(t, doc)
		}
	}
}

// What the sidecar and its forwarder write needs no reflection.
func TestAnEntryOfOursIsDecodedInOnePass(t *testing.T) {
	golden, err := os.ReadFile("testdata/stamped_entry.json")
	if err != nil {
		t.Fatal(err)
	}
	e, s := stampedEntry()
	captured, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	stamped, err := s.AppendTo(append(captured[:len(captured)-1], `,"origin":{"instance":"i","sequence":7}}`...))
	if err != nil {
		t.Fatal(err)
	}
	usual, err := usualEntry().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range [][]byte{golden, stamped, usual, []byte(" " + string(usual) + "\n")} {
		if decodeUsual(doc) == nil {
			t.Errorf("it is left to encoding/json: %s", doc)
		}
		checkDecoded(t, doc)
	}
}

func FuzzDecode(f *testing.F) {
	for _, doc := range oddDocuments {
		if len(doc) < 4096 {
			f.Add([]byte(doc))
		}
	}
	for seed := range uint64(40) {
		var e Entry
		newFiller(seed, "text").fill(reflect.ValueOf(&e).Elem())
		if b, err := e.Encode(); err == nil {
			f.Add(b)
		}
	}
	usual, err := usualEntry().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(usual)
	f.Fuzz(func(t *testing.T, doc []byte) { checkDecoded(t, append([]byte(nil), doc...)) })
}

// BenchmarkDecode compares with encoding/json.
func BenchmarkDecode(b *testing.B) {
	doc, err := usualEntry().Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("entry", func(b *testing.B) {
		b.SetBytes(int64(len(doc)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Decode(doc); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.SetBytes(int64(len(doc)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodedByReflection(doc); err != nil {
				b.Fatal(err)
			}
		}
	})
}
