package audit

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-audit-log/caddy-audit-log/internal/planted"
)

// fuzzTokens stand in an input where it says TOKEN. They are credentials
// whatever stands around them.
var fuzzTokens = []string{
	"ghp_" + planted.Random("fuzz", 36, planted.Alnum), "sbp_" + planted.Random("fuzz2", 40, hexDigits), "sk_live_" + planted.Random("fuzz3", 24, planted.Alnum),
	"xoxb-" + planted.Random("fuzz4", 40, planted.Digits), "github_pat_" + planted.Random("fuzz5", 60, planted.Alnum),
}

func plant(s string, kind uint8) (text, token string) {
	token = fuzzTokens[int(kind)%len(fuzzTokens)]
	return strings.ReplaceAll(s, "TOKEN", token), token
}

func FuzzBody(f *testing.F) {
	for _, seed := range []struct{ kind, encoding, body string }{
		{"application/json", "", `{"a":{"b":["TOKEN",1.5e3,null,true,{"TOKEN":"x"}],"password":{}},"name":"\u00e9\ud800"}`},
		{"application/json", "", `[{"name":"TOKEN","value":"TOKEN"},[],[[[]]]]`},
		{"application/json", "", `{"a":1,"a":2,"A":"TOKEN`},
		{"application/x-www-form-urlencoded", "", "a=TOKEN&name=%54OKEN&a=x+TOKEN"},
		{"multipart/form-data; boundary=B", "", "--B\r\nContent-Disposition: form-data; name=\"a\"; filename=\"TOKEN\"\r\n\r\nTOKEN\r\n--B--\r\n"},
		{"text/plain", "gzip", "TOKEN"},
		{"application/json", "gzip", string(compress("gzip", []byte(`{"a":"x"}`)))},
		{"application/json", "zstd", string(compress("zstd", []byte(`{"a":"x"}`)))},
		{"application/json", "br, deflate", string(compress("deflate", compress("br", []byte(`{"a":"x"}`))))},
		{"application/json", "", `{"a":"{\"x\":\"{\\\"y\\\":\\\"TOKEN\\\"}\"}"}`},
	} {
		f.Add(seed.kind, seed.encoding, seed.body, uint16(0), true, uint8(0))
		f.Add(seed.kind, seed.encoding, seed.body, uint16(30), false, uint8(1))
	}
	s, err := NewSelection(Supabase(), Capture{Body: []string{"a", "name", "*.name", "a.b.*.c:sql", "*"}, Query: []string{"a"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, contentType, encoding, body string, limit uint16, complete bool, kind uint8) {
		body, token := plant(body, kind)
		b := s.NewBody(contentType, encoding, false, int(limit))
		b.Write([]byte(body[:len(body)/2]))
		b.Write([]byte(body[len(body)/2:]))
		checkCaptured(t, b.Captured(complete), token)
		checkCaptured(t, b.Cut(), token)
		checkCaptured(t, s.Query(body), token)
		checkCaptured(t, s.Query("a="+url.QueryEscape(body)), token)
	})
}

func checkCaptured(t *testing.T, captured any, token string) {
	t.Helper()
	out, err := json.Marshal(captured)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) > maxCaptured+512 {
		t.Fatalf("%d bytes", len(out))
	}
	if piece := planted.Leaked(string(out), token); piece != "" {
		t.Fatalf("%q is in %s", piece, out)
	}
	var again any
	if err := json.Unmarshal(out, &again); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func FuzzMask(f *testing.F) {
	for _, p := range append(planted.Shapes(), planted.Pairs()...) {
		f.Add(p.Text+" TOKEN", uint8(0))
	}
	f.Add(`{"a":"TOKEN"}`, uint8(1))
	f.Add("%54TOKEN&amp;TOKEN\\nTOKEN", uint8(2))
	m := masker{p: Supabase()}
	f.Fuzz(func(t *testing.T, s string, kind uint8) {
		s, token := plant(s, kind)
		for _, limit := range []int{maxText, 40} {
			got, n := m.text(s, limit)
			if len(got) > limit || !utf8.ValidString(got) || n != 0 && n != len(s) || n == 0 && len(s) > limit {
				t.Fatalf("%q gives %q, cut %d", s, got, n)
			}
			if piece := planted.Leaked(got, token); piece != "" {
				t.Fatalf("%q is in %q", piece, got)
			}
		}
	})
}

func FuzzSQL(f *testing.F) {
	for i, query := range []string{
		"select * from t where x = ", "insert into t(a,b) values (1, ", "copy t from stdin; ", "alter role r password ",
		"select a.b->>", "é ", "select -1e", "f(x::int, ",
	} {
		f.Add(query, ", 'b' -- c\n", uint8(i))
	}
	const secret = "correct horse battery"
	literals := []string{
		"'" + secret + "'", "'a''" + secret + "'", " E'a\\'" + secret + "'", " $$" + secret + "$$", " $t$ $$ " + secret + " $t$",
		"-- " + secret + "\n", "/* /* */ " + secret + "*/", "'" + secret, " N'" + secret + "'", `'\` + secret + `'`,
	}
	// What may open a literal, a comment or a name before ours would change
	// what ours is.
	opens := strings.NewReplacer("'", "", `"`, "", "`", "", "$", "", `\`, "", "-", "", "/", "", "*", "", "\x00", "")
	f.Fuzz(func(t *testing.T, before, after string, kind uint8) {
		before, token := plant(before, kind)
		query := opens.Replace(before) + " " + literals[int(kind)%len(literals)] + after
		got := MaskSQL(query)
		if len(got) > maxLong || !utf8.ValidString(got) {
			t.Fatalf("%q gives %q", query, got)
		}
		if piece := planted.Leaked(got, secret); piece != "" && !strings.Contains(before+after, piece) {
			t.Fatalf("%q is in %q", piece, got)
		}
		if piece := planted.Leaked(MaskSQL(before+after), token); piece != "" {
			t.Fatalf("%q is in %q", piece, got)
		}
	})
}
