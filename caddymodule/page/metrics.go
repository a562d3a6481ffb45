package page

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

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

// How an export ends.
const (
	exportWhole = "whole"
	exportCut   = "cut"
)

func observeReader(route string, status int, took time.Duration) {
	readerSeconds.WithLabelValues(route, strconv.Itoa(status/100)+"xx").Observe(took.Seconds())
}

func observeExport(entries int, whole bool) {
	end := exportCut
	if whole {
		end = exportWhole
	}
	exports.WithLabelValues(end).Inc()
	exportedEntries.Add(float64(entries))
}

// Metrics are the viewer's, for who registers those of the process.
func Metrics() []prometheus.Collector {
	return []prometheus.Collector{readerSeconds, exports, exportedEntries}
}

// A series that begins with its first event shows no increase.
func init() {
	for _, end := range []string{exportWhole, exportCut} {
		exports.WithLabelValues(end)
	}
}
