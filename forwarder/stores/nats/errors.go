package natsstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

var (
	errClosed   = errors.New("it is closed")
	errNoAnswer = errors.New("there was no answer in time")
	errNoLeader = errors.New("none of its servers leads it: " + quorum)
	// errTooLarge is the library's refusal to send what the server would not take.
	errTooLarge = nats.ErrMaxPayload
)

// storeError is why something failed, as a text that shows no secret. What came from
// the network is not kept: its own text might.
type storeError struct {
	text  string
	cause error // of the context, if that ended
}

func (e *storeError) Error() string { return e.text }
func (e *storeError) Unwrap() error { return e.cause }

// offlineError says that there is no connection.
type offlineError struct{ err error }

func (e *offlineError) Error() string { return e.err.Error() }
func (e *offlineError) Unwrap() error { return e.err }

// wrongAckError is the acknowledgement of another stream than the message's.
type wrongAckError struct{ want, got string }

func (e *wrongAckError) Error() string {
	return fmt.Sprintf("%s acknowledged what %s should have", e.got, e.want)
}

// missingError is a stream that is not there and not to be created.
type missingError struct{ want jetstream.StreamConfig }

func (e *missingError) Error() string {
	return fmt.Sprintf("there is no stream %q: create it by: %s", e.want.Name, command(e.want))
}

// answer is what an error code of JetStream means for us.
type answer struct {
	// refused says that the same message will be refused again for what it is.
	refused bool
	cure    string
}

const (
	quorum = "check that most of the cluster's servers run and reach each other"
	room   = "make room on the servers, or raise the limits of the account"
)

// answers are the codes that are known, by NATS's own numbers. What is in none of them
// is tried again like the rest.
var answers = map[jetstream.ErrorCode]answer{
	10054: {refused: true, cure: "raise the stream's max_msg_size"},

	// The cluster has no leader, or is on its way to one.
	10004: {cure: quorum},
	10007: {cure: quorum},
	10008: {cure: quorum},
	10009: {cure: quorum},
	10118: {cure: quorum},
	10194: {cure: quorum},
	10010: {cure: "the server is in no cluster: give the store replicas 1, or run three servers"},
	10074: {cure: "the server is in no cluster: give the store replicas 1, or run three servers"},
	10005: {cure: "the cluster has too few servers for the replicas, or too little room: add some, or give the store fewer replicas, as in replicas 1"},

	// There is no room.
	10002: {cure: room},
	10023: {cure: room + ", or give the store fewer replicas, as in replicas 1"},
	10027: {cure: room},
	10028: {cure: room},
	10047: {cure: room},
	10077: {cure: "if the stream is full, raise its max_bytes or archive what is old; else look into the server's log"},
	10113: {cure: "give the store max_bytes"},
	10120: {cure: "give the account limits for JetStream, or its tier for these replicas"},
	10122: {cure: "give the store a smaller max_bytes"},
	10167: {cure: "it is busy, which passes"},

	// A repeat of what is on its way.
	10158: {cure: "it is on its way, which passes"},

	// The stream is not what we think.
	10052: {cure: "give the store other options, such as a shorter duplicate_window or max_age"},
	10058: {cure: "another stream has this name: give the store another one by stream"},
	10059: {cure: "somebody has deleted the stream: find out who; a reload makes it anew"},
	10060: {cure: "another stream takes this subject: give the store another subject, or take it from that stream"},
	10065: {cure: "another stream takes its subject, see nats stream find --subject: give the store another subject, or take it from that stream"},
	10109: {cure: "the stream is sealed: give the store another one"},

	// There is no JetStream.
	10035: {cure: "check the account of its user"},
	10039: {cure: "give its user's account JetStream"},
	10076: {cure: "start the server with JetStream, or check domain"},
}

// opening, writing and asking make errors fit for a log.

func (s *Store) opening(ctx context.Context, err error) error {
	return s.failure(ctx, fmt.Sprintf("opening audit store %q", s.description.Location), err)
}

func (s *Store) writing(ctx context.Context, batch []forwarder.Record, err error) error {
	first, last := batch[0].Sequence, batch[0].Sequence
	for _, r := range batch {
		first, last = min(first, r.Sequence), max(last, r.Sequence)
	}
	failure := s.failure(ctx, fmt.Sprintf("publishing entries %d to %d to audit store %q", first, last, s.description.Location), err)
	if isRefusal(err) && ctx.Err() == nil {
		return &forwarder.RefusedError{Err: failure}
	}
	return failure
}

func (s *Store) asking(ctx context.Context, instance string, err error) error {
	return s.failure(ctx, fmt.Sprintf("asking audit store %q what it has of instance %.64q", s.description.Location, instance), err)
}

func (s *Store) failure(ctx context.Context, doing string, err error) *storeError {
	e := &storeError{text: doing + ": "}
	switch {
	case s.closed.Err() != nil || errors.Is(err, errClosed):
		e.text += errClosed.Error()
	case ctx.Err() != nil:
		e.text += "it was broken off"
		e.cause = context.Cause(ctx)
	default:
		e.text += s.explain(err)
	}
	return e
}

// explain is an error in our words, and what to do about it.
func (s *Store) explain(err error) string {
	text := s.known.clean(err.Error())
	var refused *jetstream.APIError
	var wrong *wrongAckError
	var offline *offlineError
	switch {
	case errors.As(err, &refused):
		text += fmt.Sprintf(" (code %d)", refused.ErrorCode)
		if cure := answers[refused.ErrorCode].cure; cure != "" {
			text += ": " + cure
		}
		return text
	case errors.As(err, &wrong):
		return text + ": check that no other domain takes the same subjects, or name yours by domain"
	case errors.Is(err, errTooLarge):
		return fmt.Sprintf("an entry is larger than the server's max_payload of %d bytes: raise that on all servers", s.link.nc.MaxPayload())
	case errors.Is(err, nats.ErrPermissionViolation):
		return text + ": let its user do that, see docs/nats.md for all it needs"
	case errors.Is(err, nats.ErrMaxSubscriptionsExceeded):
		return text + ": let its user have two subscriptions at least"
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return "nobody answers: check that JetStream is up, that the stream is there and that " + cutCheck(quorum)
	case errors.Is(err, jetstream.ErrAsyncPublishTimeout), errors.Is(err, errNoAnswer):
		return fmt.Sprintf("there was no answer within %s: %s, or give the store a longer timeout", s.c.Timeout, quorum)
	case errors.As(err, &offline):
		return text + connectCure(err)
	case errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed):
		return "the connection was lost: " + s.known.clean(s.link.reason().Error())
	}
	return text
}

// isSignIn reports whether a server did not let us in.
func isSignIn(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) ||
		errors.Is(err, nats.ErrAccountAuthExpired)
}

// connectCure is what to do about a connection that cannot be made.
func connectCure(err error) string {
	switch {
	case isSignIn(err):
		return ": check its credential, and that the servers know its user"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return ": the server has no TLS: give it some, or write nats:// and insecure if the network may see every entry"
	case errors.Is(err, nats.ErrTLS):
		return ": check the servers' certificates, the hosts of the URLs, and tls"
	case errors.Is(err, nats.ErrNoServers):
		return ": check that a server runs and can be reached from here"
	}
	return ""
}

// cutCheck takes the verb off a cure that stands in another one.
func cutCheck(cure string) string { return cure[len("check that "):] }
