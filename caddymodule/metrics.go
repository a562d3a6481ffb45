package caddymodule

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/attribution"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
)

// Caddy makes a new registry for each configuration. These collectors live as
// long as the process and are put into each of them, so that a reload resets
// nothing. No label holds anything that a caller can choose.
var (
	commitSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "caddy_audit_commit_duration_seconds",
		Help:    "Time that the buffer took to make one group of intents and entries durable.",
		Buckets: diskBuckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
	})
	commits = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "caddy_audit_commits_total",
		Help: "Commits of the buffer, each of one group of intents and entries.",
	})
	commitFailures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "caddy_audit_commit_failures_total",
		Help: "Commits that the disk did not take at once. Each was written again; any increase means a failing disk.",
	})
	overheadSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "caddy_audit_overhead_seconds",
		Help:    "Time that a call waited for its record: its intent before the API, its outcome before the answer.",
		Buckets: diskBuckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
	}, []string{"phase"})
	intentOverhead  = overheadSeconds.WithLabelValues("intent")
	outcomeOverhead = overheadSeconds.WithLabelValues("outcome")

	lateAnswers = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "caddy_audit_late_records_total",
		Help: "Answers that left before their outcome was durable, because the disk took longer than max_wait.",
	})
	withheldAnswers = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "caddy_audit_withheld_answers_total",
		Help: "Answers to reads that were not let out, because the disk did not take their record within max_wait; the client got 503.",
	})
	batchSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "caddy_audit_store_batch_duration_seconds",
		Help:    "Time that a store took for one batch, whether it took it or not.",
		Buckets: prometheus.DefBuckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
	}, []string{"store"})
	batchFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_audit_store_failures_total",
		Help: "Batches that a store did not take; each is tried again until it does.",
	}, []string{"store"})

	verifications = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_audit_verifications_total",
		Help: "JWTs by what became of their verification, where an issuer is configured: signature checked and right, " +
			"cached from such a check, failed for what the token is, no_key to check it with.",
	}, []string{"result"})
	// Looked up once: a known token costs little else.
	verified = map[identity.Check]prometheus.Counter{
		identity.CheckSignature: verifications.WithLabelValues(string(identity.CheckSignature)),
		identity.CheckCached:    verifications.WithLabelValues(string(identity.CheckCached)),
		identity.CheckFailed:    verifications.WithLabelValues(string(identity.CheckFailed)),
		identity.CheckNoKey:     verifications.WithLabelValues(string(identity.CheckNoKey)),
	}

	unmatchedCalls = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "caddy_audit_unmatched_calls_total",
		Help: "Recorded calls whose path no route of the site's catalog matches. They have a route by what looks like an id, and no target.",
	})

	lookups = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_audit_lookups_total",
		Help: "Questions whose a credential is, where a service is configured: found, inactive for what it does not know, nobody " +
			"where it names nobody, failed without an answer, busy where it was not asked because too many were, cached from such an answer.",
	}, []string{"result"})
	lookupSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "caddy_audit_lookup_duration_seconds",
		Help:    "Time that a service took to say whose a credential is. No call waits for longer than its site allows.",
		Buckets: prometheus.DefBuckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
	})

	attributions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_audit_organization_lookups_total",
		Help: "Questions whose a project is, or which plan an organization has: found, absent where there is no such thing, failed " +
			"without an answer, busy where it was not asked because too many were waiting.",
	}, []string{"kind", "result"})
	attributionSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "caddy_audit_organization_lookup_duration_seconds",
		Help:    "Time that a service took to say whose a project is, or which plan an organization has. No call waits for it.",
		Buckets: prometheus.DefBuckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
	})
	prunedEntries = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_audit_retention_pruned_entries_total",
		Help: "Entries that had expired and were deleted, by retention class. A receipt in the store says which.",
	}, []string{"store", "class"})

	diskBuckets = []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5}
)

// onCommit is observeCommit, or what a test puts in its place to be a slow disk.
var onCommit = observeCommit

func observeCommit(c buffer.Commit) {
	commitSeconds.Observe(c.Duration.Seconds())
	commits.Inc()
	if c.Err != nil {
		commitFailures.Inc()
	}
}

func observeBatch(store string, b forwarder.Batch) {
	batchSeconds.WithLabelValues(store).Observe(b.Duration.Seconds())
	if b.Err != nil {
		batchFailures.WithLabelValues(store).Inc()
	}
}

func observeAttribution(kind attribution.Kind, result attribution.Result, took time.Duration) {
	attributions.WithLabelValues(string(kind), string(result)).Inc()
	if took > 0 {
		attributionSeconds.Observe(took.Seconds())
	}
}

