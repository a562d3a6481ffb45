package file

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAFileThatSomebodyRemovedReplacedOrTruncatedIsBegunAnew(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(path string) error
		want []int
	}{
		"removed": {os.Remove, numbers(6, 10)},
		"moved":   {func(path string) error { return os.Rename(path, path+".1") }, numbers(6, 10)},
		"replaced": {func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, record(99).JSON, 0o600))
		}, numbers(6, 10)},
		"truncated": {func(path string) error { return os.Truncate(path, 0) }, numbers(6, 10)},
		"cut":       {func(path string) error { return os.Truncate(path, int64(len(record(1).JSON))+40) }, append([]int{1}, numbers(6, 10)...)},
		"half a line": {func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString("{")
			return err
		}, numbers(1, 10)},
	} {
		path := newPath(t)
		var log logBuffer
		s, err := Open(t.Context(), Config{Path: path}, log.logger())
		if err != nil {
			t.Fatal(err)
		}
		write(t, s, 1, 5)
		if err := c.do(path); err != nil {
			t.Fatal(err)
		}
		write(t, s, 6, 8)
		write(t, s, 9, 10)
		s.Close()
		if diff := cmp.Diff(c.want, stored(t, path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if !strings.Contains(log.String(), "by another program") {
			t.Errorf("%s: the log says nothing of it:\n%s", name, log.String())
		}
	}
}

func TestABatchThatSomebodyRemovesWhileItIsWrittenIsNotAcknowledged(t *testing.T) {
	path := newPath(t)
	remove := false
	s := open(t, Config{Path: path, step: func(step string) {
		if step == "appended" && remove {
			os.Remove(path)
		}
	}})
	write(t, s, 1, 5)
	remove = true
	if err := s.Write(t.Context(), records(6, 10)); err == nil || !strings.Contains(err.Error(), "while it was written to") {
		t.Errorf("it was acknowledged: %v", err)
	}
	remove = false
	write(t, s, 6, 10)
	if diff := cmp.Diff(numbers(6, 10), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// follower reads as tail -F does: on in what it has open, to its end, and then in what
// the path names.
type follower struct {
	path string
	f    *os.File
	rest []byte
	got  []byte
}

// poll reads what there is. It reports whether there was anything.
func (f *follower) poll(t *testing.T) bool {
	t.Helper()
	if f.f == nil {
		file, err := os.Open(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
		if err != nil {
			t.Error(err)
			return false
		}
		f.f = file
	}
	// Asked before reading: what is in the file by then is all that ever will be.
	named, err := os.Stat(f.path)
	open, _ := f.f.Stat()
	gone := err != nil || !os.SameFile(named, open)
	b, err := io.ReadAll(f.f)
	if err != nil {
		t.Error(err)
	}
	f.rest = append(f.rest, b...)
	if i := bytes.LastIndexByte(f.rest, '\n'); i >= 0 {
		f.got = append(f.got, f.rest[:i+1]...)
		f.rest = append([]byte(nil), f.rest[i+1:]...)
	}
	if gone {
		if len(f.rest) > 0 {
			t.Errorf("a file ends in half a line: %.80q", f.rest)
		}
		f.f.Close()
		f.f, f.rest = nil, nil
	}
	return len(b) > 0 || gone
}

func TestAReaderThatFollowsSeesEachLineWholeAndInOrder(t *testing.T) {
	path := newPath(t)
	rotated := make(chan struct{})
	s := open(t, Config{Path: path, MaxSize: 100_000, Compress: CompressZstd})
	done := make(chan struct{})
	f := &follower{path: path}
	go func() {
		defer close(done)
		for {
			if f.poll(t) {
				continue
			}
			select {
			case <-rotated:
				for f.poll(t) {
				}
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	const batches = 60
	for n := range batches {
		write(t, s, 25*n+1, 25*n+25)
		// One that is not two rotations behind misses nothing.
		if n%4 == 3 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	close(rotated)
	<-done
	if f.f != nil {
		f.f.Close()
	}
	got, err := sequences(f.got)
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, n := range got {
		if n <= last {
			t.Fatalf("entry %d after %d", n, last)
		}
		last = n
	}
	if last != 25*batches {
		t.Errorf("the last that it saw is %d", last)
	}
	if err := s.Close(); err != nil { // or a file could be packed while it is looked for
		t.Error(err)
	}
	if diff := cmp.Diff(numbers(1, 25*batches), stored(t, path)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
