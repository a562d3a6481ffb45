//go:build unix

package file

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// killConfig rotates after each few batches and compresses at once.
func killConfig(path string) Config {
	return Config{Path: path, MaxSize: 60_000, Compress: CompressZstd}
}

// writeForEver continues behind what is stored, and prints the last sequence of each
// batch that was acknowledged. At the nth time of a step, as in "renamed:3", it kills
// itself.
func writeForEver(path, killAt string) error {
	c := killConfig(path)
	point, times, _ := strings.Cut(killAt, ":")
	left, _ := strconv.Atoi(times)
	var mu sync.Mutex
	c.step = func(step string) {
		mu.Lock()
		defer mu.Unlock()
		if step != point {
			return
		}
		if left--; left == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it arrives
		}
	}
	b, err := content(path)
	if err != nil {
		return err
	}
	all, err := sequences(b)
	if err != nil {
		return err
	}
	s, err := Open(context.Background(), c, nil)
	if err != nil {
		return err
	}
	last := 0
	if len(all) > 0 {
		last = max(all[len(all)-1]-7, 0) // a position that was lost repeats some
	}
	for {
		if err := s.Write(context.Background(), records(last+1, last+20)); err != nil {
			return err
		}
		last += 20
		fmt.Println(last)
	}
}

// life starts a writer and returns what it acknowledged before it died. It is killed
// once it has acknowledged enough, if it does not do that itself.
func life(t *testing.T, path, killAt string, enough int) (acknowledged int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), "FILE_TEST_PATH="+path, "FILE_TEST_KILL_AT="+killAt)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 1; lines.Scan(); n++ {
		if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
		if n == enough {
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
			_ = c.Process.Kill()
		}
	}
	if err := c.Wait(); err == nil || c.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("kill at %q: it did not die of that: %v", killAt, err)
	}
	return acknowledged
}

// checkLives holds what all lives together have left: in order but for where one
// began, and without a hole.
func checkLives(t *testing.T, path string, lives, acknowledged int) {
	t.Helper()
	got := stored(t, path)
	back, highest := 0, 0
	for i, n := range got {
		switch {
		case n == highest+1:
			highest = n
		case i > 0 && n != got[i-1]+1:
			back++
		}
		if n > highest || i > 0 && n > got[i-1]+1 {
			t.Fatalf("entry %d follows entry %d", n, got[max(i, 1)-1])
		}
	}
	if highest < acknowledged {
		t.Errorf("%d is the last entry, and %d was acknowledged", highest, acknowledged)
	}
	if back >= lives {
		t.Errorf("entries are repeated at %d places in %d lives", back, lives)
	}
}

func TestAKilledWriterLosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.ndjson")
	acknowledged := 0
	lives := 10
	if testing.Short() {
		lives = 3
	}
	for n := range lives {
		acknowledged = max(acknowledged, life(t, path, "", 5+rand.IntN(20)))
		checkLives(t, path, n+1, acknowledged)
	}
}

func TestDeathAtAnyStepOfARotationLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.ndjson")
	acknowledged, lives := 0, 0
	for _, step := range []string{
		"created", "appended", "closed", "renamed", "compressing", "compressed", "compressed renamed", "original removed",
	} {
		for _, times := range []int{1, 3} {
			if step == "created" && times == 1 && lives > 0 {
				continue
			}
			acknowledged = max(acknowledged, life(t, path, fmt.Sprintf("%s:%d", step, times), -1))
			lives++
			checkLives(t, path, lives, acknowledged)
		}
	}
	s := open(t, killConfig(path))
	eventually(t, "taking up the compression", func() bool {
		all, err := s.names.rotated()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all[:len(all)-1] {
			if r.plain || len(r.packed) != 1 {
				return false
			}
		}
		return true
	})
	for _, name := range listing(t, path) {
		if strings.HasSuffix(name, ".tmp") {
			t.Errorf("%s was left behind", name)
		}
	}
	checkLives(t, path, lives, acknowledged)
}
