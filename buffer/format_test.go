package buffer

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var writeFormat = flag.Bool("write-format", false, "write the files of this version's format; they are never written again once it is released")

// A directory that a version has left is opened by every later one. It has
// sealed segments and a newest one, an intent without an end, a store that is
// half way, and an order to let calls pass that is over.
func TestTheFilesOfEachVersionAreRead(t *testing.T) {
	if *writeFormat {
		writeFiles(t, fmt.Sprintf("testdata/format-%d", FormatVersion))
	}
	for version := ReadsFormatFrom; version <= FormatVersion; version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			readFiles(t, fmt.Sprintf("testdata/format-%d", version))
		})
	}
}

func writeFiles(t *testing.T, kept string) {
	t.Helper()
	dir := newDir(t)
	b := open(t, dir, Options{SegmentSize: 12 << 10})
	b.Hold("store")
	for n := 1; n <= 30; {
		var payloads [][]byte
		for range []int{1, 9}[n%2] { // one by one, and a run
			payloads = append(payloads, fmt.Appendf(nil, "entry %d %s", n, strings.Repeat("x", 1000)))
			n++
		}
		together(t, b, payloads)
		time.Sleep(time.Millisecond) // the checksums are made meanwhile
	}
	b.Advance("store", 5, 5, 0, 0)
	b.PassUntil(time.Now())
	if err := admit(t, b).Begin([]byte("intent")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * tickEvery)
	abandon(t, b)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(kept, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, _ = w.Write(raw)
		_ = w.Close()
		if err := os.WriteFile(filepath.Join(kept, f.Name()+".gz"), out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readFiles(t *testing.T, kept string) {
	t.Helper()
	dir := newDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(kept + "/*.gz")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		if err := os.WriteFile(filepath.Join(dir, strings.TrimSuffix(filepath.Base(name), ".gz")), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o, err := OpenOffline(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := o.Verify(t.Context(), func(int64, int64) {})
	if err != nil || len(list) < 3 {
		t.Errorf("%+v %v", list, err)
	}
	for i, r := range list {
		if r.Harm != "" || (r.Checksum == ChecksumGood) != (i+1 < len(list)) {
			t.Errorf("%+v", r)
		}
	}
	_ = o.Close()
	told := &gaps{}
	b := open(t, dir, Options{Adopt: true, Gap: told.entry})
	if b.Position("store") != 5 || !b.Recovered().Unclean || b.Recovered().Unknown != 1 || len(told.list) > 0 {
		t.Errorf("position %d, %+v, %+v", b.Position("store"), b.Recovered(), told.list)
	}
	got := entries(t, b, 1)
	for i, e := range got[:30] {
		if !strings.HasPrefix(e, fmt.Sprintf("entry %d x", i+1)) {
			t.Fatalf("entry %d is %.30q", i+1, e)
		}
	}
	if len(got) != 31 || got[30] != "intent" {
		t.Errorf("%d entries, the last %q", len(got), got[len(got)-1])
	}
	checkConserved(t, b)
}
