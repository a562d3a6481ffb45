package viewer

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// export reads one to its end, with its trailers.
func (r *rig) export(token, query string, headers ...string) (*http.Response, []byte) {
	r.t.Helper()
	resp := r.get(token, auditPath("acme")+"/export?"+query, headers...)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, b
}

func TestAnExportIsReadBackWhole(t *testing.T) {
	r := newRig(t)
	var all []*audit.Entry
	for n := range partEntries + 20 {
		all = append(all, entryOf("acme", time.Duration(n)*time.Second))
	}
	r.write(all...)
	r.write(entryOf("other", time.Second))
	for format, read := range map[string]func(b []byte) int{
		"ndjson": func(b []byte) int {
			for i, line := range bytes.Split(bytes.TrimSpace(b), []byte("\n")) {
				e, err := audit.Decode(line)
				if err != nil || e.ID != all[len(all)-1-i].ID {
					t.Fatalf("line %d: %v", i, err)
				}
			}
			return bytes.Count(b, []byte("\n"))
		},
		"csv": func(b []byte) int {
			rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
			if err != nil || rows[1][1] != all[len(all)-1].ID || rows[0][1] != "id" {
				t.Fatalf("%v %q", err, rows[:2])
			}
			return len(rows) - 1
		},
		"json": func(b []byte) int {
			var file struct {
				Result []json.RawMessage `json:"result"`
				Count  int               `json:"count"`
				Sum    string            `json:"entries_sha256"`
				Slug   string            `json:"organization_slug"`
			}
			if err := json.Unmarshal(b, &file); err != nil {
				t.Fatal(err)
			}
			h := sha256.New()
			for _, doc := range file.Result {
				h.Write(append(doc, '\n'))
			}
			if file.Sum != hex.EncodeToString(h.Sum(nil)) || file.Count != len(file.Result) || file.Slug != "acme" {
				t.Errorf("its end says %d %s of %d", file.Count, file.Sum, len(file.Result))
			}
			return len(file.Result)
		},
		"ocsf": func(b []byte) int {
			var event map[string]any
			if err := json.Unmarshal(b[:bytes.IndexByte(b, '\n')], &event); err != nil || event["class_uid"] != float64(6003) {
				t.Errorf("%v %v", err, event)
			}
			return bytes.Count(b, []byte("\n"))
		},
	} {
		before := len(r.events())
		resp, b := r.export("member:acme", "format="+format)
		if resp.StatusCode != 200 || read(b) != len(all) {
			t.Fatalf("%s: %s, %d entries, want %d", format, resp.Status, read(b), len(all))
		}
		sum := sha256.Sum256(b)
		if resp.Trailer.Get(trailerEntries) != strconv.Itoa(len(all)) || resp.Trailer.Get(trailerSHA256) != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: trailers %v", format, resp.Trailer)
		}
		if d := resp.Header.Get("Content-Disposition"); !strings.HasPrefix(d, `attachment; filename="audit-acme-2`) || !strings.Contains(d, "."+format) {
			t.Errorf("%s: %s", format, d)
		}
		events := r.events()[before:]
		if len(events) != 2 || events[0].Outcome != audit.OutcomeUnknown || events[1].ID != events[0].ID || events[1].Revision != events[0].Revision+1 {
			t.Fatalf("%s: it is recorded as %+v", format, events)
		}
		end := events[1]
		if end.ID != resp.Header.Get(headerID) || end.Action.Code != audit.EventExported || end.Outcome != audit.OutcomeSuccess || end.OrganizationID != "id-acme" ||
			end.Actor.Email != "reader@example.com" || end.Action.Metadata["sha256"] != hex.EncodeToString(sum[:]) || end.Action.Metadata["entries"] != float64(len(all)) {
			t.Errorf("%s: it ends as %+v", format, end)
		}
	}
}

