package caddymodule

import (
	"github.com/prometheus/client_golang/prometheus"
)

// terms collects the terms of both conservation equations and the gauges of
// the buffer, from one picture of it.
type terms struct{}

// figure is one metric of terms, with its kind.
type figure struct {
	*prometheus.Desc
	kind prometheus.ValueType
}

// figures are all of them.
var figures []*figure

func figureOf(kind prometheus.ValueType, name, help string, labels []string) *figure {
	f := &figure{prometheus.NewDesc("caddy_audit_"+name, help, labels, nil), kind}
	figures = append(figures, f)
	return f
}

func counterOf(name, help string, labels ...string) *figure {
	return figureOf(prometheus.CounterValue, name, help, labels)
}

func gaugeOf(name, help string, labels ...string) *figure {
	return figureOf(prometheus.GaugeValue, name, help, labels)
}

var (
	figSeen = counterOf("calls_seen_total",
		"Calls that reached an audit_log handler. It equals the sum of caddy_audit_calls_total and caddy_audit_open_calls.")
	figCalls = counterOf("calls_total",
		"Calls by how they ended: recorded, excluded by a rule, refused because the record could not be made, passed unrecorded while on_fault pass was in force, folded into another entry.", "term")
	figOpen    = gaugeOf("open_calls", "Calls whose intent is durable and whose end is not yet.")
	figHead    = gaugeOf("head_sequence", "Sequence of the newest durable entry.")
	figBytes   = gaugeOf("buffer_bytes", "Bytes that the buffer's segments use.")
	figMax     = gaugeOf("buffer_max_bytes", "Bytes that the buffer may use: max_size.")
	figSegs    = gaugeOf("buffer_segments", "Segments that the buffer holds.")
	figFailing = gaugeOf("buffer_failing", "1 while the buffer's disk fails, else 0.")
	figSlow    = gaugeOf("buffer_slow", "1 while the buffer's disk keeps calls waiting for longer than max_wait, else 0.")
	figPassing = gaugeOf("passing", "1 while calls pass unrecorded, else 0.")
	figOrdered = gaugeOf("pass_until_seconds", "Until when calls may pass by order (caddy audit pass), in seconds since the Unix epoch; 0 if nobody has ordered it.")
	figFree    = gaugeOf("disk_free_bytes", "Bytes that the buffer's filesystem has left. Absent where the system does not say.")
	figMinFree = gaugeOf("disk_min_free_bytes", "Bytes of the filesystem that the buffer leaves to others: min_free. With less, it counts as full. Absent where the system does not say what is left.")
	figShare   = gaugeOf("strangers_bytes", "Bytes of the buffer that callers use who are not known.")
	figShares  = gaugeOf("strangers_max_bytes", "Bytes of the buffer that callers may use who are not known; beyond them, they are refused.")
	figDamaged = counterOf("damaged_entries_total", "Entries that were found unreadable because a file was harmed. An audit.gap entry tells which.")
	figOldest  = gaugeOf("oldest_pending_seconds",
		"Age of the oldest entry that some store has not taken yet: what would be lost with the disk. 0 when there is none.")
	figHeartbeat = gaugeOf("heartbeat_timestamp_seconds",
		"When the newest audit.heartbeat or audit.started entry became durable, in seconds since the Unix epoch; 0 if none has since the start. One is due each minute.")
	figEntries = counterOf("store_entries_total",
		"Entries by what became of them at a store. Their sum, caddy_audit_quarantined_entries and caddy_audit_store_pending_entries are the head less the store's start.", "store", "term")
	figStart   = gaugeOf("store_start_sequence", "Sequence before the store's first entry.", "store")
	figPending = gaugeOf("store_pending_entries", "Entries that the store has not taken yet.", "store")
	figLag     = gaugeOf("store_pending_bytes", "Bytes of the buffer that wait for the store, about.", "store")
	figMaxLag  = gaugeOf("store_max_pending_bytes", "Bytes that may wait for a detachable store; beyond them it is detached, and an audit.gap entry says what it does not get.", "store")
	figAside   = gaugeOf("quarantined_entries", "Entries in quarantine now, which the store will not take: caddy audit quarantine lists them.", "store")
	figAsideB  = gaugeOf("quarantine_bytes", "Bytes that quarantine uses of the buffer.")
	figClass   = gaugeOf("retention_entries", "Entries that the store has, by retention class; an empty class is of those that nobody has stamped yet.", "store", "class")
	figClassB  = gaugeOf("retention_bytes", "Bytes of their documents, by retention class.", "store", "class")
	figWaiting = gaugeOf("retention_pending_entries", "Entries whose organization or plan is still being asked for; they do not expire.", "store")
	figHeld    = gaugeOf("retention_held_entries", "Entries that have expired and that a hold keeps.", "store")
	figPruned  = gaugeOf("retention_pruned_timestamp_seconds", "When all that had expired in the store was gone, in seconds since the Unix epoch; 0 before that was once so since the start. Absent where another sidecar does it.", "store")
	figUnkept  = gaugeOf("retention_failing", "1 while the store is not held to its retention, so that nothing expires in it, else 0.", "store")
	figAhead   = gaugeOf("retention_clock_distrusted_seconds", "How far the clock has jumped ahead of what is believed for expiring; for a day nothing expires by more than that.", "store")
	figDown    = gaugeOf("store_failing", "1 while the store's last batch has failed, else 0.", "store")
)

