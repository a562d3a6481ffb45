package otlp

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

const (
	mediaProtobuf = "application/x-protobuf"
	mediaJSON     = "application/json"

	// maxResponse bounds the body of a success, in bytes. It is empty, or has a number and
	// a message.
	maxResponse = 64 << 10
	// maxSaid is how many different warnings of a receiver are logged.
	maxSaid = 16
)

// success is any 2xx: the specification has 200, and receivers that have nothing to say
// answer 204 or 202.
func success(status int) bool { return status >= 200 && status <= 299 }

// refused are the statuses that are about what is in a batch. The specification has all
// but 429, 502, 503 and 504 final; but a wrong path, a credential or a proxy that is out
// of order can be mended, and until then nothing may be lost. They are those of the
// store http.
func refused(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity
}

// statusCure is what to do about a status that this protocol knows more of.
func statusCure(status int) string {
	switch status {
	case http.StatusNotFound, http.StatusGone, http.StatusMethodNotAllowed:
		return "check the path of its URL: receivers take logs at " + logsPath + " below their base endpoint"
	case http.StatusUnsupportedMediaType, http.StatusNotAcceptable:
		return "try compress none, and check that the receiver takes OTLP over http/protobuf"
	}
	return ""
}

// accept reads the answer to a request that was taken, at least in part.
func (s *Store) accept(answer *http.Response, known httpclient.Secrets) error {
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxResponse+1))
	if err != nil {
		return fmt.Errorf("reading the receiver's answer: %w", err)
	}
	rejected, message, err := partialSuccess(answer.Header.Get("Content-Type"), body)
	switch {
	case err != nil:
		return fmt.Errorf("the receiver answered %d with a body that is none of OTLP (%w): check that its URL is that of an OTLP receiver", answer.StatusCode, err)
	case rejected > 0:
		// It does not say which. Divided, the batch shows it; what was taken comes again.
		return &forwarder.RefusedError{Err: fmt.Errorf("the receiver refused %d of the log records and said %q", rejected, message)}
	case message != "":
		s.warn(known.Clean(message))
	}
	return nil
}

// warn logs what a receiver says that has taken everything, each text once.
func (s *Store) warn(message string) {
	if _, again := s.said[message]; again || len(s.said) >= maxSaid {
		return
	}
	s.said[message] = struct{}{}
	s.log.Warn("the receiver of an audit store has taken all entries and says something about them", "location", s.client.Location(), "message", message)
}

// partialSuccess reads the body of a success. An empty one is an empty message of
// protobuf, which is that of a full success.
func partialSuccess(contentType string, body []byte) (rejected int64, message string, err error) {
	if len(body) == 0 {
		return 0, "", nil
	}
	if len(body) > maxResponse {
		return 0, "", fmt.Errorf("it has more than %d bytes", maxResponse)
	}
	var m collogspb.ExportLogsServiceResponse
	media, _, _ := mime.ParseMediaType(contentType) // one that cannot be read is none of these
	switch media {
	case mediaJSON:
		// Strictly: an answer with other members than these is that of something else, and
		// may well be an error.
		err = protojson.Unmarshal(body, &m)
	case mediaProtobuf, "application/protobuf", "application/octet-stream", "":
		err = proto.Unmarshal(body, &m)
	default:
		return 0, "", fmt.Errorf("its type is %q", contentType)
	}
	if err != nil {
		return 0, "", errors.New("it cannot be read as ExportLogsServiceResponse") // the library's text is made to vary
	}
	p := m.GetPartialSuccess()
	if p.GetRejectedLogRecords() < 0 {
		return 0, "", fmt.Errorf("it says that %d log records were rejected", p.GetRejectedLogRecords())
	}
	return p.GetRejectedLogRecords(), p.GetErrorMessage(), nil
}

// statusText is the message of a google.rpc.Status, in which receivers say why they failed.
// What is none is shown as it is.
func statusText(h http.Header, body []byte) string {
	if media, _, _ := mime.ParseMediaType(h.Get("Content-Type")); media != mediaProtobuf {
		return string(body)
	}
	const fieldMessage = 2
	message := ""
	for rest := body; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return string(body)
		}
		rest = rest[n:]
		if number == fieldMessage && kind == protowire.BytesType {
			length, n := protowire.ConsumeVarint(rest)
			if n < 0 {
				return string(body)
			}
			rest = rest[n:]
			message = string(rest[:min(length, uint64(len(rest)))]) // the end may be cut off
			rest = rest[len(message):]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, rest); n < 0 {
			if message == "" {
				return string(body)
			}
			break // details that were cut off
		}
		rest = rest[n:]
	}
	return message
}
