package httpclient

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/goleak"
)

// testTime is when all is asked.
var testTime = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// fit is that of clienttest, which imports this package.
func fit(t testing.TB, err error) {
	t.Helper()
	text := err.Error()
	if len(text) > 2*MaxText || !utf8.ValidString(text) || strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		t.Errorf("an error of %d bytes that is not fit for a log: %q", len(text), text)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestADateWithoutTheAnswersOwnIsHeldAgainstTheClock(t *testing.T) {
	without := http.Header{"Retry-After": {testTime.Add(3 * time.Minute).Format(http.TimeFormat)}}
	if got := RetryAfter(without, testTime); got != 3*time.Minute {
		t.Errorf("got %s", got)
	}
}

func TestWhatWasTakenBackIsNotReadAnyMore(t *testing.T) {
	p := &payload{data: []byte("entries")}
	r := p.reader()
	b := make([]byte, 3)
	if n, err := r.Read(b); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if p.takeBack() {
		t.Error("it was not read to its end")
	}
	if n, err := r.Read(b); n != 0 || !errors.Is(err, errTakenBack) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	p = &payload{data: []byte("entries")}
	for range 2 { // as when a request is repeated
		if got, err := io.ReadAll(p.reader()); string(got) != "entries" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if !p.takeBack() {
		t.Error("it was read to its end")
	}
}
