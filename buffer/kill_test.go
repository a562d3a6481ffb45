//go:build unix

package buffer

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// victim appends from many goroutines until it is killed, and prints what it
// was told is durable.
func victim(dir string) {
	b, err := Open(dir, Options{SegmentSize: 256 << 10, MaxWait: time.Minute})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	pid := os.Getpid()
	for g := range 16 {
		go func() {
			for i := 0; ; i++ {
				c, err := b.Admit(100, Caller{Known: true})
				if err != nil {
					panic(err)
				}
				id := fmt.Sprintf("%d-%d-%d", pid, g, i)
				if err := c.Begin([]byte("intent " + id)); err != nil {
					panic(err)
				}
				fmt.Println("begun", id)
				if err := c.Append([]byte("entry " + id)); err != nil {
					panic(err)
				}
				fmt.Println("ended", id)
				c.Release()
			}
		}()
	}
	select {}
}

func TestAKilledProcessLosesNothingThatItWasToldIsDurable(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	begun, ended := map[string]bool{}, map[string]bool{}
	for range 5 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "BUFFER_TEST_VICTIM="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// It is killed once enough calls have ended, however slow the disk is,
		// and then at any moment between one commit and the next.
		kill := func() {
			time.Sleep(rand.N(20 * time.Millisecond))
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
		enough := len(ended) + 30
		for lines := bufio.NewScanner(out); lines.Scan(); {
			switch word, id, _ := strings.Cut(lines.Text(), " "); word {
			case "begun":
				begun[id] = true
			case "ended":
				ended[id] = true
				if len(ended) == enough {
					go kill()
				}
			default:
				t.Fatal(lines.Text())
			}
		}
		_ = cmd.Wait()
		if len(ended) < enough {
			t.Fatalf("the process ended by itself after %d calls", len(ended))
		}
	}
	b := open(t, dir, Options{})
	if !b.Recovered().Unclean {
		t.Error("a kill was taken for a clean end")
	}
	stored := map[string]string{}
	for _, e := range entries(t, b, 1) {
		kind, id, _ := strings.Cut(e, " ")
		if _, twice := stored[id]; twice {
			t.Errorf("%s is stored twice", id)
		}
		stored[id] = kind
	}
	for id := range begun {
		if stored[id] == "" {
			t.Errorf("%s was begun and is not stored", id)
		}
	}
	for id := range ended {
		if stored[id] != "entry" {
			t.Errorf("%s ended and is stored as %q", id, stored[id])
		}
	}
	checkConserved(t, b)
	t.Logf("%d begun, %d ended, %d stored", len(begun), len(ended), len(stored))
}