func TestAnExportCanBeCompressed(t *testing.T) {
	r := newRig(t)
	r.write(entryOf("acme", time.Second))
	unzip := func(b []byte) string {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		return string(plain)
	}
	resp, file := r.export("member:acme", "format=csv&gzip=true", "Accept-Encoding", "identity")
	if resp.Header.Get("Content-Encoding") != "" || !strings.Contains(resp.Header.Get("Content-Disposition"), ".csv.gz") || !strings.Contains(unzip(file), "ann@example.com") {
		t.Errorf("%v", resp.Header)
	}
	resp, sent := r.export("member:acme", "format=csv", "Accept-Encoding", "br, gzip;q=0.5")
	plain := unzip(sent)
	sum := sha256.Sum256([]byte(plain))
	if resp.Header.Get("Content-Encoding") != "gzip" || resp.Trailer.Get(trailerSHA256) != hex.EncodeToString(sum[:]) {
		t.Errorf("%v %v", resp.Header, resp.Trailer)
	}
	for _, none := range []string{"gzip;q=0", "identity", "br"} {
		if resp, b := r.export("member:acme", "format=csv", "Accept-Encoding", none); resp.Header.Get("Content-Encoding") != "" || !strings.HasPrefix(string(b), "time,id,") {
			t.Errorf("%s: %v", none, resp.Header)
		}
	}
}

func TestAnExportGoesOnBehindAnEntryAndByItsCursor(t *testing.T) {
	r := newRig(t)
	var all []*audit.Entry
	for n := range 10 {
		all = append(all, entryOf("acme", time.Duration(20-n)*time.Second))
	}
	r.write(all...)
	_, b := r.export("member:acme", "format=ndjson&after="+all[3].ID)
	if n := bytes.Count(b, []byte("\n")); n != 6 || !bytes.Contains(b, []byte(all[4].ID)) {
		t.Errorf("%d entries behind the fourth", n)
	}
	var ids []string
	query := "format=ndjson&limit=4"
	for range 5 {
		resp, b := r.export("member:acme", query)
		for line := range bytes.Lines(b) {
			e, err := audit.Decode(line)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, e.ID)
		}
		next := resp.Trailer.Get(trailerCursor)
		if next == "" {
			break
		}
		query = "format=ndjson&limit=4&cursor=" + next
	}
	if len(ids) != 10 || ids[9] != all[9].ID {
		t.Errorf("%d entries by cursors", len(ids))
	}
	others := entryOf("other", time.Second)
	r.write(others)
	for query, status := range map[string]int{
		"after=" + others.ID: 404, "after=x": 404, "format=xml": 400, "gzip=yes": 400, "limit=0": 400, "after=" + all[0].ID + "&cursor=x": 400,
	} {
		if resp, _ := r.export("member:acme", query); resp.StatusCode != status || resp.Header.Get("Content-Disposition") != "" {
			t.Errorf("%s: %s, want %d", query, resp.Status, status)
		}
	}
}

func TestASpreadsheetTakesNothingForAFormula(t *testing.T) {
	r := newRig(t)
	for _, text := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1", "'quoted", "a,b\"c\nd"} {
		e := entryOf("acme", time.Second)
		e.Actor.UserAgent, e.Action.Name = text, text
		r.write(e)
	}
	_, b := r.export("member:acme", "format=csv")
	rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil || len(rows) != 11 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		for _, cell := range row {
			trimmed := strings.TrimSpace(cell)
			if trimmed != "" && strings.ContainsRune("=+-@＝", []rune(trimmed)[0]) {
				t.Errorf("a cell is %q", cell)
			}
		}
	}
}

func TestNothingIsExportedBeforeItIsRecorded(t *testing.T) {
	r := newRig(t)
	r.write(entryOf("acme", time.Second))
	r.disk = errors.New("no space is left")
	for _, path := range []string{"/export", "", "/counts"} {
		token := "operator"
		if path == "/export" {
			token = "member:acme"
		}
		resp := r.get(token, auditPath("acme")+path)
		if text := body(t, resp); resp.StatusCode != 503 || strings.Contains(text, "ann@example.com") || strings.Contains(text, "no space") {
			t.Errorf("%s: %s %s", path, resp.Status, text)
		}
	}
	// What members read is no event, and goes on.
	if l, status := r.list("member:acme", auditPath("acme")); status != 200 || len(l.Result) != 1 {
		t.Errorf("%d %+v", status, l)
	}
}