// Describe implements prometheus.Collector.
func (terms) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range figures {
		ch <- f.Desc
	}
}

// Collect implements prometheus.Collector.
func (terms) Collect(ch chan<- prometheus.Metric) {
	app := running.current()
	if app == nil {
		return
	}
	s, ok := app.status()
	if !ok {
		return
	}
	put := func(f *figure, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(f.Desc, f.kind, v, labels...)
	}
	flag := func(f *figure, on bool, labels ...string) {
		v := 0.0
		if on {
			v = 1
		}
		put(f, v, labels...)
	}
	put(figSeen, float64(s.Calls.Seen))
	for _, t := range s.Calls.Terms() {
		put(figCalls, float64(t.N), t.Name)
	}
	put(figOpen, float64(s.Calls.Open))
	put(figHead, float64(s.Head))
	put(figBytes, float64(s.BufferBytes))
	put(figMax, float64(s.BufferMaxBytes))
	put(figSegs, float64(s.Segments))
	flag(figFailing, s.Failing != "")
	flag(figSlow, s.Slow)
	flag(figPassing, s.PassingSince != nil)
	until := 0.0
	if s.PassUntil != nil {
		until = float64(s.PassUntil.Unix())
	}
	put(figOrdered, until)
	if s.KnowsFree { // 0 is a full disk
		put(figFree, float64(s.FreeBytes))
		put(figMinFree, float64(s.MinFreeBytes))
	}
	put(figShare, float64(s.StrangersBytes))
	put(figShares, float64(s.StrangersMaxBytes))
	put(figDamaged, float64(s.Damaged))
	put(figOldest, s.OldestPendingSeconds)
	put(figHeartbeat, float64(app.lastHeartbeat()))
	put(figAsideB, float64(s.QuarantineBytes))
	for _, st := range s.Stores {
		for _, t := range st.Terms() {
			if t.Name != "quarantined" { // which goes back when it is resolved, as no counter may
				put(figEntries, float64(t.N), st.Name, t.Name)
			}
		}
		put(figStart, float64(st.Start), st.Name)
		put(figPending, float64(st.Pending), st.Name)
		put(figLag, float64(st.PendingBytes), st.Name)
		if st.MaxPendingBytes > 0 {
			put(figMaxLag, float64(st.MaxPendingBytes), st.Name)
		}
		put(figAside, float64(st.Quarantined), st.Name)
		flag(figDown, st.FailingSince != nil, st.Name)
		if k := st.Retention; k != nil {
			waiting := int64(0)
			for _, c := range k.Classes {
				put(figClass, float64(c.Entries), st.Name, c.Class)
				put(figClassB, float64(c.Bytes), st.Name, c.Class)
				waiting += c.Pending
			}
			put(figWaiting, float64(waiting), st.Name)
			put(figHeld, float64(k.Held), st.Name)
			if k.Elsewhere == "" { // or it would look overdue for ever
				pruned := 0.0
				if !k.Pruned.IsZero() {
					pruned = float64(k.Pruned.Unix())
				}
				put(figPruned, pruned, st.Name)
			}
			flag(figUnkept, !k.FailingSince.IsZero(), st.Name)
			put(figAhead, k.Distrusted.Seconds(), st.Name)
		}
	}
}
