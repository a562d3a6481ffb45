package file

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAFileIsRotatedBeforeItIsTooLarge(t *testing.T) {
	path := newPath(t)
	size := int64(len(appendLines(nil, records(1, 10))))
	s := open(t, Config{Path: path, MaxSize: 2*size + 100})
	for n := range 7 {
		write(t, s, 10*n+101, 10*n+110)
	}
	if diff := cmp.Diff([]string{"audit-1.ndjson", "audit-2.ndjson", "audit-3.ndjson", "audit.ndjson"}, listing(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	write(t, s, 171, 300) // larger than all that is allowed: it has a file to itself
	write(t, s, 301, 301)
	if diff := cmp.Diff(numbers(101, 301), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(listing(t, path)); n != 6 {
		t.Errorf("%d files", n)
	}
}

func TestAFileIsRotatedByTheAgeThatItHasAcrossRestarts(t *testing.T) {
	path, c := newPath(t), newClock()
	config := Config{Path: path, MaxAge: time.Hour, now: c.now}
	for n := range 6 {
		s := open(t, config)
		write(t, s, n+1, n+1)
		s.Close()
		c.add(25 * time.Minute)
	}
	// 0, 25 and 50 minutes; 75 begins the next one.
	if diff := cmp.Diff([]string{"audit-1.ndjson", "audit.ndjson"}, listing(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(numbers(1, 6), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnEmptyFileHasNoAge(t *testing.T) {
	path, c := newPath(t), newClock()
	s := open(t, Config{Path: path, MaxAge: time.Hour, now: c.now})
	c.add(90 * time.Minute)
	write(t, s, 1, 1)
	write(t, s, 2, 2)
	c.add(59 * time.Minute)
	write(t, s, 3, 3)
	if diff := cmp.Diff([]string{"audit.ndjson"}, listing(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAClockThatGoesBackTakesNoNameTwiceAndKeepsTheOrder(t *testing.T) {
	path, c := newPath(t), newClock()
	config := Config{Path: path, MaxAge: time.Hour, MaxSize: 1500, now: c.now}
	for n := range 20 {
		if n%7 == 0 { // with and without a restart
			open(t, config).Close()
		}
		s := open(t, config)
		write(t, s, 4*n+1, 4*n+2)
		c.add(-3 * time.Hour)
		write(t, s, 4*n+3, 4*n+4)
		s.Close()
	}
	if diff := cmp.Diff(numbers(1, 80), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAClockThatGoesBackDoesNotRotateTooSoonOrTooLate(t *testing.T) {
	path, c := newPath(t), newClock()
	s := open(t, Config{Path: path, MaxAge: time.Hour, now: c.now})
	write(t, s, 1, 1)
	c.add(-1000 * time.Hour)
	for n := range 5 {
		write(t, s, n+2, n+2)
		c.add(10 * time.Minute)
	}
	if diff := cmp.Diff([]string{"audit.ndjson"}, listing(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.add(20 * time.Minute) // an hour and ten minutes since it went back
	write(t, s, 7, 7)
	if diff := cmp.Diff([]string{"audit-1.ndjson", "audit.ndjson"}, listing(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRotatedFilesButTheNewestAreCompressed(t *testing.T) {
	for compress, suffix := range map[Compression]string{CompressZstd: ".zst", CompressGzip: ".gz", CompressNone: "", "": ""} {
		path := newPath(t)
		s := open(t, Config{Path: path, MaxSize: 1, Compress: compress})
		for n := range 4 {
			write(t, s, 10*n+1, 10*n+10)
		}
		want := []string{"audit-1.ndjson" + suffix, "audit-2.ndjson" + suffix, "audit-3.ndjson", "audit.ndjson"}
		eventually(t, string(compress), func() bool { return cmp.Equal(want, listing(t, path)) })
		if diff := cmp.Diff(numbers(1, 40), stored(t, path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", compress, diff)
		}
		s.Close()
	}
}

func TestACompressedFileThatHoldsSomethingElseCostsNotTheOriginal(t *testing.T) {
	path := newPath(t)
	s := open(t, Config{Path: path, MaxSize: 1})
	for n := range 3 {
		write(t, s, n+1, n+1)
	}
	s.Close()
	all, err := s.names.rotated()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.names.path(all[0].name+".zst"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	s, err = Open(t.Context(), Config{Path: path, MaxSize: 1, Compress: CompressZstd}, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a warning", func() bool { return strings.Contains(log.String(), "both are kept") })
	s.Close()
	if diff := cmp.Diff(numbers(1, 3), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOldFilesAreRemovedOnlyWhereAskedAndTheLogSaysWhatWasInThem(t *testing.T) {
	for name, config := range map[string]Config{
		"keep":       {Keep: 2},
		"keep_for":   {KeepFor: 2*time.Hour + time.Minute},
		"compressed": {Keep: 2, Compress: CompressGzip},
	} {
		path, c := newPath(t), newClock()
		config.Path, config.MaxSize, config.now = path, 1, c.now
		var log logBuffer
		s, err := Open(t.Context(), config, log.logger())
		if err != nil {
			t.Fatal(err)
		}
		for n := range 5 {
			write(t, s, 10*n+1, 10*n+10)
			c.add(time.Hour)
		}
		want, files := numbers(21, 50), 3
		if config.KeepFor > 0 {
			// Its rotation is when files are looked at: two were rotated four and three hours ago.
			write(t, s, 51, 51)
			want, files = numbers(21, 51), 4
		}
		eventually(t, name, func() bool { return len(listing(t, path)) == files })
		s.Close()
		if diff := cmp.Diff(want, stored(t, path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for _, said := range []string{
			fmt.Sprintf("first=%s/1 last=%s/10", testInstance, testInstance),
			fmt.Sprintf("first=%s/11 last=%s/20", testInstance, testInstance),
		} {
			if !strings.Contains(log.String(), said) {
				t.Errorf("%s: the log does not say %q:\n%s", name, said, log.String())
			}
		}
	}
}

func TestPathsAreTakenLiterally(t *testing.T) {
	for _, name := range []string{"audit", ".audit", "a.b.c", "a b", "a[1].ndjson", "a-20261128T174530.000000000Z.ndjson", "ä€😀.log", "a+.x"} {
		path := filepath.Join(t.TempDir(), name)
		s := open(t, Config{Path: path, MaxSize: 1})
		for n := range 3 {
			write(t, s, n+1, n+1)
		}
		all, err := s.names.rotated()
		if err != nil || len(all) != 2 {
			t.Errorf("%q: %d rotated files, %v", name, len(all), err)
		}
		if diff := cmp.Diff(numbers(1, 3), stored(t, path)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", name, diff)
		}
	}
}

func TestTwoStoresInOneDirectoryKeepApart(t *testing.T) {
	path := newPath(t)
	other := filepath.Join(filepath.Dir(path), "audit-x.ndjson")
	a := open(t, Config{Path: path, MaxSize: 1, Keep: 1})
	b := open(t, Config{Path: other, MaxSize: 1})
	for n := range 5 {
		write(t, a, n+1, n+1)
		write(t, b, n+101, n+101)
	}
	eventually(t, "removing", func() bool {
		all, err := a.names.rotated()
		return err == nil && len(all) == 1
	})
	if diff := cmp.Diff(numbers(101, 105), stored(t, other)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
