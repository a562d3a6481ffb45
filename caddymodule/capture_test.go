package caddymodule

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// metadata is an entry's, as a reader gets it.
func metadata(t *testing.T, e *audit.Entry) map[string]any {
	t.Helper()
	b, err := json.Marshal(e.Action.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestWhatTheSiteAllowsIsCaptured(t *testing.T) {
	var got string
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		got = string(b)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, `{"id":"i-1","token":"hunter2","email":"ada@example.com"}`)
		_ = z.Close()
	})
	r.load(withRules("platform generic\n\t\tcapture body name region user.role keys\n\t\tcapture query dry_run\n\t\tcapture header X-Reason\n\t\tcapture response id token"), proxy)
	const body = `{"name":"shop","region":"eu-1","user":{"role":"owner","email":"x@example.com"},"password":"hunter2hunter2","keys":{"api_key":"hunter2hunter2","n":1},"cost":1.50}`
	r.send("POST", "/things?dry_run=1&token=hunter2hunter2", map[string]string{
		"Content-Type": "application/json", "X-Reason": "ticket 42", "X-Other": "hunter2hunter2",
	}, body)
	if got != body {
		t.Errorf("the API was sent %q", got)
	}
	r.calls(2)
	e := r.highest()[0]
	want := map[string]any{
		"body":  map[string]any{"name": "shop", "region": "eu-1", "user": map[string]any{"role": "owner"}, "keys": map[string]any{"api_key": "[redacted]", "n": 1.0}},
		"query": map[string]any{"dry_run": "1"}, "header": map[string]any{"X-Reason": "ticket 42"},
		"response": map[string]any{"id": "i-1", "token": "[redacted]"},
	}
	if diff := cmp.Diff(want, metadata(t, e)); diff != "" {
		t.Error(diff)
	}
	if e.Policy.Level != audit.LevelRequestResponse || e.Policy.Rule != "default" || e.Revision != 2 {
		t.Errorf("%+v, revision %d", e.Policy, e.Revision)
	}
	first := r.buffered()[0]
	if m := metadata(t, first); m["body"] == nil || m["response"] != nil {
		t.Errorf("the first revision has %v", m)
	}
	r.drained()
	if files := r.files(); strings.Contains(files, "hunter2") || strings.Contains(files, "x@example.com") {
		t.Error("what is not allowed is on the disk")
	}
}

func TestWithoutALevelForItNothingIsCaptured(t *testing.T) {
	r := newRig(t, ok)
	r.load(withRules("capture body name\n\t\t@quiet path /quiet\n\t\trule @quiet metadata"), proxy)
	for _, path := range []string{"/quiet", "/loud"} {
		r.send("POST", path, map[string]string{"Content-Type": "application/json"}, `{"name":"x"}`)
	}
	list := r.highest()
	if list[0].Action.Metadata != nil || list[1].Action.Metadata == nil || list[1].Policy.Level != audit.LevelRequest {
		t.Errorf("%v and %v", list[0].Action.Metadata, list[1].Action.Metadata)
	}
}

func TestACapturedBodyPassesUnchangedWhateverItIs(t *testing.T) {
	big := make([]byte, 3<<20)
	_, _ = rand.Read(big)
	var sum [32]byte
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		sum = sha256.Sum256(b)
		_, _ = w.Write(big)
	})
	r.load(withRules("capture body name\n\t\tcapture response name"), proxy)
	resp, err := oneCall.RoundTrip(r.request("POST", "/things", map[string]string{"Content-Type": "application/octet-stream"}, string(big)))
	if err != nil {
		t.Fatal(err)
	}
	back, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !bytes.Equal(back, big) || sum != sha256.Sum256(big) {
		t.Errorf("a body was altered: %v", err)
	}
	r.calls(2)
	m := metadata(t, r.highest()[0])
	body, _ := m["body"].(map[string]any)
	if body["size"] != float64(len(big)) || body["sha256"] == nil {
		t.Errorf("%v", m)
	}
	for _, text := range []string{strings.Repeat("[", 100_000), `{"name":1,"name":2}`, "{\"name\":\"a\xff\"}", "", "{"} {
		r.send("POST", "/things", map[string]string{"Content-Type": "application/json"}, text)
	}
	if s := r.drained(); !s.Conserved {
		t.Errorf("%+v", s)
	}
}

