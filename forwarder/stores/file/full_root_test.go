//go:build linux && root

package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mount makes a small filesystem.
func mount(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill uses up what is left of a filesystem.
func fill(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{64 << 10, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return ballast
}

func TestAFullDiskCostsNothingAndNeedsNoRestart(t *testing.T) {
	dir := mount(t, "3m")
	path := filepath.Join(dir, "data", "audit.ndjson")
	s, err := Open(t.Context(), Config{Path: path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := &follower{path: path}
	last := 0
	for range 3 {
		write(t, s, last+1, last+100)
		last += 100
		ballast := fill(t, dir)
		// What is set aside already is used first.
		for s.Write(t.Context(), records(last+1, last+100)) == nil {
			last += 100
		}
		for range 3 {
			err := s.Write(t.Context(), records(last+1, last+100))
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some space") {
				t.Fatalf("on a full disk: %v", err)
			}
			f.poll(t)
			if len(f.rest) > 0 {
				t.Errorf("a reader sees half a line: %.80q", f.rest)
			}
			if diff := cmp.Diff(numbers(1, last), stored(t, path)); diff != "" {
				t.Fatalf("on a full disk (-want +got):\n%s", diff)
			}
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		write(t, s, last+1, last+100)
		last += 100
	}
	f.poll(t)
	f.f.Close()
	got, err := sequences(f.got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(numbers(1, last), got); diff != "" {
		t.Errorf("what a reader saw (-want +got):\n%s", diff)
	}
}

func TestADiskThatIsFullInTheMiddleOfABatchIsRidOfIt(t *testing.T) {
	// A limit of the file's size ends a write halfway as a disk does that cannot set
	// space aside.
	path := filepath.Join(t.TempDir(), "audit.ndjson")
	s := open(t, Config{Path: path})
	write(t, s, 1, 10)
	s.live.reserved = 1 << 30
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limited := before
	limited.Cur = uint64(s.live.size) + 1500 // in the middle of the third line
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited); err != nil {
		t.Fatal(err)
	}
	err := s.Write(t.Context(), records(11, 20))
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), "raise its limit") {
		t.Errorf("beyond the limit: %v", err)
	}
	if diff := cmp.Diff(numbers(1, 10), stored(t, path)); diff != "" {
		t.Errorf("after it (-want +got):\n%s", diff)
	}
	if b, err := os.ReadFile(path); err != nil || b[len(b)-1] != '\n' {
		t.Errorf("half a line was left: %v", err)
	}
	write(t, s, 11, 20)
	if diff := cmp.Diff(numbers(1, 20), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAReadOnlyFilesystemSaysSoAndIsTriedAgain(t *testing.T) {
	dir := mount(t, "4m")
	path := filepath.Join(dir, "audit.ndjson")
	s, err := Open(t.Context(), Config{Path: path, MaxSize: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, 1, 10)
	s.Close()
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=4m"); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Config{Path: path}, nil)
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "mount it for writing") {
		t.Errorf("opening: %v", err)
	}
	err = Probe(t.Context(), Config{Path: path}, record(1))
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "mount it for writing") {
		t.Errorf("trying out: %v", err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	s, err = Open(t.Context(), Config{Path: path, MaxSize: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write(t, s, 11, 20)
	if diff := cmp.Diff(numbers(1, 20), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestADiskThatIsTooFullToCompressKeepsTheOriginals(t *testing.T) {
	dir := mount(t, "4m")
	path := filepath.Join(dir, "audit.ndjson")
	var log logBuffer
	s, err := Open(t.Context(), Config{Path: path, MaxSize: 1}, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		write(t, s, 100*n+1, 100*n+100)
	}
	s.Close()
	ballast := fill(t, dir)
	s, err = Open(t.Context(), Config{Path: path, MaxSize: 1, Compress: CompressGzip}, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a warning", func() bool { return strings.Contains(log.String(), "they stay as they are") })
	if diff := cmp.Diff([]string{"audit-1.ndjson", "audit-2.ndjson", "audit.ndjson", "ballast"}, listing(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.tidying.wake()
	eventually(t, "compressing", func() bool {
		return cmp.Equal([]string{"audit-1.ndjson.gz", "audit-2.ndjson", "audit.ndjson"}, listing(t, path))
	})
	s.Close()
	if diff := cmp.Diff(numbers(1, 300), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
