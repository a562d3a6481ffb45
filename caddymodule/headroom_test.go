package caddymodule

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
)

func TestHeadroomRespectsWhatTheOperatorHasSet(t *testing.T) {
	for _, c := range []struct {
		name  string
		gogc  bool
		limit int64
		want  int64
	}{
		{"nothing is set", false, math.MaxInt64, 16 << 20},
		{"GOGC is set", true, math.MaxInt64, 0},
		{"a container of 1 GiB", false, 1 << 30, 16 << 20},
		{"a container of 128 MiB", false, 128 << 20, 8 << 20},
		{"a limit that leaves nothing", false, 0, 0},
	} {
		if got := headroomFor(c.gogc, c.limit); got != c.want {
			t.Errorf("%s: holding %d bytes, want %d", c.name, got, c.want)
		}
	}
}

// TestMain is also the process that TestHeadroomMovesTheCollector starts.
func TestMain(m *testing.M) {
	if os.Getenv("HEADROOM_HELPER") != "" {
		sayHeadroom()
		return
	}
	os.Exit(m.Run())
}

// sayHeadroom says by how many bytes more the heap is in use with the headroom.
func sayHeadroom() {
	live := func() int64 {
		runtime.GC()
		runtime.GC() // what pools keep, they keep for one
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		return int64(sample[0].Value.Uint64())
	}
	before := live()
	holdHeadroom()
	fmt.Printf("headroom %d\n", live()-before)
}

// The process must not collect before the heap has grown by the headroom as well, unless GOGC
// is set. In a process of its own, since others' garbage would be counted too.
func TestHeadroomMovesTheCollector(t *testing.T) {
	for gogc, want := range map[string]int64{"": headroom, "GOGC=100": 0} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "GOGC=") || strings.HasPrefix(s, "GOMEMLIMIT=") })
		cmd.Env = append(cmd.Env, "HEADROOM_HELPER=1")
		if gogc != "" {
			cmd.Env = append(cmd.Env, gogc)
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, said, _ := strings.Cut(string(out), "headroom ")
		var held int64
		if _, err := fmt.Sscan(said, &held); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if held < want-1<<20 || held > want+1<<20 {
			t.Errorf("with %q the collector counts %d bytes more in use, want %d", gogc, held, want)
		}
	}
}
