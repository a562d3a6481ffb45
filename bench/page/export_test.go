//go:build servers

package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// download clicks a link and returns what the browser saves, and how it calls that.
func (b *tab) download(selector string) (content []byte, name string) {
	b.Helper()
	c, dir, yes := chromedp.FromContext(b.ctx), b.TempDir(), true
	_, err := cdp.Call(b.ctx, c.Browser, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{
		Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllowAndName, BrowserContextID: c.BrowserContextID, DownloadPath: dir, EventsEnabled: &yes,
	})
	b.must(err)
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	// Tests run one after the other, so it is this tab's.
	begun, ended := make(chan *cdpbrowser.EventDownloadWillBegin, 1), make(chan *cdpbrowser.EventDownloadProgress, 1)
	b.must(chromedp.ListenBrowser(ctx, func(event any) {
		switch e := event.(type) {
		case *cdpbrowser.EventDownloadWillBegin:
			begun <- e
		case *cdpbrowser.EventDownloadProgress:
			if e.State != cdpbrowser.DownloadProgressStateInProgress {
				ended <- e
			}
		}
	}))
	b.click(selector)
	for content == nil {
		select {
		case e := <-begun:
			name = e.SuggestedFilename
		case e := <-ended:
			if e.State != cdpbrowser.DownloadProgressStateCompleted {
				b.Fatalf("the download of %s: %s", selector, e.State)
			}
			content, err = os.ReadFile(filepath.Join(dir, e.GUID))
			b.must(err)
		case <-ctx.Done():
			b.Fatalf("the download of %s does not end", selector)
		}
	}
	if name == "" {
		name = (<-begun).SuggestedFilename
	}
	return content, name
}

// readers find the ids of a file's entries, in each format.
var readers = map[string]func(t *testing.T, file []byte) (ids []string){
	"csv": func(t *testing.T, file []byte) (ids []string) {
		records, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		at := slices.Index(records[0], "id")
		for _, r := range records[1:] {
			ids = append(ids, r[at])
		}
		return ids
	},
	"json": func(t *testing.T, file []byte) (ids []string) {
		var doc struct {
			Result []struct{ ID string }
			Count  int
		}
		if err := json.Unmarshal(file, &doc); err != nil {
			t.Fatal(err)
		}
		for _, e := range doc.Result {
			ids = append(ids, e.ID)
		}
		if doc.Count != len(ids) {
			t.Errorf("the file says that it has %d entries, and has %d", doc.Count, len(ids))
		}
		return ids
	},
	"ndjson": func(t *testing.T, file []byte) (ids []string) {
		for line := range bytes.Lines(file) {
			var e struct{ ID string }
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, e.ID)
		}
		return ids
	},
	"ocsf": func(t *testing.T, file []byte) (ids []string) {
		for line := range bytes.Lines(file) {
			var e struct{ Metadata struct{ UID string } }
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, e.Metadata.UID)
		}
		return ids
	},
}

func TestWhatIsShownIsExportedInEachFormatAndTheLogSaysSo(t *testing.T) {
	b := open(t, memberEmail)
	sums, counts := map[string]string{}, map[string]int{}
	now := time.Now().UTC()
	// Up to now: the export of one format is an event that the next one would have in it.
	path := logOf(exporting) + "?" + url.Values{
		"iso_timestamp_start": {now.Add(-span).Format(time.RFC3339)}, "iso_timestamp_end": {now.Format(time.RFC3339)}, "outcome": {"success"},
	}.Encode()
	for name, read := range readers {
		b.visit(path)
		s := b.expect(exporting, func(e *audit.Entry) bool { return e.Outcome == audit.OutcomeSuccess })
		var want []string
		for _, e := range slices.Backward(s.in(exporting, func(e *audit.Entry) bool { return e.Outcome == audit.OutcomeSuccess })) {
			want = append(want, e.ID)
		}
		b.click(".export > summary")
		file, as := b.download(`.export a[href*="format=` + name + `"]`)
		ids := read(t, file)
		if len(ids) != s.Total || !slices.Equal(ids, want) {
			t.Errorf("%s: the file has %d entries and the page %d, want %d, oldest first", name, len(ids), s.Total, len(want))
		}
		if !strings.HasPrefix(as, "audit-"+exporting.Slug+"-") {
			t.Errorf("%s: the file is called %q", name, as)
		}
		sum := sha256.Sum256(file)
		sums[name], counts[name] = hex.EncodeToString(sum[:]), len(ids)
	}
	const recorded = `document.querySelectorAll("tr.entry .outcome.success").length`
	b.reloadUntil(logOf(exporting)+"?range=1h&action=audit.exported", recorded+` === %s`, len(readers))
	for _, r := range b.look().Rows {
		b.visit(logOf(exporting) + "/entries/" + r.ID)
		var e struct {
			Actor  struct{ Email string }
			Action struct {
				Metadata struct {
					Format, SHA256 string
					Entries        int
				}
			}
		}
		if err := json.Unmarshal([]byte(eval[string](b, `document.querySelector("#json code").textContent`)), &e); err != nil {
			t.Fatal(err)
		}
		m := e.Action.Metadata
		if m.SHA256 == "" || m.SHA256 != sums[m.Format] || m.Entries != counts[m.Format] || e.Actor.Email != memberEmail {
			t.Errorf("the log says %+v of an export with the SHA-256 %s and %d entries", e, sums[m.Format], counts[m.Format])
		}
		delete(sums, m.Format)
	}
	if len(sums) > 0 {
		t.Errorf("the log does not know of %v", sums)
	}
}
