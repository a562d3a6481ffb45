package audit

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func selection(t testing.TB, c Capture) *Selection {
	t.Helper()
	s, err := NewSelection(Supabase(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// capturedJSON is what an entry gets of a body.
func capturedJSON(t testing.TB, s *Selection, contentType, body string, limit int, complete bool) string {
	t.Helper()
	b := s.NewBody(contentType, "", false, limit)
	for part := range strings.SplitAfterSeq(body, " ") { // it comes in pieces
		if n, err := b.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("Write gave %d, %v", n, err)
		}
	}
	return encoded(t, b.Captured(complete))
}

func encoded(t testing.TB, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestCaptureOfJSON(t *testing.T) {
	const deep = 100_000
	for _, tt := range []struct {
		name  string
		paths string
		body  string
		want  string
	}{
		{"names", "name region", `{"name":"x","region":"eu","db_pass":"hunter2"}`, `{"name":"x","region":"eu"}`},
		{"types", "a b c d e", `{"a":1.50,"b":true,"c":null,"d":"","e":9007199254740993}`, `{"a":1.50,"b":true,"c":null,"d":"","e":9007199254740993}`},
		{"nested shape", "a.b.c", `{"a":{"b":{"c":1,"d":2},"e":3}}`, `{"a":{"b":{"c":1}}}`},
		{"each element", "roles.*.name", `{"roles":[{"name":"a","x":1},{"name":"b"},3]}`, `{"roles":[{"name":"a"},{"name":"b"}]}`},
		{"a list at the root", "*.name", `[{"name":"A","value":"v"},{"name":"B"}]`, `[{"name":"A"},{"name":"B"}]`},
		{"whole", "a", `{"a":{"x":[1,{"y":{}}],"z":[]}}`, `{"a":{"x":[1,{"y":{}}],"z":[]}}`},
		{"dotted name", `a\.b`, `{"a.b":1,"a":{"b":2}}`, `{"a.b":1}`},
		{"star and colon as names", `\* x\:sql`, `{"*":1,"x:sql":2}`, `{"*":1,"x:sql":2}`},
		{"nothing there", "name", `{"other":1}`, `null`},
		{"another shape than the path's", "a.b", `{"a":[1]}`, `null`},
		{"empty", "name", ``, `null`},
		{"blank", "name", ` `, `null`},
		{"byte order mark", "name", "\uFEFF" + `{"name":1}`, `{"name":1}`},
		{"another spelling", "role", `{"Role":"owner"}`, `{"Role":"owner"}`},
		{"escaped name", "name", `{"n\u0061me":1}`, `{"name":1}`},
		{"unpaired surrogate", "name", `{"name":"\ud800x"}`, `{"name":"` + "\uFFFD" + `x"}`},
		{"invalid UTF-8", "name", "{\"name\":\"a\xffb\"}", `{"name":"a` + "\uFFFD" + `b"}`},
		{"trailing data", "name", `{"name":1} {"name":2}`, `{"_capture":["malformed"]}`},
		{"lines of JSON", "name", "{\"name\":1}\n{\"name\":2}\n", `{"_capture":["malformed"]}`},
		{"malformed behind", "name", `{"name":1,"x":tru}`, `{"_capture":["malformed"]}`},
		{"unclosed", "name", `{"name":1`, `{"_capture":["malformed"]}`},
		{"comma at the end", "name", `{"name":1,}`, `{"_capture":["malformed"]}`},
		{"leading zero", "name", `{"name":01}`, `{"_capture":["malformed"]}`},
		{"bad escape", "name", `{"name":"\q"}`, `{"_capture":["malformed"]}`},
		{"control character", "name", "{\"name\":\"a\nb\"}", `{"_capture":["malformed"]}`},
		{"duplicate", "name", `{"name":1,"name":2}`, `{"_capture":["duplicate_name"]}`},
		{"duplicate by escape", "name", `{"name":1,"n\u0061me":2}`, `{"_capture":["duplicate_name"]}`},
		{"duplicate by case", "role", `{"role":"viewer","Role":"owner"}`, `{"_capture":["duplicate_name"]}`},
		{"duplicate of another name", "role", `{"x":1,"x":2,"role":1}`, `{"_capture":["duplicate_name"]}`},
		{"duplicate within", "a.b c", `{"a":{"b":1,"b":2},"c":3}`, `{"_capture":["duplicate_name"],"c":3}`},
		{"duplicate of a parent", "a.b", `{"a":{"b":1},"a":{"b":2}}`, `{"_capture":["duplicate_name"]}`},
		{"duplicate elsewhere", "c", `{"a":{"b":1,"b":2},"c":3}`, `{"c":3}`},
		{"huge number", "a b", `{"a":1e999999,"b":` + strings.Repeat("9", 1000) + `}`, `{"_capture":["too_large"]}`},
		{"a deep neighbour", "name", `{"x":` + strings.Repeat("[", deep) + strings.Repeat("]", deep) + `,"name":1}`, `{"name":1}`},
		{"too deep", "name", `{"name":` + strings.Repeat(`{"a":`, 50) + "1" + strings.Repeat("}", 50) + `}`, `TOO_DEEP`},
		{"secret by name", "a", `{"a":{"password":{"x":[1]},"n":1,"token":null}}`, `{"a":{"n":1,"password":"[redacted]","token":"[redacted]"}}`},
		{"whether", "verify_jwt max_tokens", `{"verify_jwt":true,"max_tokens":400}`, `{"max_tokens":400,"verify_jwt":true}`},
		{"not whether", "verify_jwt max_tokens", `{"verify_jwt":"abc","max_tokens":"hunter2"}`, `{"max_tokens":"[redacted]","verify_jwt":"[redacted]"}`},
		{"secret by label", "a", `{"a":[{"name":"DB_PASSWORD","value":{"x":1}},{"Value":"v","Key":"REGION"},{"v":1,"k":"API_KEY"},{"value":1}]}`, `{"a":[{"name":"DB_PASSWORD","value":"[redacted]"},{"Key":"REGION","Value":"v"},{"k":"API_KEY","v":"[redacted]"},{"value":1}]}`},
		{"card as a number", "n", `{"n":4111111111111111}`, `{"n":"[redacted]"}`},
		{"statement", "q:sql q2", `{"q":"select 'a' where id = 5","q2":"select 1"}`, `{"q":"select ? where id = ?","q2":"select 1"}`},
	} {
		s := selection(t, Capture{Body: strings.Fields(tt.paths)})
		got := capturedJSON(t, s, "application/json; charset=utf-8", tt.body, 1<<20, true)
		if tt.want == "TOO_DEEP" {
			if !strings.Contains(got, wordTooDeep) {
				t.Errorf("%s: %s does not say too_deep", tt.name, got)
			}
			continue
		}
		if got != tt.want {
			t.Errorf("%s: %s\n got %s\nwant %s", tt.name, clip(tt.body, 200), got, tt.want)
		}
	}
}

// A body that is cut anywhere gives no value that the whole body does not have.
func TestACutNeverYieldsAWrongValue(t *testing.T) {
	const body = `{"a":-12.5e+10,"list":["one","t\u0077o",{"c":true,"d":false}],"n":null,"name":"x y","o":{"p":{"q":"r"}},"z":1234567}`
	s := selection(t, Capture{Body: []string{"a", "list", "n", "name", "o.p", "z"}})
	whole := map[string]any{}
	if err := json.Unmarshal([]byte(capturedJSON(t, s, "application/json", body, 0, true)), &whole); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < len(body); n++ {
		for _, complete := range []bool{true, false} {
			text := capturedJSON(t, s, "application/json", body, n, complete)
			if !complete {
				text = capturedJSON(t, s, "application/json", body[:n], 0, false)
			}
			got := map[string]any{}
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got[wordsMember]) != "[truncated]" {
				t.Errorf("cut at %d: %s", n, text)
			}
			delete(got, wordsMember)
			if !within(got, whole) {
				t.Errorf("cut at %d gives %s", n, text)
			}
		}
	}
}

// within reports whether a holds nothing that b does not have at that place.
func within(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		for name := range a {
			ok = ok && within(a[name], b[name])
		}
		return ok
	case []any:
		b, ok := b.([]any)
		for i := range a {
			ok = ok && i < len(b) && within(a[i], b[i])
		}
		return ok
	}
	return a == b
}

func TestWhatIsCapturedIsBounded(t *testing.T) {
	s := selection(t, Capture{Body: []string{"a"}})
	list := strings.TrimSuffix(strings.Repeat("1,", 150), ",")
	long := strings.Repeat("é", 200)
	members := make(map[string]int)
	for i := range 150 {
		members[fmt.Sprint("m", i)] = i
	}
	controls := strings.Repeat(`"\u0001\u0001\u0001\u0001\u0001\u0001\u0001\u0001\u0001\u0001\u0001\u0001\u0001\u0001\u0001\u0001",`, 99)
	for _, tt := range []struct {
		name, value, word string
	}{
		{"a long list", "[" + list + "]", wordTooLarge},
		{"a long string", `"` + long + `"`, wordShortened},
		{"many members", encoded(t, members), wordTooLarge},
		{"much text", "[" + strings.Repeat(`"`+strings.Repeat("word ", 40)+`",`, 60) + "1]", wordTooLarge},
		{"escapes", "[" + controls + "1]", wordTooLarge},
		{"many objects", "[" + strings.Repeat("[[[[[{}]]]]],", 90) + "1]", ""},
	} {
		b := s.NewBody("application/json", "", false, 1<<20)
		b.Write([]byte(`{"a":` + tt.value + `}`))
		out := encoded(t, b.Captured(true))
		if len(out) > maxCaptured+200 {
			t.Errorf("%s: %d bytes", tt.name, len(out))
		}
		if tt.word != "" && !strings.Contains(out, tt.word) {
			t.Errorf("%s: %s is not said in %s", tt.name, tt.word, out)
		}
		if tt.name == "a long string" {
			if diff := cmp.Diff(map[string]int{"a": 400}, b.Cut()); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestNewSelectionSaysWhichPathAndWhatToDo(t *testing.T) {
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprint("p", i)
	}
	for _, tt := range []struct {
		capture Capture
		want    []string
	}{
		{Capture{Body: []string{""}}, []string{`body ""`, "single dots"}},
		{Capture{Body: []string{"a..b"}}, []string{`body "a..b"`, "single dots"}},
		{Capture{Response: []string{"a."}}, []string{`response "a."`}},
		{Capture{Body: []string{"a.b.c.d.e.f.g.h.i"}}, []string{"9 names", "name the object"}},
		{Capture{Body: []string{"a*"}}, []string{`"a*"`, `\*`}},
		{Capture{Body: []string{`a\b`}}, []string{`\\`}},
		{Capture{Body: []string{"_capture"}}, []string{"drop it"}},
		{Capture{Query: []string{"_capture"}}, []string{"drop it"}},
		{Capture{Body: []string{strings.Repeat("x", 200)}}, []string{"at most 128"}},
		{Capture{Body: many}, []string{"65 names of the body", "drop some"}},
		{Capture{Query: many}, []string{"65 names of the query"}},
		{Capture{Query: []string{""}}, []string{"query"}},
		{Capture{Header: []string{"authorization"}}, []string{"header Authorization", "drop it"}},
		{Capture{Header: []string{"COOKIE"}}, []string{"header Cookie"}},
		{Capture{Header: []string{"set-cookie"}}, []string{"header Set-Cookie"}},
		{Capture{Header: []string{"proxy-authorization"}}, []string{"header Proxy-Authorization"}},
		{Capture{Header: []string{"apikey"}}, []string{"header Apikey"}},
		{Capture{Header: []string{"x-api-key"}}, []string{"header X-Api-Key"}},
		{Capture{Header: []string{"X-Auth-Token"}}, []string{"header X-Auth-Token"}},
	} {
		_, err := NewSelection(nil, tt.capture)
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %v does not say %q", tt.capture, err, want)
			}
		}
	}
	if _, err := NewSelection(nil, Capture{Body: many[:64]}, Capture{Body: []string{"x"}}); err != nil {
		t.Errorf("a site's own list is counted with the platform's: %v", err)
	}
	s := selection(t, Capture{Header: []string{"x-session-of-site"}, Query: []string{"k"}})
	for _, place := range []Place{{Kind: PlaceHeader, Name: "X-Session-Of-Site"}, {Kind: PlaceQuery, Name: "k"}} {
		if err := s.Check(place); err == nil || !strings.Contains(err.Error(), place.Name) {
			t.Errorf("%v: %v", place, err)
		}
	}
	if err := s.Check(Place{Kind: PlaceCookie, Name: "k"}, Place{Kind: PlaceQuery, Name: "x"}); err != nil {
		t.Error(err)
	}
}

func TestSelectionsAreJoined(t *testing.T) {
	s, err := NewSelection(nil, Capture{Body: []string{"a"}, Query: []string{"q"}}, Capture{Body: []string{"b", "a.c:sql"}, Header: []string{"x-a"}})
	if err != nil {
		t.Fatal(err)
	}
	if !s.Body() || s.Response() {
		t.Errorf("Body %v, Response %v", s.Body(), s.Response())
	}
	got := capturedJSON(t, s, "application/vnd.api+json", `{"a":{"c":"select 1","d":"select 1"},"b":2,"e":3}`, 0, true)
	if want := `{"a":{"c":"select ?","d":"select 1"},"b":2}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var none *Selection
	if none.Body() || none.Response() || none.Query("a=1") != nil || none.NewBody("application/json", "", false, 0) != nil || none.Header(nil) != nil {
		t.Error("no selection selects something")
	}
	if empty, err := NewSelection(nil); err != nil || empty.Body() || empty.NewBody("application/json", "", true, 0) != nil {
		t.Error("an empty selection selects something")
	}
}

func TestQueryAndHeader(t *testing.T) {
	s := selection(t, Capture{Query: []string{"slug", "verify_jwt", "reveal", "apikey", "a b", "sql:sql"}, Header: []string{"x-region", "X-Many"}})
	for raw, want := range map[string]string{
		"":                                   `null`,
		"other=1":                            `null`,
		"slug=a%20b&other=1":                 `{"slug":"a b"}`,
		"slug=a&slug=b":                      `{"slug":["a","b"]}`,
		"%73lug=a":                           `{"slug":"a"}`,
		"a+b=1":                              `{"a b":"1"}`,
		"slug=%zz":                           `{"_capture":["malformed"],"slug":"%zz"}`,
		"apikey=x&verify_jwt=true":           `{"apikey":"[redacted]","verify_jwt":"true"}`,
		"slug=a;token=hunter2":               `{"slug":"a;token=[redacted]"}`,
		"slug":                               `{"slug":""}`,
		strings.Repeat("slug=a&", 9) + "x=1": `{"_capture":["too_large"],"slug":["a","a","a","a","a","a","a","a"]}`,
		"SLUG=a":                             `null`,
		"sql=select+%27a%27":                 `{"sql":"select ?"}`,
	} {
		if got := encoded(t, s.Query(raw)); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
	headers := map[string][]string{"X-Region": {"eu"}, "X-Many": {"a", "Bearer abcdef123456"}, "Authorization": {"x"}}
	got := encoded(t, s.Header(func(name string) []string { return headers[name] }))
	if want := `{"X-Many":["a","Bearer [redacted]"],"X-Region":"eu"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOtherBodies(t *testing.T) {
	s := selection(t, Capture{Body: []string{"grant_type", "client_secret", "scope", "metadata.name", "note"}})
	multi := func(parts ...string) string {
		return "--B\r\n" + strings.Join(parts, "\r\n--B\r\n") + "\r\n--B--\r\n"
	}
	const disposition = "Content-Disposition: form-data; "
	for _, tt := range []struct {
		name, contentType, body string
		limit                   int
		want                    string
	}{
		{"form", "application/x-www-form-urlencoded", "grant_type=refresh&client_secret=hunter2&code=x", 0, `{"client_secret":"[redacted]","grant_type":"refresh"}`},
		{"form, repeated", "application/x-www-form-urlencoded", "scope=a&scope=b", 0, `{"scope":["a","b"]}`},
		{"form, cut", "application/x-www-form-urlencoded", "scope=a&grant_type=refresh", 20, `{"_capture":["truncated"],"scope":"a"}`},
		{"form with JSON", "application/x-www-form-urlencoded", "metadata=" + url.QueryEscape(`{"name":"f","x":1}`), 0, `{"metadata":{"name":"f"}}`},
		{"text that could be guessed", "text/plain", "hello", 0, `{"_capture":["not_json"],"size":5}`},
		{"text", "text/plain", strings.Repeat("hello", 60), 0, `{"_capture":["not_json"],"sha256":"29318b3624ca9cf77b72f8e5769068d02aa05dff05fdeea105234943e478e0cf","size":300}`},
		{"text beyond the limit", "", strings.Repeat("hello", 60), 2, `{"_capture":["not_json"],"sha256":"29318b3624ca9cf77b72f8e5769068d02aa05dff05fdeea105234943e478e0cf","size":300}`},
		{"JSON by another name", "text/plain", `{"scope":1,"x":2}`, 0, `{"scope":1}`},
		{
			"multipart", "multipart/form-data; boundary=B",
			multi(disposition+"name=\"file\"; filename=\"a/index.ts\"\r\n\r\ncode", disposition+"name=\"metadata\"\r\n\r\n{\"name\":\"f\",\"x\":1}", disposition+"name=\"other\"\r\n\r\nsecret"), 0,
			`{"fields":[{"file":"index.ts","name":"file"},{"name":"metadata","value":{"name":"f"}},{"name":"other"}]}`,
		},
		{
			"multipart, secret and binary", "multipart/form-data; boundary=B",
			multi(disposition+"name=\"client_secret\"\r\n\r\nhunter2", disposition+"name=\"note\"\r\n\r\n\xff\x00"), 0,
			`{"_capture":["encoding"],"fields":[{"name":"client_secret","value":"[redacted]"},{"name":"note"}]}`,
		},
		{"multipart, cut", "multipart/form-data; boundary=B", multi(disposition + "name=\"note\"\r\n\r\n" + strings.Repeat("x", 100)), 100, `{"_capture":["truncated"],"fields":[{"name":"note"}]}`},
		{"multipart without boundary", "multipart/form-data", "x", 0, `{"_capture":["malformed"]}`},
	} {
		if got := capturedJSON(t, s, tt.contentType, tt.body, tt.limit, true); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	var none *Body
	if n, err := none.Write([]byte("abc")); n != 3 || err != nil || none.Captured(true) != nil || none.Cut() != nil || none.Size() != 0 {
		t.Error("no body takes something")
	}
}

func TestASelectionIsSafeForConcurrentUse(t *testing.T) {
	s := selection(t, Capture{Body: []string{"a.b"}, Query: []string{"q"}})
	done := make(chan string)
	for range 8 {
		go func() {
			b := s.NewBody("application/json", "", false, 0)
			b.Write([]byte(`{"a":{"b":1}}`))
			out := map[string]any{"body": b.Captured(true)}
			maps.Copy(out, s.Query("q=1"))
			text, _ := json.Marshal(out)
			done <- string(text)
		}()
	}
	for range 8 {
		if got := <-done; got != `{"body":{"a":{"b":1}},"q":"1"}` {
			t.Error(got)
		}
	}
}
