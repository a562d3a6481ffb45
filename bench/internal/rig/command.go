package rig

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// commandTimeout bounds `caddy audit …`: the largest export here takes a few
// seconds.
const commandTimeout = 2 * time.Minute

// Status is the output of `caddy audit status --json`.
type Status struct {
	Instance    string        `json:"instance"`
	Head        uint64        `json:"head"`
	OpenIntents uint64        `json:"open_intents"`
	Calls       Calls         `json:"calls"`
	Stores      []StoreStatus `json:"stores"`
	Conserved   bool          `json:"conserved"`

	// Raw is the line as it was printed.
	Raw string `json:"-"`
}

// Calls are the terms of the calls' equation.
type Calls struct {
	Seen     uint64 `json:"seen"`
	Recorded uint64 `json:"recorded"`
	Excluded uint64 `json:"excluded"`
	Refused  uint64 `json:"refused"`
	Passed   uint64 `json:"passed"`
	Folded   uint64 `json:"folded"`
	Open     uint64 `json:"open"`
	Holds    bool   `json:"holds"`
}

// StoreStatus are the terms of one store's equation.
type StoreStatus struct {
	Name        string `json:"name"`
	Start       uint64 `json:"start"`
	Position    uint64 `json:"position"`
	Delivered   uint64 `json:"delivered"`
	Filtered    uint64 `json:"filtered"`
	Quarantined uint64 `json:"quarantined"`
	Skipped     uint64 `json:"skipped"`
	Damaged     uint64 `json:"damaged"`
	Pending     uint64 `json:"pending"`
	Holds       bool   `json:"holds"`
}

// Broken says what does not add up, or nothing. It does the sums itself: the
// product's own verdict is what is being examined.
func (s Status) Broken() []string {
	var broken []string
	c := s.Calls
	if sum := c.Recorded + c.Excluded + c.Refused + c.Passed + c.Folded + c.Open; c.Seen != sum {
		broken = append(broken, fmt.Sprintf("calls: seen %d, accounted for %d", c.Seen, sum))
	}
	for _, t := range s.Stores {
		sum := t.Delivered + t.Filtered + t.Quarantined + t.Skipped + t.Damaged + t.Pending
		if s.Head < t.Start || s.Head-t.Start != sum {
			broken = append(broken, fmt.Sprintf("store %s: head %d − start %d, accounted for %d", t.Name, s.Head, t.Start, sum))
		}
		if t.Position > s.Head {
			broken = append(broken, fmt.Sprintf("store %s: position %d lies beyond the head %d", t.Name, t.Position, s.Head))
		}
	}
	if len(s.Stores) == 0 {
		broken = append(broken, "status names no store")
	}
	if !s.Conserved && len(broken) == 0 {
		broken = append(broken, "the terms add up, but conserved is false")
	}
	return broken
}

// Drained says that every call has ended and every entry was delivered.
func (s Status) Drained() bool {
	for _, t := range s.Stores {
		if t.Pending > 0 {
			return false
		}
	}
	return s.Calls.Open == 0 && s.OpenIntents == 0
}

// Delivered is how far every store got, and so an export must reach. The
// product's last entry, that it stopped, is made after delivery has ended and
// waits for the next start.
func (s Status) Delivered() uint64 {
	n := s.Head
	for _, t := range s.Stores {
		n = min(n, t.Position)
	}
	return n
}

// Status asks the site, running or not, for its conservation numbers.
func (s *Site) Status(ctx context.Context) (Status, error) {
	var out, line bytes.Buffer
	failed := s.Audit(ctx, &out, "status", "--json")
	// The command fails when the equations do not hold; what it printed is
	// then what matters.
	if err := json.Compact(&line, out.Bytes()); err != nil {
		return Status{}, errors.Join(failed, fmt.Errorf("decoding the status %.200q: %w", out.String(), err))
	}
	st := Status{Raw: line.String()}
	if err := json.Unmarshal(line.Bytes(), &st); err != nil {
		return Status{}, errors.Join(failed, fmt.Errorf("decoding the status %.200q: %w", st.Raw, err))
	}
	if failed != nil && st.Conserved {
		return st, failed
	}
	return st, nil
}

// Drain waits until a running site has nothing open and nothing pending.
func (s *Site) Drain(ctx context.Context, timeout time.Duration) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last Status
	for {
		st, err := s.Status(ctx)
		if err == nil {
			if last = st; st.Drained() {
				return st, nil
			}
		}
		select {
		case <-ctx.Done():
			return last, errors.Join(fmt.Errorf("draining for %s: still pending or open: %s", timeout, last.Raw), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Again gives a stopped site one more orderly life, which delivers what the
// last one wrote when it ended: a gap, for instance, which is written some time
// after the last call has passed.
func (s *Site) Again(ctx context.Context, ready, drain, stop time.Duration) error {
	p, err := s.Start(ctx)
	if err != nil {
		return err
	}
	defer p.Kill()
	if err := p.Ready(ctx, ready); err != nil {
		return err
	}
	if _, err := s.Drain(ctx, drain); err != nil {
		return err
	}
	return p.Stop(stop)
}

// Export writes the site's entries to a file in its directory and reads them
// back. The file is kept as evidence.
func (s *Site) Export(ctx context.Context, name string) ([]Entry, error) {
	path := filepath.Join(s.Dir, name+".ndjson")
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("exporting: %w", err)
	}
	defer f.Close()
	if err := s.Audit(ctx, f, "export", "--format", "ndjson"); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("reading the export back: %w", err)
	}
	entries, err := Decode(f)
	if err != nil {
		return nil, fmt.Errorf("reading the export %s: %w", path, err)
	}
	return entries, nil
}

// Audit runs `caddy audit …` and writes its standard output to w.
func (s *Site) Audit(ctx context.Context, w io.Writer, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	args = append(append([]string{"audit"}, args...), "--config", s.Caddyfile)
	cmd := exec.CommandContext(ctx, s.Caddy, args...)
	cmd.Dir, cmd.Env = s.Dir, s.env
	cmd.Stdout = w
	var words bytes.Buffer
	cmd.Stderr = &words
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running caddy %s: %w: %.2000s", strings.Join(args, " "), err, words.String())
	}
	return nil
}

// captured is what of an entry's line was captured, up to its origin: the stamp behind
// that stands beside the entry in some stores, and in others not at all. A quote in a
// text is escaped, so no text can look like an origin.
func captured(line []byte) []byte {
	i := bytes.LastIndex(line, []byte(`"origin":{`))
	if i < 0 {
		return line
	}
	end := bytes.IndexByte(line[i:], '}')
	if end < 0 {
		return line
	}
	return line[:i+end]
}

// Decode reads entries, one JSON object a line. A line that is no object is
// an error: an export that is cut must not pass for a short one.
func Decode(r io.Reader) ([]Entry, error) {
	var entries []Entry
	br := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, err := br.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("line %d is cut short: %w", n, err)
		}
		e := Entry{Sum: sha256.Sum256(captured(line))}
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("line %d is no entry: %w: %.200q", n, err, line)
		}
		entries = append(entries, e)
	}
}
