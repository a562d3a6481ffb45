package caddymodule

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/page"
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
	refusals = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_audit_refusals_total",
		Help: "Calls that this process has refused, by why their record could not be made: the buffer is full, its disk failing or slow, strangers " +
			"have used up their share, the buffer is closed (not open), or other.",
	}, []string{"cause"})
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

	gaps = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_audit_gaps_total",
		Help: "Gaps that this process has told of by an audit.gap entry, by reason.",
	}, []string{"reason"})
	gapTime = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "caddy_audit_gap_timestamp_seconds",
		Help: "When this process has last told of a gap, in seconds since the Unix epoch, by reason and, where it is about one, store; absent before that. " +
			"Unlike a counter, it shows what was told before the first scrape.",
	}, []string{"reason", "store"})
	uncleanStart = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "caddy_audit_unclean_start_timestamp_seconds",
		Help: "When this process has found that the one before it was killed, in seconds since the Unix epoch; 0 if it was not.",
	})
	uncleanStartCalls = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "caddy_audit_unclean_start_calls",
		Help: "Calls that were in flight when the process before was killed. They are recorded with the outcome unknown.",
	})
	configChanged = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "caddy_audit_config_changed_timestamp_seconds",
		Help: "When a reload has last changed what is recorded or kept, in seconds since the Unix epoch; 0 if none has. An audit.config_changed entry says how.",
	})

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

// A series that begins with its first event shows no increase.
func init() {
	for _, r := range []buffer.Reason{buffer.GapPassed, buffer.GapDamaged, buffer.GapSkipped, buffer.GapDetached, buffer.GapDropped, buffer.GapOrigin} {
		gaps.WithLabelValues(string(r))
	}
	for _, cause := range []string{"full", "failing", "slow", "strangers", "closed", "other"} {
		refusals.WithLabelValues(cause)
	}
	for _, r := range []identity.Result{
		identity.ResultFound, identity.ResultInactive, identity.ResultNobody, identity.ResultFailed, identity.ResultBusy, identity.ResultCached,
	} {
		lookups.WithLabelValues(string(r))
	}
	for _, k := range []attribution.Kind{attribution.KindProject, attribution.KindOrganization} {
		for _, r := range []attribution.Result{attribution.ResultFound, attribution.ResultAbsent, attribution.ResultFailed, attribution.ResultBusy} {
			attributions.WithLabelValues(string(k), string(r))
		}
	}
}

func observeGap(g buffer.Gap) {
	gaps.WithLabelValues(string(g.Reason)).Inc()
	gapTime.WithLabelValues(string(g.Reason), g.Store).SetToCurrentTime()
}

func observeRefusal(err error) {
	cause := "other"
	switch {
	case errors.Is(err, buffer.ErrShare):
		cause = "strangers"
	case errors.Is(err, buffer.ErrFull):
		cause = "full"
	case errors.Is(err, buffer.ErrFailing):
		cause = "failing"
	case errors.Is(err, buffer.ErrSlow):
		cause = "slow"
	case errors.Is(err, buffer.ErrClosed):
		cause = "closed"
	}
	refusals.WithLabelValues(cause).Inc()
}

func observeVerification(c identity.Check) { verified[c].Inc() }

func observeLookup(r identity.Result, took time.Duration) {
	lookups.WithLabelValues(string(r)).Inc()
	if took > 0 {
		lookupSeconds.Observe(took.Seconds())
	}
}

// collectors are those of the process, and terms what its newest configuration's buffer says.
var collectors = append([]prometheus.Collector{
	commitSeconds, commits, commitFailures, overheadSeconds, lateAnswers, withheldAnswers, refusals, batchSeconds, batchFailures,
	verifications, unmatchedCalls, lookups, lookupSeconds, attributions, attributionSeconds, prunedEntries,
	gaps, gapTime, uncleanStart, uncleanStartCalls, configChanged,
	terms{},
}, page.Metrics()...)

func registerMetrics(r *prometheus.Registry) error {
	if r == nil {
		return nil
	}
	for _, c := range collectors {
		var already prometheus.AlreadyRegisteredError
		if err := r.Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// waited observes how long a call waited for its record.
func waited(h prometheus.Observer, d time.Duration) { h.Observe(d.Seconds()) }
