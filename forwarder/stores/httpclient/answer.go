package httpclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxRetryAfter bounds what an answer may ask for. The forwarder's own bound is lower.
const MaxRetryAfter = 24 * time.Hour

// sendError is why a request failed, as a text that shows no secret. What came from
// the network is not kept: its own text might.
type sendError struct {
	text       string
	retryAfter time.Duration
	cause      error // of the context, if that ended
}

func (e *sendError) Error() string { return e.text }

// RetryAfter is how long the receiver wants to be left alone, zero if it did not say.
func (e *sendError) RetryAfter() time.Duration { return e.retryAfter }

func (e *sendError) Unwrap() error { return e.cause }

// statusError is an answer that is no success.
type statusError struct {
	status     int
	text       string
	retryAfter time.Duration
}

func (e *statusError) Error() string { return e.text }

// judge makes an error of an answer.
func (c *Client) judge(answer *http.Response, known Secrets) *statusError {
	e := &statusError{
		status:     answer.StatusCode,
		text:       "the receiver answered " + statusName(answer.StatusCode),
		retryAfter: RetryAfter(answer.Header, c.Now()),
	}
	if answer.StatusCode >= 300 && answer.StatusCode < 400 {
		e.text += redirect(answer, known)
		return e
	}
	if answer.StatusCode >= 200 {
		if said := known.readText(answer.Header, answer.Body, c.dialect.Said); said != "" {
			e.text += fmt.Sprintf(" and said %q", said)
		}
	}
	e.text += c.statusCure(answer.StatusCode)
	return e
}

// redirect says where an answer points to. It is not followed: the entries and the
// credentials would go to whomever the receiver names.
func redirect(answer *http.Response, known Secrets) string {
	text := ", which is not followed"
	if to, err := answer.Location(); err == nil {
		to.User, to.RawQuery, to.Fragment = nil, "", ""
		text += fmt.Sprintf(", to %q", known.Clean(to.String()))
	}
	return text + ": name the address that takes the entries itself"
}

// statusCure is what to do about a status, as the end of a message.
func (c *Client) statusCure(status int) string {
	if c.dialect.Cure != nil {
		if cure := c.dialect.Cure(status); cure != "" {
			return ": " + cure
		}
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ": check the credential in its header options and what it may do"
	case http.StatusNotFound, http.StatusGone, http.StatusMethodNotAllowed:
		return ": check the path of its URL"
	case http.StatusProxyAuthRequired:
		return ": check the user and the password in its option proxy"
	case http.StatusRequestEntityTooLarge:
		return ": set its option max_body to what the receiver takes"
	case http.StatusRequestHeaderFieldsTooLarge:
		return ": take out headers or secrets that are not needed"
	}
	return ""
}

// cure is what to do about an error of the network, as the end of a message. Asked says
// that the receiver has asked for a certificate: one that then does not like what it
// gets closes the connection, and it is a matter of time which error that becomes.
func cure(err error, asked bool) string {
	var unverified *tls.CertificateVerificationError
	var name x509.HostnameError
	var network *net.OpError
	switch {
	case errors.As(err, &name):
		return ": check the host of its URL, or name what the certificate has by tls server_name"
	case errors.As(err, &unverified):
		return ": check the receiver's certificate, or name the file of its issuer's by tls ca"
	case errors.As(err, &network) && network.Op == "dial":
		return ": check the host of its URL, and that the receiver runs and can be reached from here"
	case asked:
		return ": the receiver asks for a certificate: check that it takes that of tls client_certificate"
	}
	return ""
}

// RetryAfter reads the header Retry-After in both its forms, as a pause from now on.
// Zero is none. A date is held against the answer's own, so that a clock that differs
// does no harm.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseUint(value, 10, 64)
		if err != nil || seconds > uint64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter // too many digits
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if sent, err := http.ParseTime(h.Get("Date")); err == nil {
		now = sent
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}
