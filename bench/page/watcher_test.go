//go:build servers

package page

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

// watcher notes what no tab may have: a script's exception, a word on the console (which is
// also where Chromium complains of what the Content-Security-Policy forbids), a dialog, and
// a request to elsewhere.
type watcher struct {
	mu      sync.Mutex
	found   []string
	allowed []string
	dismiss func()
}

func newWatcher() *watcher { return &watcher{dismiss: func() {}} }

// allow takes a part of what else would be a finding for expected.
func (w *watcher) allow(part string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.allowed = append(w.allowed, part)
}

func (w *watcher) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found = append(w.found, fmt.Sprintf(format, args...))
}

// see is called for each event of the tab, by the one that reads them.
func (w *watcher) see(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += ": " + x.Description
		}
		w.note("an exception at %s:%d: %s", e.ExceptionDetails.URL, e.ExceptionDetails.LineNumber, text)
	case *runtime.EventConsoleAPICalled:
		var words []string
		for _, arg := range e.Args {
			words = append(words, string(arg.Value)+arg.Description)
		}
		w.note("a word on the console (%s): %s", e.Type, strings.Join(words, " "))
	case *log.EventEntryAdded:
		w.note("a message of the browser (%s, %s): %s %s", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *page.EventJavascriptDialogOpening:
		w.note("a dialog: %s", e.Message)
		w.mu.Lock()
		dismiss := w.dismiss
		w.mu.Unlock()
		go dismiss() // it answers only after this event
	case *network.EventRequestWillBeSent:
		// Chromium's own icons, in fields for times, are data.
		if u := e.Request.URL; !strings.HasPrefix(u, site.url+"/") && !strings.HasPrefix(u, "data:") && u != "about:blank" {
			w.note("a request to elsewhere: %s", u)
		}
	}
}

func (w *watcher) report(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
next:
	for _, f := range w.found {
		for _, part := range w.allowed {
			if strings.Contains(f, part) {
				continue next
			}
		}
		t.Errorf("the tab had %s", f)
	}
}
