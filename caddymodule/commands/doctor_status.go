package commands

import (
	"context"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// checkCalls looks at what the running server does with calls.
func checkCalls(_ context.Context, d *examination) []doctor.Diagnosis {
	s := d.status
	if s == nil {
		return notRunning()
	}
	var list []doctor.Diagnosis
	if !s.Calls.Holds {
		list = append(list, doctor.Wrong("calls do not add up: %s seen, and %s accounted for", humanize.Comma(int64(s.Calls.Seen)), humanize.Comma(int64(operator.Sum(s.Calls.Terms())+uint64(s.Calls.Open)))).
			Mend("this is a defect: keep \"caddy audit status --json\" and the log, and report it"))
	}
	if s.Failing != "" {
		list = append(list, doctor.Wrong("the buffer's disk fails: %s", s.Failing).Mend("free or replace it; the buffer tries again by itself"))
	}
	if s.Slow {
		list = append(list, doctor.Wrong("the buffer's disk keeps calls waiting for longer than max_wait").Mend("look for what else writes to it"))
	}
	list = append(list, roomFindings(s)...)
	if s.PassingSince != nil {
		list = append(list, doctor.Wrong("calls pass unrecorded since %s", s.PassingSince.Format(time.RFC3339)).Mend("mend the disk or the stores that hold the buffer; a gap says how many calls passed"))
	}
	if s.PassUntil != nil {
		list = append(list, doctor.Warning("by order, calls that cannot be recorded pass until %s", s.PassUntil.Format(time.RFC3339)).Mend("when it is not needed any more: caddy audit pass --end"))
	}
	if s.Damaged > 0 {
		list = append(list, doctor.Warning("%s entries were found damaged", humanize.Comma(int64(s.Damaged))).Mend("audit.gap entries say which, and other stores may have them; look at the disk"))
	}
	if len(list) == 0 {
		list = append(list, doctor.Fine("%s calls add up, and are recorded", humanize.Comma(int64(s.Calls.Seen))))
	}
	if n := s.Calls.Refused + s.Calls.Passed; n > 0 {
		list = append(list, doctor.Fine("since the buffer was made, %s calls were refused and %s passed unrecorded", humanize.Comma(int64(s.Calls.Refused)), humanize.Comma(int64(s.Calls.Passed))))
	}
	return list
}

// notRunning is what a check says that needs a server.
func notRunning() []doctor.Diagnosis {
	return []doctor.Diagnosis{doctor.NotKnown("no server was asked").Mend("start it; \"caddy audit status\" reads the files of one that is down")}
}

// nearlyFull is the part of a bound from which on it is in sight.
const nearlyFull = 0.8

func roomFindings(s *operator.Status) (list []doctor.Diagnosis) {
	size := func(b int64) string { return humanize.IBytes(uint64(max(0, b))) }
	switch {
	case s.FreeBytes > 0 && s.FreeBytes < s.MinFreeBytes:
		list = append(list, doctor.Wrong("the buffer counts as full: its disk has %s free, and leaves %s to others", size(s.FreeBytes), size(s.MinFreeBytes)).Mend("free some of it"))
	case s.BufferMaxBytes > 0 && s.BufferBytes+operator.EndRoom > s.BufferMaxBytes:
		list = append(list, doctor.Wrong("the buffer is full: %s of %s", size(s.BufferBytes), size(s.BufferMaxBytes)).
			Mend("mend the store that does not keep up; raising max_size and reloading helps at once, if the disk has room"))
	case float64(s.BufferBytes) > nearlyFull*float64(s.BufferMaxBytes) && s.BufferMaxBytes > 0:
		list = append(list, doctor.Warning("the buffer is nearly full: %s of %s", size(s.BufferBytes), size(s.BufferMaxBytes)).Mend("mend the store that does not keep up, or raise max_size"))
	}
	if s.StrangersMaxBytes > 0 && float64(s.StrangersBytes) > nearlyFull*float64(s.StrangersMaxBytes) {
		list = append(list, doctor.Warning("callers that are not known have nearly used up their share: %s of %s", size(s.StrangersBytes), size(s.StrangersMaxBytes)).
			Mend("see from where with \"caddy audit tail\"; if all come from a load balancer, trusted_proxies is missing"))
	}
	return list
}

// longPending is for how long an entry may wait for a store until somebody should look.
const longPending = 5 * time.Minute

// checkDelivery looks at what the running server's stores have.
func checkDelivery(_ context.Context, d *examination) []doctor.Diagnosis {
	s := d.status
	if s == nil {
		return notRunning()
	}
	var list []doctor.Diagnosis
	if pending := time.Duration(s.OldestPendingSeconds * float64(time.Second)); pending > longPending {
		list = append(list, doctor.Warning("the oldest entry waits for a store since %s: that is what losing the disk would lose", display.Spell(pending.Seconds())).Mend("mend the store that is behind, below"))
	}
	for i := range s.Stores {
		list = append(list, deliveryFindings(&s.Stores[i], s.Head)...)
	}
	list = append(list, gapFindings(d.newest, time.Now())...)
	if len(list) == 0 {
		list = append(list, doctor.Fine("each store's entries add up; the oldest that waits does so since %s", display.Spell(s.OldestPendingSeconds)))
	}
	return list
}

// gapFor is for how long a gap is worth a look.
const gapFor = 24 * time.Hour

// gapFindings are about what the newest entries say is missing.
func gapFindings(newest []liveEntry, now time.Time) (list []doctor.Diagnosis) {
	for _, e := range newest {
		at := time.UnixMicro(e.Timestamp)
		if e.Action.Code != audit.EventGap || now.Sub(at) > gapFor {
			continue
		}
		list = append(list, doctor.Warning("a gap was recorded at %s, for the reason %v", at.Format(time.RFC3339), e.Action.Metadata["reason"]).
			Mend("\"caddy audit tail\" shows what is missing; the reasons are in docs/faults.md"))
	}
	return list
}

func deliveryFindings(s *operator.StatusStore, head uint64) (list []doctor.Diagnosis) {
	n := func(v uint64) string { return humanize.Comma(int64(v)) }
	if !s.Holds {
		list = append(list, doctor.Wrong("store %s: its entries do not add up: %s since it began", s.Name, n(head-s.Start)).
			Mend("this is a defect: keep \"caddy audit status --json\" and the log, and report it"))
	}
	if s.FailingSince != nil {
		list = append(list, doctor.Wrong("store %s is failing since %s: %s", s.Name, s.FailingSince.Format(time.RFC3339), s.LastError).
			Mend("its entries wait in the buffer and are tried again; \"caddy audit store check %s\" tries it from here", s.Name))
	}
	if s.Quarantined > 0 {
		list = append(list, doctor.Warning("store %s refuses %s entries, which are in quarantine", s.Name, n(s.Quarantined)).
			Mend("\"caddy audit quarantine list %s\" says why; then retry or drop them", s.Name))
	}
	if s.MaxPendingBytes > 0 && float64(s.PendingBytes) > nearlyFull*float64(s.MaxPendingBytes) {
		list = append(list, doctor.Warning("store %s is about to be detached: %s of the %s that may wait for it do", s.Name,
			humanize.IBytes(uint64(max(0, s.PendingBytes))), humanize.IBytes(uint64(s.MaxPendingBytes))).Mend("mend it, or raise its detachable and reload"))
	}
	if !s.Configured {
		list = append(list, doctor.Warning("store %s is not in the configuration any more, and %s entries wait for it", s.Name, n(s.Pending)).
			Mend("put it back if that was not meant; else it is forgotten by itself"))
	}
	return list
}