func observePruned(store string, p forwarder.Pruned) {
	for _, c := range p.Deleted {
		prunedEntries.WithLabelValues(store, c.Class).Add(float64(c.Entries))
	}
}

func observeVerification(c identity.Check) { verified[c].Inc() }

func observeLookup(r identity.Result, took time.Duration) {
	lookups.WithLabelValues(string(r)).Inc()
	if took > 0 {
		lookupSeconds.Observe(took.Seconds())
	}
}

// The metrics of the viewer.
var (
	readerSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "caddy_audit_viewer_duration_seconds",
		Help:    "Time that an answer of audit_log_viewer took, by what was asked for and the class of its status; an export's is all of it.",
		Buckets: prometheus.DefBuckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
	}, []string{"route", "class"})
	exports = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_audit_exports_total",
		Help: "Exports of an organization's log that ended, whole or cut.",
	}, []string{"end"})
	exportedEntries = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "caddy_audit_exported_entries_total",
		Help: "Entries that went out in exports.",
	})
)

func observeReader(route string, status int, took time.Duration) {
	readerSeconds.WithLabelValues(route, strconv.Itoa(status/100)+"xx").Observe(took.Seconds())
}

func observeExport(entries int, whole bool) {
	end := "cut"
	if whole {
		end = "whole"
	}
	exports.WithLabelValues(end).Inc()
	exportedEntries.Add(float64(entries))
}

func registerMetrics(r *prometheus.Registry) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{
		commitSeconds, commits, commitFailures, overheadSeconds, lateAnswers, withheldAnswers, batchSeconds, batchFailures, verifications, unmatchedCalls, lookups, lookupSeconds,
		attributions, attributionSeconds, prunedEntries, readerSeconds, exports, exportedEntries,
		terms{},
	} {
		var already prometheus.AlreadyRegisteredError
		if err := r.Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// terms collects the terms of both conservation equations and the gauges of
// the buffer, from one picture of it.
type terms struct{}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("caddy_audit_"+name, help, labels, nil)
}

var (
	descSeen = desc("calls_seen_total",
		"Calls that reached an audit_log handler. It equals the sum of caddy_audit_calls_total and caddy_audit_open_calls.")
	descCalls = desc("calls_total",
		"Calls by how they ended: recorded, excluded by a rule, refused because the record could not be made, passed unrecorded while on_fault pass was in force, folded into another entry.", "term")
	descOpen    = desc("open_calls", "Calls whose intent is durable and whose end is not yet.")
	descHead    = desc("head_sequence", "Sequence of the newest durable entry.")
	descBytes   = desc("buffer_bytes", "Bytes that the buffer's segments use.")
	descMax     = desc("buffer_max_bytes", "Bytes that the buffer may use: max_size.")
	descSegs    = desc("buffer_segments", "Segments that the buffer holds.")
	descFailing = desc("buffer_failing", "1 while the buffer's disk fails, else 0.")
	descSlow    = desc("buffer_slow", "1 while the buffer's disk keeps calls waiting for longer than max_wait, else 0.")
	descPassing = desc("passing", "1 while calls pass unrecorded, else 0.")
	descOrdered = desc("pass_until_seconds", "Until when calls may pass by order (caddy audit pass), in seconds since the Unix epoch; 0 if nobody has ordered it.")
	descFree    = desc("disk_free_bytes", "Bytes that the buffer's filesystem has left.")
	descMinFree = desc("disk_min_free_bytes", "Bytes of the filesystem that the buffer leaves to others: min_free. With less, it counts as full.")
	descShare   = desc("strangers_bytes", "Bytes of the buffer that callers use who are not known.")
	descShares  = desc("strangers_max_bytes", "Bytes of the buffer that callers may use who are not known; beyond them, they are refused.")
	descDamaged = desc("damaged_entries_total", "Entries that were found unreadable because a file was harmed. An audit.gap entry tells which.")
	descOldest  = desc("oldest_pending_seconds",
		"Age of the oldest entry that some store has not taken yet: what would be lost with the disk. 0 when there is none.")
	descEntries = desc("store_entries_total",
		"Entries by what became of them at a store. Their sum, caddy_audit_quarantined_entries and caddy_audit_store_pending_entries are the head less the store's start.", "store", "term")
	descStart   = desc("store_start_sequence", "Sequence before the store's first entry.", "store")
	descPending = desc("store_pending_entries", "Entries that the store has not taken yet.", "store")
	descLag     = desc("store_pending_bytes", "Bytes of the buffer that wait for the store, about.", "store")
	descMaxLag  = desc("store_max_pending_bytes", "Bytes that may wait for a detachable store; beyond them it is detached, and an audit.gap entry says what it does not get.", "store")
	descAside   = desc("quarantined_entries", "Entries in quarantine now, which the store will not take: caddy audit quarantine lists them.", "store")
	descAsideB  = desc("quarantine_bytes", "Bytes that quarantine uses of the buffer.")
	descClass   = desc("retention_entries", "Entries that the store has, by retention class; an empty class is of those that nobody has stamped yet.", "store", "class")
	descClassB  = desc("retention_bytes", "Bytes of their documents, by retention class.", "store", "class")
	descWaiting = desc("retention_pending_entries", "Entries whose organization or plan is still being asked for; they do not expire.", "store")
	descHeld    = desc("retention_held_entries", "Entries that have expired and that a hold keeps.", "store")
	descPruned  = desc("retention_pruned_timestamp_seconds", "When all that had expired in the store was gone, in seconds since the Unix epoch; 0 before that was once so.", "store")
	descUnkept  = desc("retention_failing", "1 while the store is not held to its retention, so that nothing expires in it, else 0.", "store")
	descAhead   = desc("retention_clock_distrusted_seconds", "How far the clock has jumped ahead of what is believed for expiring; for a day nothing expires by more than that.", "store")
	descDown    = desc("store_failing", "1 while the store's last batch has failed, else 0.", "store")

	descs = []*prometheus.Desc{
		descSeen, descCalls, descOpen, descHead, descBytes, descMax, descSegs, descFailing, descSlow, descPassing, descOrdered,
		descFree, descMinFree, descShare, descShares, descDamaged, descOldest,
		descEntries, descStart, descPending, descLag, descMaxLag, descAside, descAsideB, descDown,
		descClass, descClassB, descWaiting, descHeld, descPruned, descUnkept, descAhead,
	}
)