func TestWhatAnOperatorReadsIsAnEntryThatDoesNotNameThemToMembers(t *testing.T) {
	r := newRig(t)
	e := entryOf("acme", time.Second)
	r.write(e)
	for i, path := range []string{"", "/counts", "/entries/" + e.ID, "/export"} {
		before := len(r.events())
		if resp := r.get("operator", auditPath("acme")+path); resp.StatusCode != 200 || body(t, resp) == "" {
			t.Fatalf("%s: %s", path, resp.Status)
		}
		events := r.events()[before:]
		if len(events) == 0 || events[0].OrganizationSlug != "acme" || events[0].Actor.Email != "" {
			t.Fatalf("%d: %+v", i, events)
		}
		who, _ := events[0].Action.Metadata[operatorFact].(map[string]any)
		if who["email"] != "reader@example.com" {
			t.Errorf("%s: the event does not say who: %+v", path, events[0])
		}
	}
	event := r.events()[0]
	if event.OrganizationID != "id-acme" {
		t.Fatalf("it is nobody's: %+v", event)
	}
	r.write(event)
	text := body(t, r.get("member:acme", auditPath("acme")+"?action="+audit.EventRead))
	if !strings.Contains(text, "read by the operator") || strings.Contains(text, "reader@example.com") {
		t.Errorf("a member sees: %s", text)
	}
}

func TestAnExportEndsWithTheSessionAndDoesNotLookWhole(t *testing.T) {
	r := newRig(t)
	var all []*audit.Entry
	for n := range 3 * partEntries {
		all = append(all, entryOf("acme", time.Duration(n)*time.Millisecond))
	}
	r.write(all...)
	// It has expired when the first part has been read.
	r.until = time.Now()
	resp := r.get("member:acme", auditPath("acme")+"/export?format=ndjson")
	_, err := io.Copy(io.Discard, resp.Body)
	if err == nil || resp.Trailer.Get(trailerSHA256) != "" {
		t.Errorf("it looks whole: %v %v", err, resp.Trailer)
	}
	end := r.events()[1]
	if end.Outcome != audit.OutcomeFailure || end.Action.Metadata["cut"] != true || end.Action.Metadata["sha256"] != nil {
		t.Errorf("it is recorded as %+v", end)
	}
}

func TestAReloadCutsNobodysExport(t *testing.T) {
	r := newRig(t)
	var all []*audit.Entry
	for range 200 {
		e := entryOf("acme", time.Second)
		e.Actor.UserAgent = strings.Repeat("x", 60_000)
		all = append(all, e)
	}
	r.write(all...)
	resp := r.get("member:acme", auditPath("acme")+"/export?format=ndjson") // whose first part fills the connection
	if err := r.viewer.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || bytes.Count(b, []byte("\n")) != len(all) || resp.Trailer.Get(trailerEntries) != "200" {
		t.Errorf("%d of %d entries, %v, %v", bytes.Count(b, []byte("\n")), len(all), err, resp.Trailer)
	}
	if l, status := r.list("member:acme", auditPath("acme")); status != 503 {
		t.Errorf("a viewer that was closed answers %d %s", status, l.Message)
	}
}

func TestTooManyExportsAreToldToWait(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxExports = 8 })
	var all []*audit.Entry
	for range 200 {
		e := entryOf("acme", time.Second)
		e.Actor.UserAgent = strings.Repeat("x", 60_000)
		all = append(all, e)
	}
	r.write(all...)
	r.members = func(string, string) bool { return true }
	var mu sync.Mutex
	status := map[int]int{}
	var wg sync.WaitGroup
	hold := make(chan struct{})
	for n := range 200 {
		wg.Go(func() {
			resp := r.get("reader-"+strconv.Itoa(n%50), auditPath("acme")+"/export")
			mu.Lock()
			status[resp.StatusCode]++
			mu.Unlock()
			if resp.StatusCode == 429 && resp.Header.Get("Retry-After") == "" {
				t.Error("nobody says when to try again")
			}
			<-hold // a slow client
			_, _ = io.Copy(io.Discard, resp.Body)
		})
	}
	for done := false; !done; {
		mu.Lock()
		sum := 0
		for _, n := range status {
			sum += n
		}
		done = sum == 200
		mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	close(hold)
	wg.Wait()
	if status[200] != 8 || status[429] != 192 {
		t.Errorf("%v: 8 of 200 go on at one time", status)
	}
	if l, code := r.list("member:acme", auditPath("acme")+"?limit=1"); code != 200 || len(l.Result) != 1 {
		t.Errorf("a page waits for exports: %d", code)
	}
	r.export("member:acme", "limit=1")
}
