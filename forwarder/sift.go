package forwarder

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

const (
	// maxSuspects is how many entries may be refused alone before any is accepted,
	// until others are tried that lie further on.
	maxSuspects = 16
	// maxSamples is how many of those are tried. When the store takes none of them
	// either, it refuses everything for all that can be told.
	maxSamples = 8
	// maxBeyond is how many are tried then that lie beyond the batch.
	maxBeyond = 3
	// What is read at least while there is a suspicion, this and siftBytes, so that there
	// is something to compare with. Writes are not larger for that.
	siftEntries = 4 * (maxSuspects + maxSamples)
)

// siftBytes is a variable so that a test needs no entries of a mebibyte.
var siftBytes = 8 << 20

// suspicion is what is known of the entries from the position on, once a store has
// refused a batch. A store that is broken refuses everything, and its entries must not
// end in quarantine for that. So an entry goes there only when three things have
// happened in this order: the store has refused it alone; it has accepted an entry that
// it had not accepted before, since a repeat may cost it nothing; and it has refused the
// first one again.
//
// It lives as long as Run, whose goroutine owns it, so that a store that fails in
// between is not asked everything anew.
type suspicion struct {
	// ahead are the entries beyond the position that were accepted.
	ahead map[uint64]bool
	// suspects are those that were refused alone.
	suspects map[uint64]suspect
	// accepted counts the entries that were accepted for the first time while there
	// was a suspicion.
	accepted uint64
}

type suspect struct {
	reason error
	// after is what accepted was when the entry was refused.
	after uint64
	// condemned says that it was refused again after that. It waits for the
	// quarantine to take it.
	condemned bool
}

func (s *suspicion) forget() { s.ahead, s.suspects = map[uint64]bool{}, map[uint64]suspect{} }

func (s *suspicion) any() bool { return len(s.ahead)+len(s.suspects) > 0 }

func (s *suspicion) known(sequence uint64) bool {
	_, suspected := s.suspects[sequence]
	return suspected || s.ahead[sequence]
}

// sifting is one attempt to find which entries of a batch a store refuses.
type sifting struct {
	*Forwarder
	b *batch
	// before is what accepted was when it began, and refused are the entries that it
	// has found suspect.
	before  uint64
	refused []uint64
}

// sift delivers what of the batch the store takes, and puts the rest into quarantine.
// An error leaves the batch partly settled. The whole of it was refused if why is set.
func (f *Forwarder) sift(ctx context.Context, b *batch, why error) error {
	s := &sifting{Forwarder: f, b: b, before: f.suspicion.accepted}
	var err error
	if why != nil {
		err = s.divide(ctx, 0, len(b.records), why)
	} else {
		err = s.unknown(ctx)
	}
	if settled := s.conclude(ctx, err); err == nil {
		err = settled
	}
	return err
}

// unknown tries each run of records of which nothing is known.
func (s *sifting) unknown(ctx context.Context) error {
	for i := 0; i < len(s.b.records); i++ {
		j := i
		for j < len(s.b.records) && j-i < s.ceiling && !s.suspicion.known(s.b.records[j].Sequence) {
			j++
		}
		if j == i {
			continue
		}
		if err := s.run(ctx, i, j); err != nil {
			return err
		}
		i = j - 1
	}
	return nil
}

// run tries records i to j, together and then apart.
func (s *sifting) run(ctx context.Context, i, j int) error {
	err := s.try(ctx, i, j)
	if isRefused(err) {
		return s.divide(ctx, i, j, err)
	}
	return err
}

// divide finds out about records i to j, which were refused together.
func (s *sifting) divide(ctx context.Context, i, j int, why error) error {
	if j-i > 1 {
		mid := (i + j) / 2
		if err := s.run(ctx, i, mid); err != nil {
			return err
		}
		return s.run(ctx, mid, j)
	}
	s.suspect(i, why)
	if len(s.refused) < maxSuspects || s.suspicion.accepted > s.before {
		return nil
	}
	return s.sample(ctx, j, why)
}

func (s *sifting) suspect(i int, why error) {
	sequence := s.b.records[i].Sequence
	s.suspicion.suspects[sequence] = suspect{reason: why, after: s.suspicion.accepted}
	s.refused = append(s.refused, sequence)
}

// sample looks for one entry that the store accepts behind the first n.
func (s *sifting) sample(ctx context.Context, n int, why error) error {
	left := len(s.b.records) - n
	for _, i := range rand.Perm(left)[:min(maxSamples, left)] { //nolint:gosec // which entries are tried is no secret
		i += n
		if s.suspicion.known(s.b.records[i].Sequence) {
			continue
		}
		err := s.try(ctx, i, i+1)
		if !isRefused(err) {
			return err
		}
		s.suspect(i, err)
	}
	if found, err := s.beyond(ctx); found || err != nil {
		return err
	}
	// Nothing is wrong with these.
	for _, sequence := range s.refused {
		delete(s.suspicion.suspects, sequence)
	}
	return fmt.Errorf("the store refuses each of %d entries that it was given alone, so that it is the store that has to be mended: %w", len(s.refused), why)
}

