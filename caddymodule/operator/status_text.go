package operator

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Text is the status for people.
func (s *Status) Text() string {
	var b strings.Builder
	yes := func(ok bool) string {
		if ok {
			return "holds"
		}
		return "DOES NOT HOLD"
	}
	n := func(v uint64) string { return humanize.Comma(int64(v)) }
	equation := func(terms []Term, last Term) string {
		var parts []string
		for _, t := range append(terms, last) {
			parts = append(parts, n(t.N)+" "+t.Name)
		}
		return strings.Join(parts, " + ")
	}
	state := "running"
	if !s.Live {
		state = "not running; read from its files"
	}
	fmt.Fprintf(&b, "server   %s\n", state)
	fmt.Fprintf(&b, "buffer   %s: %s in %d segment(s), newest entry %s", s.Directory, humanize.IBytes(uint64(s.BufferBytes)), s.Segments, n(s.Head))
	if s.Live {
		fmt.Fprintf(&b, ", oldest pending %.1fs", s.OldestPendingSeconds)
	}
	b.WriteByte('\n')
	line := func(format string, args ...any) { fmt.Fprintf(&b, "         "+format+"\n", args...) }
	if s.Failing != "" {
		line("the disk fails: %s", s.Failing)
	}
	if s.Slow {
		line("the disk keeps calls waiting for longer than max_wait")
	}
	if s.PassingSince != nil {
		line("calls pass unrecorded since %s", s.PassingSince.Format(time.RFC3339))
	}
	if s.PassUntil != nil {
		line("calls that cannot be recorded pass until %s, by order", s.PassUntil.Format(time.RFC3339))
	}
	if s.Damaged > 0 {
		line("%s entries were found damaged; audit.gap entries say which", n(s.Damaged))
	}
	fmt.Fprintf(&b, "calls    %s: %s seen = %s\n", yes(s.Calls.Holds), n(s.Calls.Seen),
		equation(s.Calls.Terms(), Term{"open", uint64(s.Calls.Open)}))
	for _, st := range s.Stores {
		fmt.Fprintf(&b, "%-8s %s: %s entries = %s\n", st.Name, yes(st.Holds), n(s.Head-st.Start),
			equation(st.Terms(), Term{"pending", st.Pending}))
		if st.FailingSince != nil {
			fmt.Fprintf(&b, "         failing since %s: %s\n", st.FailingSince.Format(time.RFC3339), st.LastError)
		}
		if st.Quarantined > 0 {
			line("%s of its entries are in quarantine: see caddy audit quarantine list %s", n(st.Quarantined), st.Name)
		}
		switch {
		case st.Configured:
		case st.KeptUntil != nil:
			line("not in the configuration; kept for it until %s", st.KeptUntil.Format(time.RFC3339))
		default:
			line("not in the configuration")
		}
	}
	return b.String()
}