// Describe implements prometheus.Collector.
func (terms) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
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
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	flag := func(d *prometheus.Desc, on bool, labels ...string) {
		v := 0.0
		if on {
			v = 1
		}
		gauge(d, v, labels...)
	}
	counter(descSeen, s.Calls.Seen)
	for _, t := range s.Calls.terms() {
		counter(descCalls, t.n, t.name)
	}
	gauge(descOpen, float64(s.Calls.Open))
	gauge(descHead, float64(s.Head))
	gauge(descBytes, float64(s.BufferBytes))
	gauge(descMax, float64(s.BufferMaxBytes))
	gauge(descSegs, float64(s.Segments))
	flag(descFailing, s.Failing != "")
	flag(descSlow, s.Slow)
	flag(descPassing, s.PassingSince != nil)
	until := 0.0
	if s.PassUntil != nil {
		until = float64(s.PassUntil.Unix())
	}
	gauge(descOrdered, until)
	gauge(descFree, float64(s.FreeBytes))
	gauge(descMinFree, float64(s.MinFreeBytes))
	gauge(descShare, float64(s.StrangersBytes))
	gauge(descShares, float64(s.StrangersMaxBytes))
	counter(descDamaged, s.Damaged)
	gauge(descOldest, s.OldestPendingSeconds)
	gauge(descAsideB, float64(s.QuarantineBytes))
	for _, st := range s.Stores {
		for _, t := range st.terms() {
			if t.name != "quarantined" { // which goes back when it is resolved, as no counter may
				counter(descEntries, t.n, st.Name, t.name)
			}
		}
		gauge(descStart, float64(st.Start), st.Name)
		gauge(descPending, float64(st.Pending), st.Name)
		gauge(descLag, float64(st.PendingBytes), st.Name)
		if st.MaxPendingBytes > 0 {
			gauge(descMaxLag, float64(st.MaxPendingBytes), st.Name)
		}
		gauge(descAside, float64(st.Quarantined), st.Name)
		flag(descDown, st.FailingSince != nil, st.Name)
		if k := st.Retention; k != nil {
			waiting := int64(0)
			for _, c := range k.Classes {
				gauge(descClass, float64(c.Entries), st.Name, c.Class)
				gauge(descClassB, float64(c.Bytes), st.Name, c.Class)
				waiting += c.Pending
			}
			gauge(descWaiting, float64(waiting), st.Name)
			gauge(descHeld, float64(k.Held), st.Name)
			pruned := 0.0
			if !k.Pruned.IsZero() {
				pruned = float64(k.Pruned.Unix())
			}
			gauge(descPruned, pruned, st.Name)
			flag(descUnkept, !k.FailingSince.IsZero(), st.Name)
			gauge(descAhead, k.Distrusted.Seconds(), st.Name)
		}
	}
}

// waited observes how long a call waited for its record.
func waited(h prometheus.Observer, since time.Time) { h.Observe(time.Since(since).Seconds()) }
