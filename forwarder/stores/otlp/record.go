package otlp

import (
	"encoding/hex"
	"math"
	"runtime/debug"
	"strings"
	"sync"
	"unicode/utf8"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// schemaURL says by which version of the semantic conventions attributes are named.
	schemaURL = "https://opentelemetry.io/schemas/1.43.0"
	// serviceName is the resource's.
	serviceName = "caddy-audit-log"
	modulePath  = "github.com/caddy-audit-log/caddy-audit-log"
	// scopeName says what made the records.
	scopeName = modulePath + "/forwarder/stores/otlp"
	// eventName is that of all records: it names what kind of thing a record is. Which
	// call it was is audit.action.code, since an event's name has no variable parts.
	eventName = "audit.entry"
)

// version is that of the build, empty if it does not know its own.
var version = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path == modulePath && m.Version != "(devel)" {
			return m.Version
		}
	}
	return ""
})

// instance is the buffer that an entry comes from.
func instance(r forwarder.Record) string {
	if o := r.Entry.Origin; o != nil {
		return o.Instance
	}
	return ""
}

// resourceLogs is what entries of one instance stand in.
func resourceLogs(instance string) *logspb.ResourceLogs {
	var of attributes
	of.text("service.name", serviceName)
	of.text("service.instance.id", instance)
	of.text("service.version", version())
	return &logspb.ResourceLogs{
		SchemaUrl: schemaURL,
		Resource:  &resourcepb.Resource{Attributes: of.all},
		ScopeLogs: []*logspb.ScopeLogs{{
			SchemaUrl: schemaURL,
			Scope:     &commonpb.InstrumentationScope{Name: scopeName, Version: version()},
		}},
	}
}

// logRecord is an entry as OTLP has it. It keeps nothing of the record's memory.
func logRecord(r forwarder.Record) *logspb.LogRecord {
	e := r.Entry
	l := &logspb.LogRecord{
		TimeUnixNano:         nanoseconds(e.Timestamp),
		ObservedTimeUnixNano: nanoseconds(e.RecordedAt),
		EventName:            eventName,
		Body:                 document(r.JSON),
		Attributes:           entryAttributes(e),
		TraceId:              traceID(e.TraceID),
	}
	l.SeverityNumber, l.SeverityText = severity(e)
	return l
}

// document is an entry's JSON, byte by byte. Encoded by Go it is UTF-8; what another
// program has put into the buffer need not be, and a string of protobuf has to.
func document(doc []byte) *commonpb.AnyValue {
	if !utf8.Valid(doc) {
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BytesValue{BytesValue: append([]byte(nil), doc...)}}
	}
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: string(doc)}}
}

// nanoseconds makes a time of OTLP, for which zero is unknown, of one in microseconds.
func nanoseconds(us int64) uint64 {
	if us <= 0 || us > math.MaxInt64/1000 {
		return 0
	}
	return uint64(us) * 1000
}

// traceID is the trace if it is one as W3C has it, else nil.
func traceID(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 || strings.Trim(s, "0") == "" {
		return nil
	}
	return b
}

// severity follows the outcome, and for an event of the sidecar what it tells. A call that
// the API refused for what was in it (4xx) is not an error of anybody who operates it, as
// for the conventions of HTTP.
func severity(e *audit.Entry) (logspb.SeverityNumber, string) {
	if e.IsEvent() {
		switch e.Action.Code {
		case audit.EventGap:
			return logspb.SeverityNumber_SEVERITY_NUMBER_ERROR, "ERROR"
		case audit.EventPass, audit.EventUncleanStart, audit.EventConfigChanged, audit.EventQuarantined:
			return logspb.SeverityNumber_SEVERITY_NUMBER_WARN, "WARN"
		}
	}
	switch e.Outcome {
	case audit.OutcomeSuccess, audit.OutcomePending:
		return logspb.SeverityNumber_SEVERITY_NUMBER_INFO, "INFO"
	case audit.OutcomeRefused:
		return logspb.SeverityNumber_SEVERITY_NUMBER_ERROR, "ERROR"
	case audit.OutcomeFailure:
		if e.Action.Status >= 500 {
			return logspb.SeverityNumber_SEVERITY_NUMBER_ERROR, "ERROR"
		}
	}
	return logspb.SeverityNumber_SEVERITY_NUMBER_WARN, "WARN"
}