// An API that answers before it has read the body gets its answer recorded at
// once, and the rest of the body as a further revision.
func TestABodyThatIsReadAfterTheAnswerIsAFurtherRevision(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.WriteHeader(200)
		_ = rc.Flush()
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(w, "done")
	})
	caddyfile := strings.Replace(withRules("capture body name"), "trusted_proxies_strict", "trusted_proxies_strict\n\t\tenable_full_duplex", 1)
	r.load(caddyfile, "reverse_proxy %API% {\n\t\tflush_interval -1\n\t}")
	reader, writer := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+r.addr+"/things", reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	go func() {
		_, _ = io.WriteString(writer, `{"na`)
		r.calls(1)
		_, _ = io.WriteString(writer, `me":"late"}`)
		_ = writer.Close()
	}()
	resp, err := oneCall.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	r.calls(2)
	e := r.highest()[0]
	if diff := cmp.Diff(map[string]any{"body": map[string]any{"name": "late"}}, metadata(t, e)); diff != "" || e.Revision < 2 {
		t.Errorf("revision %d: %s", e.Revision, diff)
	}
}

// Bodies that never end, or end before they said: the call goes on as without
// us, and its entry says what could not be captured.
func TestABodyThatLiesAboutItsLengthIsCapturedAsFarAsItCame(t *testing.T) {
	r := newRig(t, func(_ http.ResponseWriter, req *http.Request) { _, _ = io.Copy(io.Discard, req.Body) })
	r.load(withRules("capture body name"), proxy)
	for i, c := range []struct{ name, head, body string }{
		{"chunked without an end", "Transfer-Encoding: chunked", "10\r\n{\"name\":\"half\",\"\r\n"},
		{"shorter than announced", "Content-Length: 500", `{"name":"half","x`},
		{"no chunk at all", "Transfer-Encoding: chunked", "zz\r\n"},
	} {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+c.head+"\r\n\r\n"+c.body)
		time.Sleep(50 * time.Millisecond)
		_ = conn.Close()
		for len(r.highest()) <= i || r.highest()[i].Revision < 1 {
			time.Sleep(5 * time.Millisecond)
		}
		e := r.highest()[i]
		m := metadata(t, e)
		t.Logf("%-24s status %d  outcome %-8s body %v", c.name, e.Action.Status, e.Outcome, m["body"])
		if body, _ := m["body"].(map[string]any); c.name != "no chunk at all" && (body["name"] != "half" || fmt.Sprint(body["_capture"]) != "[truncated]") {
			t.Errorf("%s: %v", c.name, m)
		}
	}
	if s := r.drained(); !s.Conserved {
		t.Errorf("%+v", s)
	}
}

// What a level costs a call of 1 KiB, from the handler to the entry on its way
// to the disk.
func BenchmarkLevel(b *testing.B) {
	platform := audit.Supabase()
	body := []byte(`{"name":"my-project","region":"eu-west-1","plan":"pro","x":"` + strings.Repeat("what it is for and ", 50) + `"}`)
	for _, level := range []audit.Level{audit.LevelMetadata, audit.LevelRequest, audit.LevelRequestResponse} {
		b.Run(string(level), func(b *testing.B) {
			h := &Handler{platform: platform, Capture: &Capture{Body: []string{"name", "region"}, Query: []string{"q"}, Response: []string{"name"}}}
			if err := h.provisionCapture(); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("POST", "/things?q=1", bytes.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				c := &call{handler: h, request: r}
				c.entry, c.facts = h.deriver(new(audit.TokenKey)).Intent(snapshot(r, time.Now(), nil))
				c.entry.Policy.Level = level
				c.capture(level)
				_, _ = io.Copy(io.Discard, r.Body)
				c.captured()
				rw := new(responseWriter)
				c.captureResponse(rw, r.Header)
				_, _ = rw.seen.Write(body)
				c.capturedResponse(rw)
				if _, err := c.entry.Encode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
