package audit

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
)

// usualEntry is a call as most are, with its stamp and origin: about 1.7 kB.
func usualEntry() *Entry {
	requested, answered := int64(512), int64(1843)
	return &Entry{
		ID: "0198c0de-0000-7000-8000-000000000001", Revision: RevisionAnswer, RequestID: "0198c0de-0000-7000-8000-00000000aaaa",
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", Timestamp: 1767225600123456, RecordedAt: 1767225600186912, DurationUS: 63456,
		OrganizationID: "b2f7c1a0-5d3e-4a11-9c00-000000000001", OrganizationSlug: "acme", ProjectRef: "abcdefghijklmnopqrst",
		Action: Action{
			Code: "v1-update-a-function", Name: "Update a function", Method: "PATCH", Route: "/v1/projects/{ref}/functions/{function_slug}",
			Path: "/v1/projects/abcdefghijklmnopqrst/functions/hello-world", Host: "api.example.com", Status: 200, StatusSource: StatusWritten,
			Params: map[string]string{"ref": "abcdefghijklmnopqrst", "function_slug": "hello-world"},
		},
		Actor: Actor{
			TokenType: TokenJWT, TokenHash: strings.Repeat("0a1b2c3d", 8), Verification: VerificationSignature, Kind: ActorPerson,
			UserID: "5f0e7c11-8a2b-4c3d-a000-000000000001", Email: "ada@acme.example", IP: "203.0.113.17", IPSource: IPForwarded, PeerIP: "10.0.0.7",
			SessionID: "c0ffee00-0000-4000-8000-000000000001", AAL: "aal1", AMR: []string{"password"}, JWTRole: "authenticated",
			JWTIssuer: "https://auth.example.com", JWTSubject: "5f0e7c11-8a2b-4c3d-a000-000000000001",
			UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
		},
		Target: &Target{Type: "edge_function", ID: "hello-world", Parent: "abcdefghijklmnopqrst"}, Outcome: OutcomeSuccess,
		RequestBytes: &requested, ResponseBytes: &answered,
		Policy:     Policy{Rule: "default", Level: LevelMetadata, Durability: DurabilityStrict, ConfigHash: "5b1c0de5a3f1e9aa"},
		Membership: MembershipProven, Retention: &Retention{Class: ClassDefault, KeepUntil: 1801785600123456, Plan: "team"},
		Origin: &Origin{Instance: "0198c0de-0000-7000-8000-000000000003", Sequence: 1234567}, SchemaVersion: SchemaVersion,
	}
}

// oddTexts are what is not written as it is, or nearly so.
var oddTexts = []string{
	"", "plain", "<a href=\"x\">&amp;</a>", "\x00\x01\x1f\x7f", "\b\f\n\r\t\\\"/'", "\u2027\u2028\u2029\u202a", "\xff\xfe", "a\xc3", "\xed\xa0\x80",
	"\ufffd", "café", "日本語", "😀\U0010ffff", "1234567&", "12345678>90", strings.Repeat("x", 300) + "é<",
}

// oddNumbers are digits as a client can send them, or nearly so.
var oddNumbers = []string{"", "0", "-0", "1.50", "-12e+3", "1E5", "9007199254740993", "01", "1.", ".5", "-", "1e", "1e+", "+1", "1x", "NaN", strings.Repeat("9", 400)}

// filler fills in values at random. The same seed gives the same ones.
type filler struct {
	*rand.Rand
	// text is put between the odd ones.
	text string
	// half of what can be left out is left out, if that is set.
	half bool
}

func newFiller(seed uint64, text string) *filler {
	return &filler{Rand: rand.New(rand.NewPCG(seed, 1)), text: text, half: true}
}

func (f *filler) string() string {
	a, b := oddTexts[f.IntN(len(oddTexts))], oddTexts[f.IntN(len(oddTexts))]
	return []string{a, a + f.text, f.text + b, a + f.text + b}[f.IntN(4)]
}

func (f *filler) int() int64 { return int64(f.Uint64()) >> f.IntN(64) }

func (f *filler) fill(v reflect.Value) {
	if f.half && v.Kind() != reflect.Struct && f.IntN(2) == 0 {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			f.fill(field)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), f.IntN(4), 4))
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range f.IntN(12) {
			value := reflect.New(v.Type().Elem()).Elem()
			f.fill(value)
			v.SetMapIndex(reflect.ValueOf(f.string()), value)
		}
	case reflect.Interface:
		if value := f.value(0); value != nil {
			v.Set(reflect.ValueOf(value))
		}
	case reflect.String:
		v.SetString(f.string())
	case reflect.Int, reflect.Int64:
		v.SetInt(f.int())
	case reflect.Uint64:
		v.SetUint(f.Uint64() >> f.IntN(64))
	case reflect.Bool:
		v.SetBool(true)
	default:
		panic("an entry has a " + v.Kind().String() + ": encode and decode it, and fill it in here")
	}
}

// value is what metadata can hold, and a little of what it cannot.
func (f *filler) value(depth int) any {
	n := 17
	if depth > 3 {
		n = 13
	}
	switch f.IntN(n) {
	case 0:
		return nil
	case 1:
		return f.IntN(2) == 0
	case 2:
		return int(f.int())
	case 3:
		return f.int()
	case 4:
		return f.Uint64()
	case 5:
		return math.Float64frombits(f.Uint64())
	case 6:
		return float64(f.int()) / math.Pow10(f.IntN(30))
	case 7:
		return json.Number(oddNumbers[f.IntN(len(oddNumbers))])
	case 8:
		return []any{[]string(nil), []any(nil), map[string]any(nil), []string{}, []any{}, map[string]any{}, (*int)(nil), math.Copysign(0, -1)}[f.IntN(8)]
	case 9:
		return []string{f.string(), f.string()}
	case 10:
		return map[string]int64{f.string(): f.int(), f.string(): f.int()}
	case 11:
		return struct {
			A string `json:"a"`
			B any    `json:"b,omitempty"`
		}{f.string(), f.int()}
	case 13, 14:
		list := make([]any, f.IntN(5))
		for i := range list {
			list[i] = f.value(depth + 1)
		}
		return list
	case 15, 16:
		m := map[string]any{}
		for range f.IntN(12) {
			m[f.string()] = f.value(depth + 1)
		}
		return m
	}
	return f.string()
}

// sole calls do with each value of a type that has one leaf alone, by name.
func sole(t reflect.Type, name string, do func(name string, v reflect.Value)) {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			sole(t.Field(i).Type, name+"."+t.Field(i).Name, func(name string, field reflect.Value) {
				v := reflect.New(t).Elem()
				v.Field(i).Set(field)
				do(name, v)
			})
		}
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Struct {
			do(name, reflect.New(t.Elem())) // of which nothing is set
		}
		sole(t.Elem(), name, func(name string, at reflect.Value) {
			v := reflect.New(t.Elem())
			v.Elem().Set(at)
			do(name, v)
		})
	default:
		v, f := reflect.New(t).Elem(), newFiller(3, "x")
		for f.half = false; v.IsZero() || (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.Len() == 0; {
			f.fill(v)
		}
		if v.Kind() == reflect.Map && t.Elem().Kind() == reflect.Interface {
			v.Set(reflect.ValueOf(map[string]any{"name": []any{"text", 1.5, true, nil, map[string]any{"x": -3e-9}}}))
		}
		do(name, v)
	}
}