// beyond looks for one entry that the store accepts further on than the batch reaches,
// for whoever can make entries that it refuses can make many in a row: the newest one,
// and some at random.
func (s *sifting) beyond(ctx context.Context) (found bool, err error) {
	head, err := s.source.Wait(ctx, s.b.last-1) // at once: the batch is there
	if err != nil || head <= s.b.last {
		return false, err
	}
	for n := range maxBeyond {
		from, within := head, uint64(1)
		switch {
		case n > 0:
			from, within = s.b.last+1+rand.Uint64N(head-s.b.last), siftEntries //nolint:gosec // which are tried is no secret
		case s.o.Filter != nil:
			from, within = max(s.b.last+1, head-min(head, maxScan)+1), maxScan
		}
		r, there := s.pick(from, from+within-1, n == 0)
		if !there || s.suspicion.known(r.Sequence) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if err := s.write(ctx, []Record{r}); !isRefused(err) {
			if err == nil {
				s.suspicion.ahead[r.Sequence] = true
				s.suspicion.accepted++
			}
			return err == nil, err
		}
	}
	return false, nil
}

// pick reads one record of a range, the first or the last one that the filter takes.
func (f *Forwarder) pick(from, to uint64, last bool) (picked Record, there bool) {
	_ = f.source.Read(from, func(sequence uint64, payload []byte) bool {
		r, err := NewRecord(f.source.Instance(sequence), sequence, payload)
		if err == nil && f.o.Stamper != nil {
			var ok bool
			if ok, err = f.stamp(&r); !ok {
				return sequence < to && (last || !there)
			}
		}
		if err == nil && (f.o.Filter == nil || f.o.Filter(r.Entry)) {
			if f.format(&r) == nil {
				picked, there = r, true
			}
		}
		return sequence < to && (last || !there)
	})
	return picked, there
}

// try writes records i to j together.
func (s *sifting) try(ctx context.Context, i, j int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.write(ctx, s.b.records[i:j]); err != nil {
		return err
	}
	for _, r := range s.b.records[i:j] {
		delete(s.suspicion.suspects, r.Sequence)
		if !s.suspicion.ahead[r.Sequence] {
			s.suspicion.ahead[r.Sequence] = true
			s.suspicion.accepted++
		}
	}
	return nil
}

// conclude settles the batch as far as it is known what becomes of its records. After
// an error it asks the store nothing more.
func (s *sifting) conclude(ctx context.Context, failed error) error {
	var quarantined, first uint64
	var reason error
	defer func() {
		if quarantined > 0 {
			s.o.Logger.Error("a store refuses entries for what is in them; they are in quarantine: see caddy audit quarantine",
				"store", s.name, "entries", quarantined, "first", first, "error", reason)
		}
	}()
	for i := s.b.settled; i < len(s.b.records); i++ {
		sequence := s.b.records[i].Sequence
		var refusal error
		if !s.suspicion.ahead[sequence] {
			var err error
			if refusal, err = s.judge(ctx, i, failed); err != nil {
				return err
			}
		}
		aside := uint64(0)
		if refusal != nil {
			if aside, quarantined = 1, quarantined+1; quarantined == 1 {
				first, reason = sequence, refusal
			}
		}
		if err := s.settle(s.b, i+1, aside); err != nil {
			return err
		}
	}
	return nil
}

// judge decides about a record that was not accepted. It returns why it is in
// quarantine, and nil if it was accepted after all.
func (s *sifting) judge(ctx context.Context, i int, failed error) (refusal, err error) {
	sequence := s.b.records[i].Sequence
	x, suspected := s.suspicion.suspects[sequence]
	switch {
	case failed != nil:
		return nil, failed
	case !suspected:
		return nil, fmt.Errorf("entry %d was not tried", sequence) // run has tried each, or failed
	case x.condemned:
	case x.after >= s.suspicion.accepted:
		if found, err := s.beyond(ctx); err != nil {
			return nil, err
		} else if found {
			return s.judge(ctx, i, nil)
		}
		// It is asked for again all the same: the store may have been mended since, and
		// nothing else come.
		if err := s.again(ctx, i); !isRefused(err) {
			return nil, err
		}
		return nil, fmt.Errorf("entry %d is refused, and no other has been accepted since: %w", sequence, x.reason)
	default:
		if err := s.try(ctx, i, i+1); !isRefused(err) {
			return nil, err
		}
		x.condemned = true
		s.suspicion.suspects[sequence] = x
	}
	if err := s.quarantine(sequence, x.reason); err != nil {
		if s.source.Position(s.name) >= sequence {
			return nil, errMoved
		}
		return nil, err
	}
	return x.reason, nil
}

// again tries a record that is refused, unless this attempt has done it.
func (s *sifting) again(ctx context.Context, i int) error {
	sequence := s.b.records[i].Sequence
	if slices.Contains(s.refused, sequence) {
		return &RefusedError{s.suspicion.suspects[sequence].reason}
	}
	return s.try(ctx, i, i+1)
}

// quarantine keeps an entry that the store will never take. The position may move
// past it once this has returned nil.
func (f *Forwarder) quarantine(sequence uint64, why error) error {
	if err := f.source.Quarantine(f.name, sequence, why.Error()); err != nil {
		return fmt.Errorf("putting entry %d into quarantine: %w", sequence, err)
	}
	return nil
}

func isRefused(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused)
}
