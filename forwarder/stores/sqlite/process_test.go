package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// TestMain plays another process when a test started it as one.
func TestMain(m *testing.M) {
	// So that tests have summaries of little, and when they want them.
	stretchEntries, settled, byItself = 5, 0, false
	role, path := os.Getenv("SQLITE_TEST_ROLE"), os.Getenv("SQLITE_TEST_PATH")
	var err error
	switch role {
	case "":
		os.Exit(m.Run())
	case "write":
		byItself = true
		err = writeForEver(path)
	case "prune":
		byItself = true
		err = pruneForEver(path)
	case "read":
		err = readOnce(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// process starts this test binary in a role.
func process(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), "SQLITE_TEST_ROLE="+role, "SQLITE_TEST_PATH="+path)
	c.Stderr = os.Stderr
	return c
}

// writeForEver prints the last sequence of each batch that was written.
func writeForEver(path string) error {
	s, err := Open(context.Background(), Config{Path: path}, nil)
	if err != nil {
		return err
	}
	var t testing.T
	for last := 0; ; last += 30 {
		if err := s.Write(context.Background(), records(&t, last+1, last+30)); err != nil {
			return err
		}
		fmt.Println(last + 30)
	}
}

// readOnce prints the number of entries.
func readOnce(path string) error {
	r, err := OpenReader(context.Background(), path)
	if err != nil {
		return err
	}
	n := 0
	for _, err := range r.Read(context.Background(), forwarder.Query{}) {
		if err != nil {
			return err
		}
		n++
	}
	fmt.Println(n)
	return r.Close()
}

func readInAnotherProcess(t *testing.T, path string) string {
	t.Helper()
	out, err := process(t, "read", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestAKilledWriterLosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.db")
	for round := range 3 {
		c := process(t, "write", path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		acknowledged := 0
		for lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &acknowledged); err != nil {
				t.Fatal(err)
			}
			if acknowledged == 300*(round+1) {
				break
			}
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said before it died
			fmt.Sscan(lines.Text(), &acknowledged)
		}
		c.Wait()

		// A reader alone, with the log as it was left behind.
		r, err := OpenReader(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		got := sequences(t, r, forwarder.Query{})
		if len(got) < acknowledged || len(got)%30 != 0 {
			t.Errorf("%d entries, %d were acknowledged", len(got), acknowledged)
		}
		if diff := cmp.Diff(numbers(1, len(got)), got); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		r.Close()

		s := openStore(t, path)
		if diff := cmp.Diff(got, sequences(t, s, forwarder.Query{})); diff != "" {
			t.Errorf("the writer sees others than the reader (-reader +writer):\n%s", diff)
		}
		checkReceived(t, s, forwarder.Range{Instance: testInstance, First: 1, Last: uint64(len(got))})
		var check string
		if err := s.db.QueryRow("PRAGMA integrity_check").Scan(&check); err != nil || check != "ok" {
			t.Errorf("integrity check: %s, %v", check, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAnotherProcessReadsWhileThisOneWrites(t *testing.T) {
	s := newStore(t)
	for n := range 3 {
		write(t, s, records(t, n*100+1, n*100+100))
		if got, want := readInAnotherProcess(t, s.path), fmt.Sprint(n*100+100); got != want {
			t.Errorf("it read %s entries, want %s", got, want)
		}
	}
	// Its coming and going took nothing away from the writer.
	write(t, s, records(t, 301, 310))
	if diff := cmp.Diff(private, modes(t, s.path)); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := readInAnotherProcess(t, s.path); got != "310" {
		t.Errorf("after closing it read %s entries, want 310", got)
	}
}
