package buffer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// As long as the process lives, nobody can take entries away by deleting files.
func TestFilesThatAreDeletedOrReplacedAreWrittenAgain(t *testing.T) {
	t.Parallel()
	for name, vandal := range map[string]func(dir string, files []string) error{
		"a sealed one":    func(_ string, files []string) error { return os.Remove(files[1]) },
		"the active one":  func(_ string, files []string) error { return os.Remove(files[len(files)-1]) },
		"the lock":        func(dir string, _ []string) error { return os.Remove(filepath.Join(dir, lockName)) },
		"the marker":      func(dir string, _ []string) error { return os.Remove(filepath.Join(dir, markerName)) },
		"everything":      func(dir string, _ []string) error { return takeAway(dir) },
		"another content": func(_ string, files []string) error { return replaceFile(files[1]) },
		"another active":  func(_ string, files []string) error { return replaceFile(files[len(files)-1]) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			o := Options{SegmentSize: 128 << 10, Gap: (&gaps{}).entry}
			b := open(t, dir, o)
			b.Hold("store")
			var want []string
			put := func(n int) {
				for range n {
					p := fmt.Sprintf("entry %d %01000d", len(want), 0)
					if err := b.Append([]byte(p)); err != nil {
						t.Fatal(err)
					}
					want = append(want, p)
				}
			}
			put(400)
			files, err := filepath.Glob(filepath.Join(dir, "seg-*.db"))
			if err != nil || len(files) < 3 {
				t.Fatal(files, err)
			}
			if err := vandal(dir, files); err != nil {
				t.Fatal(err)
			}
			awaitTrue(t, "all files are there again", func() bool {
				b.segMu.Lock()
				defer b.segMu.Unlock()
				for _, s := range b.segments {
					s.mu.Lock()
					ok := same(s.path, s.file)
					s.mu.Unlock()
					if !ok {
						return false
					}
				}
				for _, name := range []string{lockName, markerName} {
					if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
						return false
					}
				}
				return true
			})
			put(10)
			shut(t, b)
			b = open(t, dir, o)
			got := entries(t, b, 1)
			if len(got) != len(want) {
				t.Fatalf("%d entries, want %d", len(got), len(want))
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("entry %d is another", i)
				}
			}
		})
	}
}

func replaceFile(path string) error {
	if err := os.WriteFile(path+".new", []byte("something else"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func TestACopyBeginsANewOrigin(t *testing.T) {
	dir := newDir(t)
	fill(t, dir, 20, true)
	b := open(t, dir, Options{})
	if b.Instance(1) != b.Instance(b.Stats().Head) {
		t.Error("the same directory has two origins")
	}
	first := b.Instance(1)
	shut(t, b)

	other := newDir(t)
	if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(other, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, adopt := range []bool{true, false} {
		told := &gaps{}
		b = open(t, other, Options{Gap: told.entry, Adopt: adopt})
		head := b.Stats().Head
		if homeOf(b.lock.File) == "" {
			t.Log("this system does not tell a copy from the original")
			return
		}
		if adopt {
			if b.Instance(head) != first || len(told.of(GapOrigin)) > 0 {
				t.Error("an adopted copy has another origin")
			}
			shut(t, b)
			continue
		}
		if b.Instance(1) != first {
			t.Error("entries of before have another origin")
		}
		if b.Instance(head) == first || b.Stats().Instance != b.Instance(head) {
			t.Error("a copy goes on under the original's origin")
		}
		if g := told.of(GapOrigin); len(g) != 1 || g[0].Instance != first || g[0].Cause != "copied" {
			t.Errorf("gaps %+v", g)
		}
	}
}

func TestABufferThatIsBehindAStoreBeginsANewOrigin(t *testing.T) {
	dir := newDir(t)
	fill(t, dir, 20, true)
	told := &gaps{}
	b := open(t, dir, Options{Gap: told.entry})
	first, head := b.Instance(1), b.Stats().Head
	b.Witness("behind", 17)
	if err := b.Append([]byte("x")); err != nil || b.Instance(head+1) != first {
		t.Fatal("a store that is behind makes a new origin", err)
	}
	b.Witness("behind", head+1) // by now it has what this process delivered
	if b.Instance(head+1) != first {
		t.Fatal("a store that was delivered to makes a new origin")
	}
	b.Witness("store", head+100)
	b.Witness("other", head+100)
	if err := b.Append([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if b.Instance(20) != first || b.Instance(21) == first { // the calls without an end
		t.Errorf("the new origin does not begin with what this process has recorded")
	}
	if g := told.of(GapOrigin); len(g) != 1 || g[0].Cause != "ahead" {
		t.Errorf("gaps %+v", g)
	}
}

// openWithoutItsLock opens a directory of a buffer that is open, whose lock somebody deletes.
// The buffer might have made it anew before it is taken.
func openWithoutItsLock(t *testing.T, dir string) *Buffer {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		if err := os.Remove(filepath.Join(dir, lockName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		b, err := Open(dir, Options{MaxWait: time.Minute})
		if err == nil {
			t.Cleanup(func() { _ = b.Close(context.Background()) })
			return b
		}
		if !errors.Is(err, ErrLocked) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// takeAway deletes a directory in one step: into one that is emptied file by file, the buffer
// may put some again before it is removed itself.
func takeAway(dir string) error {
	return errors.Join(os.Rename(dir, dir+".gone"), os.RemoveAll(dir+".gone"))
}

// Two servers on one directory must not both acknowledge.
func TestWhoHasLostTheLockToAnotherAcknowledgesNothing(t *testing.T) {
	dir := newDir(t)
	b := open(t, dir, Options{})
	if err := b.Append([]byte("before")); err != nil {
		t.Fatal(err)
	}
	b.Configure(Options{MaxWait: 300 * time.Millisecond})
	other := openWithoutItsLock(t, dir)
	if err := b.Append([]byte("ours")); err == nil {
		t.Error("an entry is acknowledged that the other server does not have")
	}
	if err := other.Append([]byte("theirs")); err != nil {
		t.Fatal(err)
	}
	shut(t, other)
	if err := b.Append([]byte("ours again")); err == nil {
		t.Error("an entry is acknowledged under a number that is taken")
	}
	awaitTrue(t, "it says what to do", func() bool {
		why := b.Stats().Failing
		return why != nil && strings.Contains(why.Error(), "restart")
	})
	_ = b.Close(t.Context())
	b = open(t, dir, Options{})
	if got := entries(t, b, 1); !slices.Equal(got, []string{"before", "theirs"}) {
		t.Errorf("%q", got)
	}
}
