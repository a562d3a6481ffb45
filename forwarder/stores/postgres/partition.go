package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// monthsAhead is how many months' partitions there are before their entries, so
	// that none has to be made under load.
	monthsAhead = 2
	// earliestMonth is the first that gets a partition. What claims to be older is in
	// the default one, and so is what claims to come later than monthsAhead.
	earliestMonth = month(2020 * 12)
	// prepareAgain is when a partition that could not be made is tried again. Until
	// then its entries go to the default partition.
	prepareAgain = time.Hour
)

// month is one in UTC, counted from January of year 0.
type month int

func monthOf(t time.Time) month {
	y, m, _ := t.UTC().Date()
	return month(y*12 + int(m) - 1)
}

func (m month) first() time.Time {
	return time.Date(int(m)/12, time.Month(int(m)%12+1), 1, 0, 0, 0, 0, time.UTC)
}

// prepare makes the partitions for a batch and for the months ahead, where they are not
// known to exist.
func (s *Store) prepare(ctx context.Context, batch []forwarder.Record) error {
	now := time.Now()
	latest := monthOf(now) + monthsAhead
	var missing []month
	need := func(m month) {
		if m < earliestMonth || m > latest {
			return
		}
		if again, ok := s.months[m]; ok && (again.IsZero() || now.Before(again)) {
			return
		}
		s.months[m] = now.Add(prepareAgain) // asked for once, whatever comes of it
		missing = append(missing, m)
	}
	for m := monthOf(now); m <= latest; m++ {
		need(m)
	}
	for _, r := range batch {
		need(monthOf(time.UnixMicro(r.Entry.Timestamp)))
	}
	if len(missing) == 0 {
		return nil
	}
	// As texts: a time would be a date in the session's time zone.
	days := make([]string, len(missing))
	for i, m := range missing {
		days[i] = m.first().Format(time.DateOnly)
	}
	var other []time.Time
	err := s.conn.QueryRow(ctx, fmt.Sprintf(`SELECT %s.prepare($1::text[]::date[])`, s.at.schema), days).Scan(&other)
	if err != nil {
		for _, m := range missing {
			delete(s.months, m)
		}
		return fmt.Errorf("making its partitions: %w", err)
	}
	for _, m := range missing {
		s.months[m] = time.Time{}
	}
	for _, first := range other {
		s.months[monthOf(first)] = now.Add(prepareAgain)
		s.log.Warn("audit store has no partition for a month; its entries go to the default one until there is",
			"store", s.at.location, "month", first.Format("2006-01"))
	}
	return nil
}
