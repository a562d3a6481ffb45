package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

// checkEncoded checks that an entry is encoded as encoding/json does, or refused like it.
func checkEncoded(t *testing.T, name string, e *Entry) {
	t.Helper()
	want, wantErr := json.Marshal(e)
	got, err := e.AppendTo([]byte("before"))
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("%s: %v, want %v", name, err, wantErr)
	}
	if err != nil {
		// Where in a cycle it is found depends on how deep one looks before looking for one.
		if cause := errors.Unwrap(err); reflect.TypeOf(cause) != reflect.TypeOf(wantErr) || name != "a cycle" && cause.Error() != wantErr.Error() {
			t.Fatalf("%s: %v, want %v", name, err, wantErr)
		}
		return
	}
	if !bytes.Equal(got, append([]byte("before"), want...)) {
		t.Fatalf("%s is encoded as\n%s\nand encoding/json has\n%s", name, got, want)
	}
	if got, err = e.Encode(); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s is encoded as\n%s\n%v", name, got, err)
	}
}

// A field that is given to one of an entry's types is not forgotten here.
func TestEachFieldIsEncodedAndDecoded(t *testing.T) {
	n := 0
	sole(reflect.TypeFor[Entry](), "entry", func(name string, v reflect.Value) {
		n++
		e := v.Interface().(Entry)
		checkEncoded(t, name, &e)
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if decodeUsual(b) == nil {
			t.Errorf("%s is left to encoding/json: %s", name, b)
		}
		checkDecoded(t, b)
	})
	if n < 80 {
		t.Errorf("an entry has only %d fields", n)
	}
}

func TestAnyEntryIsEncodedAsEncodingJSONDoes(t *testing.T) {
	for seed := range uint64(1000) {
		f := newFiller(seed, "text")
		f.half = seed%10 != 0
		var e Entry
		f.fill(reflect.ValueOf(&e).Elem())
		checkEncoded(t, "an entry", &e)
	}
}

func TestWhatNoJSONCanHaveIsRefused(t *testing.T) {
	cycle := map[string]any{}
	cycle["in"] = []any{cycle}
	for name, value := range map[string]any{
		"NaN": math.NaN(), "infinity": []any{math.Inf(-1)}, "a channel": map[string]any{"x": make(chan int)}, "no number": json.Number("1.."), "a cycle": cycle,
	} {
		e := &Entry{ID: "its-id", Action: Action{Metadata: map[string]any{name: value}}}
		checkEncoded(t, name, e)
		if b, err := e.Encode(); err == nil || !strings.HasPrefix(err.Error(), "encoding entry its-id: json: ") {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
}

func TestWhatLiesDeepIsEncoded(t *testing.T) {
	for depth := range 3 * maxFastDepth {
		var value any = "<deep>"
		for range depth {
			value = map[string]any{"in": []any{value}}
		}
		e := &Entry{ID: "x", Action: Action{Metadata: map[string]any{"in": value}}}
		checkEncoded(t, "a deep one", e)
		b, _ := e.Encode()
		checkDecoded(t, b)
	}
}

// An entry is encoded for each call, and read for each store.
func TestEncodingAnEntryAllocatesNothing(t *testing.T) {
	e := usualEntry()
	e.Cut = map[string]int{"action.path": 4000, "actor.user_agent": 300}
	e.Action.Metadata = map[string]any{"request": map[string]any{"name": "hello-world", "verify_jwt": true, "size": 12.5, "tags": []any{"a", nil}}}
	room := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := e.AppendTo(room); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("AppendTo allocates %v times", n)
	}
}

func TestAStampIsEncodedAsEncodingJSONDoes(t *testing.T) {
	for seed := range uint64(500) {
		var s Stamp
		newFiller(seed, "text").fill(reflect.ValueOf(&s).Elem())
		b, err := json.Marshal(&s)
		if err != nil {
			t.Fatal(err)
		}
		want := `{"id":"x"}`
		if len(b) > len("{}") {
			want = `{"id":"x",` + string(b[1:])
		}
		if got, err := s.AppendTo([]byte(`{"id":"x"}`)); err != nil || string(got) != want {
			t.Fatalf("%s, %v, want %s", got, err, want)
		}
	}
}

func TestEachOddByteIsFoundAtEachPlace(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				s := []byte(strings.Repeat("x", length))
				s[at] = byte(c)
				want := at
				if c >= ' ' && c < 0x80 && !strings.ContainsRune(`"\<>&`, rune(c)) {
					want = length
				}
				if plain(s) != want || plain(string(s)) != want {
					t.Fatalf("%q: %d and %d, want %d", s, plain(s), plain(string(s)), want)
				}
				if at+1 < length {
					s[at+1] = 0xff // what is behind it does not matter
					if got := plain(s); got != min(want, at+1) {
						t.Fatalf("%q: %d", s, got)
					}
				}
			}
		}
	}
}

func FuzzEncode(f *testing.F) {
	for _, text := range oddTexts {
		f.Add(uint64(1), text, 1.5, "1.5")
	}
	for _, digits := range oddNumbers {
		f.Add(uint64(2), "text", 1e-7, digits)
	}
	f.Fuzz(func(t *testing.T, seed uint64, text string, number float64, digits string) {
		var e Entry
		fill := newFiller(seed, text)
		fill.half = seed%10 != 0
		fill.fill(reflect.ValueOf(&e).Elem())
		checkEncoded(t, "an entry", &e)
		e = Entry{ID: text, Action: Action{Params: map[string]string{text: digits, digits: text}, Metadata: map[string]any{text: number}}}
		checkEncoded(t, "a number", &e)
		e.Action.Metadata = map[string]any{"digits": json.Number(digits)}
		checkEncoded(t, "digits", &e)
	})
}

// BenchmarkEncode compares with encoding/json.
func BenchmarkEncode(b *testing.B) {
	e := usualEntry()
	b.Run("entry", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := e.Encode(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(e); err != nil {
				b.Fatal(err)
			}
		}
	})
}
