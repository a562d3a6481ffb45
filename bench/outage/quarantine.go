package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// quarantine has a receiver that refuses each batch with a marked entry in it, and
// then one that refuses everything.
func (o options) quarantine(ctx context.Context, dir string) ([]*result, error) {
	r := &result{Name: "quarantine"}
	s, err := newStage(o, r, dir)
	if err != nil {
		return []*result{r}, err
	}
	of, err := newReceiver(filepath.Join(dir, "received.ndjson"), httpKind, "")
	if err != nil {
		return []*result{r}, errors.Join(err, s.close())
	}
	s.stores = append(s.stores, of)
	s.expected = func(e rig.Entry) bool {
		g, ok := gapOf(e)
		return ok && g.Reason == reasonDropped && g.Store == httpKind
	}
	s.refuses = true
	q := &quarantine{stage: s, of: of}
	err = s.play(ctx, q.refused, q.settle)
	return []*result{r}, err
}

type quarantine struct {
	*stage
	of *httpStore
}

// held is a line of `caddy audit quarantine list --json`.
type held struct {
	Store    string    `json:"store"`
	Sequence uint64    `json:"sequence"`
	Entry    rig.Entry `json:"entry"`
}

func (q *quarantine) list(ctx context.Context) ([]held, error) {
	var out bytes.Buffer
	if err := q.site.Audit(ctx, &out, "quarantine", "list", "--json"); err != nil {
		return nil, err
	}
	var all []held
	for dec := json.NewDecoder(&out); ; {
		var h held
		if err := dec.Decode(&h); err != nil {
			if dec.More() {
				return nil, fmt.Errorf("reading what is in quarantine: %w", err)
			}
			return all, nil
		}
		all = append(all, h)
	}
}

// refused first lets everything be refused, which is nobody's fault but the
// receiver's, and then what is marked.
func (q *quarantine) refused(ctx context.Context) error {
	long := min(q.Down, 10*time.Second)
	q.say("the receiver refuses everything for %s", long)
	q.of.refuse(refuseAll)
	if err := q.wait(ctx, long); err != nil {
		return err
	}
	all, err := q.list(ctx)
	if err != nil {
		return err
	}
	for _, h := range all {
		q.Note(&q.WrongQuarantine, "entry %s is in quarantine, although the receiver refused everything", h.Entry.ID)
	}
	q.say("the receiver refuses what is marked for %s", long)
	q.of.refuse(refuseMarked)
	return q.wait(ctx, long)
}

// settle looks at what is in quarantine when everything else is delivered, has one
// half delivered and gives the other up.
func (q *quarantine) settle(ctx context.Context) error {
	all, err := q.list(ctx)
	if err != nil {
		return err
	}
	q.Quarantined = len(all)
	in := map[uint64]bool{}
	var retry, drop []string
	for i, h := range all {
		in[h.Sequence] = true
		if !marked(&h.Entry) || h.Store != httpKind || h.Entry.Origin == nil || h.Entry.Origin.Sequence != h.Sequence {
			q.Note(&q.WrongQuarantine, "entry %s, sequence %d, is in quarantine for store %s, and was not to be refused", h.Entry.ID, h.Sequence, h.Store)
		}
		if n := strconv.FormatUint(h.Sequence, 10); i%2 == 0 {
			retry = append(retry, n)
		} else {
			drop = append(drop, n)
		}
	}
	if len(drop) == 0 {
		q.Note(&q.NoOutage, "%d entries are in quarantine, so that nothing was shown", len(all))
		return nil
	}
	if err := q.complete(ctx, in); err != nil {
		return err
	}
	q.of.refuse(refuseNothing)
	q.say("%d are in quarantine; %d are tried again and %d given up", len(all), len(retry), len(drop))
	if err := q.resolve(ctx, append([]string{"retry", httpKind}, retry...)); err != nil {
		return err
	}
	q.Retried = len(retry)
	if err := q.resolve(ctx, append([]string{"drop", httpKind, "--reason", "bench"}, drop...)); err != nil {
		return err
	}
	q.Dropped = len(drop)
	if all, err = q.list(ctx); err != nil {
		return err
	}
	for _, h := range all {
		q.Note(&q.WrongQuarantine, "entry %s, sequence %d, is still in quarantine", h.Entry.ID, h.Sequence)
	}
	return nil
}

// codeQuarantined is the action of entries that tell of one in quarantine.
const codeQuarantined = "audit.quarantined"

// complete looks for marked entries that are neither in quarantine nor had arrived
// before any was refused, and for others that did not arrive.
func (q *quarantine) complete(ctx context.Context, in map[uint64]bool) error {
	arrived, err := q.of.arrivals(ctx)
	if err != nil {
		return err
	}
	there := map[uint64]bool{}
	for _, e := range arrived {
		there[e.Origin.Sequence] = true
	}
	all, err := q.stores[0].arrivals(ctx)
	if err != nil {
		return err
	}
	st, err := q.site.Status(ctx)
	if err != nil {
		return err
	}
	position := st.Delivered()
	told := 0
	for _, e := range all {
		if e.Action.Code == codeQuarantined {
			told++
		}
		n := e.Origin.Sequence
		switch {
		case n > position:
		case in[n] && there[n]:
			q.Note(&q.WrongQuarantine, "entry %s, sequence %d, is in quarantine and was taken", e.ID, n)
		case !in[n] && !there[n]:
			q.Note(&q.WrongQuarantine, "entry %s, sequence %d, marked: %t, is neither in quarantine nor was it taken", e.ID, n, marked(&e))
		}
	}
	if told != len(in) {
		q.Note(&q.WrongQuarantine, "%d entries are in quarantine, and %d entries tell of one", len(in), told)
	}
	return nil
}

func (q *quarantine) resolve(ctx context.Context, args []string) error {
	var out bytes.Buffer
	err := q.site.Audit(ctx, &out, append([]string{"quarantine"}, args...)...)
	if err == nil {
		_, err = q.until(ctx, 10*time.Second, func(rig.Status) bool { return true }) // conserved in between, too
	}
	return err
}
