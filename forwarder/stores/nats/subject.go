package natsstore

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The headers of a message, beside NATS's own. They say what a reader needs to tell a
// repeat, so that it has to parse no document for that.
const (
	headerInstance = "Audit-Instance"
	headerSequence = "Audit-Sequence"
	headerID       = "Audit-Id"
	headerRevision = "Audit-Revision"
	headerSchema   = "Audit-Schema-Version"
	// headerHighest is the highest sequence that the writer has had acknowledged of the
	// instance, this one included. It is why the last message of a subject says what
	// Highest asks, also if that message is a repeat of something older.
	headerHighest = "Audit-Highest-Sequence"

	headerMsgID          = "Nats-Msg-Id"
	headerExpectedStream = "Nats-Expected-Stream"
)

// defaultClass is that of an entry on which retention has stamped none.
const defaultClass = "default"

// maxEscaped bounds an escaped token, in bytes. A longer one is given by its hash.
const maxEscaped = 96

// classOf is the retention class of an entry.
func classOf(r forwarder.Record) string {
	if r.Entry.Retention != nil && r.Entry.Retention.Class != "" {
		return r.Entry.Retention.Class
	}
	return defaultClass
}

func instanceOf(r forwarder.Record) string {
	if r.Entry.Origin != nil {
		return r.Entry.Origin.Instance
	}
	return ""
}

// isPlain reports whether a byte may stand in a stream's name and a subject as it is.
func isPlain(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '_'
}

// escape makes a token of a subject, and a part of a stream's name, of any text. No two
// texts have the same: what is not a letter, a digit, - or _ is written as %XX; what
// becomes too long is %% and a hash; nothing is %.
func escape(s string) string {
	if s == "" {
		return "%"
	}
	var b []byte
	for i := range len(s) {
		if isPlain(s[i]) {
			b = append(b, s[i])
		} else {
			b = fmt.Appendf(b, "%%%02X", s[i])
		}
		if len(b) > maxEscaped {
			sum := sha256.Sum256([]byte(s))
			return "%%" + hex.EncodeToString(sum[:])
		}
	}
	return string(b)
}

// streamName is the name of a class's stream.
func (c *Config) streamName(class string) string { return c.Stream + "_" + escape(class) }

// classSubject is what a class's stream takes.
func (c *Config) classSubject(class string) string { return c.Subject + "." + escape(class) + ".*" }

// subject is where the entries of an instance go.
func (c *Config) subject(class, instance string) string {
	return c.Subject + "." + escape(class) + "." + escape(instance)
}

// messageID is what a stream tells a repeat by: id and revision, which are an entry's
// identity. An entry without an id has no other identity than where it came from; two
// of them must not be taken for one.
func messageID(r forwarder.Record) string {
	revision := strconv.Itoa(r.Entry.Revision)
	if r.Entry.ID == "" {
		return escape(instanceOf(r)) + "." + strconv.FormatUint(r.Sequence, 10) + "." + revision
	}
	return escape(r.Entry.ID) + "." + revision
}

// message makes the message of an entry. Its data is the record's own memory.
func (c *Config) message(r forwarder.Record, highest uint64) *nats.Msg {
	class, instance := classOf(r), instanceOf(r)
	return &nats.Msg{
		Subject: c.subject(class, instance),
		Data:    r.JSON,
		Header: nats.Header{
			headerMsgID:          {messageID(r)},
			headerExpectedStream: {c.streamName(class)},
			headerInstance:       {escape(instance)},
			headerSequence:       {strconv.FormatUint(r.Sequence, 10)},
			headerID:             {escape(r.Entry.ID)},
			headerRevision:       {strconv.Itoa(r.Entry.Revision)},
			headerSchema:         {strconv.Itoa(r.Entry.SchemaVersion)},
			headerHighest:        {strconv.FormatUint(highest, 10)},
		},
	}
}
