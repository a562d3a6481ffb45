package forwarder

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// preparingStore panics where a test says.
type preparingStore struct {
	fakeStore
	prepare func()
}

func (s *preparingStore) Prepare(context.Context, uint64) error {
	if s.prepare != nil {
		s.prepare()
	}
	return nil
}

// No store may stop the traffic, and a panic in a goroutine ends the process. Write is
// guarded; this is about what else of a store's is called: opening it, and its format.
func TestAPanicOfAStoreThatIsOpenedOrOfItsFormatDoesNotEndTheProcess(t *testing.T) {
	where := os.Getenv("PANIC_IN")
	if where == "" {
		for _, where := range []string{"prepare", "format"} {
			cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
			cmd.Env = append(os.Environ(), "PANIC_IN="+where)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("a panic in %s ended the process: %v\n%s", where, err, strings.Join(strings.SplitN(string(out), "\n", 4)[:3], "\n"))
			}
		}
		return
	}
	synctest.Test(t, func(t *testing.T) {
		source, sink := newFakeSource(), &preparingStore{}
		source.add(t, 1)
		o := Options{}
		if where == "prepare" {
			sink.prepare = func() { panic("a driver's mistake") }
		} else {
			o.Format = func([]byte) ([]byte, error) { panic("a field that nobody thought of") }
		}
		h := startStore(t, source, sink, o)
		time.Sleep(time.Minute)
		h.end()
	})
}
