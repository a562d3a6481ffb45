package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
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

// partition is what has the entries of one class that arrived in one month.
type partition struct {
	class string
	month month
}

// partitionOf is where an entry with this stamp belongs, if it has one.
func partitionOf(arrival int64, stamp *audit.Stamp) partition {
	p := partition{defaultClass, monthOf(time.UnixMicro(arrival))}
	if stamp != nil && stamp.Retention != nil {
		p.class = column(stamp.Retention.Class)
	}
	return p
}

// partitionsOf are those of a batch, each run of the same once.
func partitionsOf(batch []forwarder.Record) (all []partition) {
	for _, r := range batch {
		if p := partitionOf(r.Entry.Timestamp, r.Stamp); len(all) == 0 || all[len(all)-1] != p {
			all = append(all, p)
		}
	}
	return all
}

// prepare makes the partitions for entries and for the months ahead, where they are not
// known to exist: of the class default, and of each class that appears.
func (s *Store) prepare(ctx context.Context, conn *pgx.Conn, wanted []partition) error {
	now := time.Now()
	latest := monthOf(now) + monthsAhead
	missing := map[string][]month{}
	need := func(class string, m month) {
		if m < earliestMonth || m > latest {
			return
		}
		p := partition{class, m}
		if again, ok := s.partitions[p]; ok && (again.IsZero() || now.Before(again)) {
			return
		}
		s.partitions[p] = now.Add(prepareAgain) // asked for once, whatever comes of it
		missing[class] = append(missing[class], m)
	}
	for m := monthOf(now); m <= latest; m++ {
		need(defaultClass, m)
	}
	for _, p := range wanted {
		if _, ok := s.partitions[partition{p.class, latest}]; !ok {
			for m := monthOf(now); m <= latest; m++ {
				need(p.class, m)
			}
		}
		need(p.class, p.month)
	}
	for class, months := range missing {
		if err := s.attach(ctx, conn, class, months, now); err != nil {
			for class, months := range missing {
				for _, m := range months {
					delete(s.partitions, partition{class, m})
				}
			}
			return fmt.Errorf("making its partitions: %w", err)
		}
	}
	return nil
}

// attach makes the partitions of a class.
func (s *Store) attach(ctx context.Context, conn *pgx.Conn, class string, months []month, now time.Time) error {
	// As texts: a time would be a date in the session's time zone.
	days := make([]string, len(months))
	for i, m := range months {
		days[i] = m.first().Format(time.DateOnly)
	}
	var other []time.Time
	err := conn.QueryRow(ctx, fmt.Sprintf(`SELECT %s.prepare_class($1, $2::text[]::date[])`, s.at.schema), class, days).Scan(&other)
	if err != nil {
		return err
	}
	for _, m := range months {
		s.partitions[partition{class, m}] = time.Time{}
	}
	for _, first := range other {
		s.partitions[partition{class, monthOf(first)}] = now.Add(prepareAgain)
		s.log.Warn("audit store has no partition for a class and month; its entries go to the default one until there is",
			"store", s.at.location, "class", class, "month", first.Format("2006-01"))
	}
	return nil
}
