package syslogstore

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// nilValue stands for what is not known.
const nilValue = "-"

// maxParam bounds the value of a parameter of the structured data, in bytes before it is
// escaped.
const maxParam = 255

// msgIDCall is the MSGID of an entry about a call.
const msgIDCall = "call"

// format writes messages. It has what is the same in all of them. An entry becomes the
// same bytes whenever and wherever it is written with the same format: there is neither
// a count of messages nor the number of a process in it.
type format struct {
	facility                  int
	hostname, appName, sdName string
}

// append appends the message of a record, without the count in front of it.
func (f *format) append(b []byte, r *forwarder.Record) []byte {
	e := r.Entry
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(8*f.facility+severity(e)), 10)
	b = append(b, ">1 "...)
	b = appendTimestamp(b, e.Timestamp)
	instance := ""
	if e.Origin != nil {
		instance = e.Origin.Instance
	}
	for _, field := range []string{f.hostname, f.appName, orNil(name(instance, maxProcID)), msgID(e)} {
		b = append(append(b, ' '), field...)
	}
	b = append(append(b, " ["...), f.sdName...)
	b = appendParam(b, "id", e.ID)
	b = appendParam(b, "revision", strconv.Itoa(e.Revision))
	b = appendParam(b, "instance", instance)
	b = appendParam(b, "sequence", strconv.FormatUint(r.Sequence, 10))
	b = appendParam(b, "action", e.Action.Code)
	b = appendParam(b, "outcome", string(e.Outcome))
	b = appendParam(b, "organization", e.OrganizationSlug)
	b = append(b, "] "...)
	// No BOM before it: RFC 5424 asks for one only of what says that it is UTF-8 text, and
	// RFC 8259 forbids it of JSON.
	return append(b, r.JSON...)
}

// frame appends a message with the count of its bytes in front of it, as RFC 6587 (3.4.1)
// and RFC 5425 (4.3) have it.
func frame(b, message []byte) []byte {
	b = strconv.AppendInt(b, int64(len(message)), 10)
	return append(append(b, ' '), message...)
}

// appendTimestamp appends the time of an entry's arrival. A year that has not four digits
// cannot be written.
func appendTimestamp(b []byte, micros int64) []byte {
	t := time.UnixMicro(micros).UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return append(b, nilValue...)
	}
	return t.AppendFormat(b, "2006-01-02T15:04:05.000000Z")
}

// The severities of RFC 5424 that are used.
const (
	severityError   = 3
	severityWarning = 4
	severityNotice  = 5
	severityInfo    = 6
)

// severity is that of an entry, by its outcome, or by what an event of the sidecar tells.
// docs/syslog.md has it as a table.
func severity(e *audit.Entry) int {
	switch e.Action.Code {
	case audit.EventGap, audit.EventPass:
		return severityError
	case audit.EventQuarantined, audit.EventUncleanStart:
		return severityWarning
	}
	switch e.Outcome {
	case audit.OutcomeSuccess, audit.OutcomePending:
		return severityInfo
	case audit.OutcomeDenied, audit.OutcomeUnknown:
		return severityWarning
	case audit.OutcomeRefused:
		return severityError
	}
	return severityNotice
}

// msgID is the sort of an entry: the code of an event of the sidecar, which there are few
// of, or that it is about a call.
func msgID(e *audit.Entry) string {
	if code := name(e.Action.Code, maxMsgID); strings.HasPrefix(code, "audit.") {
		return code
	}
	return msgIDCall
}

// appendParam appends a parameter of the structured data, unless its value is empty, long
// or not text: the JSON has it in any case, and a part of it would be another value.
func appendParam(b []byte, key, value string) []byte {
	if value == "" || len(value) > maxParam || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return b
	}
	b = append(append(append(b, ' '), key...), `="`...)
	for i := range len(value) {
		switch value[i] {
		case '"', '\\', ']':
			b = append(b, '\\')
		}
		b = append(b, value[i])
	}
	return append(b, '"')
}

// sdName is the name of our structured data.
func sdName(enterprise string) string { return "audit@" + enterprise }

// name is a value that can stand in a header as it is, and else empty.
func name(s string, most int) string {
	if clean(s, most) != s {
		return ""
	}
	return s
}

// clean makes something that can stand in a header: printable ASCII, and not long.
func clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < 33 || r > 126 {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), most)]
}

func orNil(s string) string {
	if s == "" {
		return nilValue
	}
	return s
}
