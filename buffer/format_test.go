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

// A directory that the first version has left is opened by every later one. It has
// two sealed segments and a newest one, an intent without an end, a store that is
// half way, and an order to let calls pass that is over.
func TestTheFirstVersionsFilesAreRead(t *testing.T) {
	const kept = "testdata/format-1"
	if *writeFormat {
		dir := newDir(t)
		b := open(t, dir, Options{SegmentSize: 64 << 10})
		b.Hold("store")
		for i := range 30 {
			if err := b.Append(fmt.Appendf(nil, "entry %d %s", i+1, strings.Repeat("x", 1000))); err != nil {
				t.Fatal(err)
			}
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
		for _, f := range files {
			raw, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			w := gzip.NewWriter(&out)
			_, _ = w.Write(raw)
			_ = w.Close()
			if err := os.MkdirAll(kept, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(kept, f.Name()+".gz"), out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := newDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(kept + "/*.gz")
	if err != nil || len(files) != 5 {
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
	if err != nil || len(list) != 3 || list[0].Checksum != ChecksumGood || list[1].Checksum != ChecksumGood {
		t.Errorf("%+v %v", list, err)
	}
	for _, r := range list {
		if r.Harm != "" {
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
