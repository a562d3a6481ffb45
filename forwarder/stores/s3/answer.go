package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

var (
	errClosed  = errors.New("it is closed")
	errTimeout = errors.New("the time is over")
)

// requestError is why a request failed, as a text that shows no secret. What came from
// the network is not kept: its own text might.
type requestError struct {
	text       string
	code       string
	status     int
	retryAfter time.Duration
	cause      error // of the context, if that ended
}

func (e *requestError) Error() string { return e.text }

// RetryAfter is how long the server wants to be left alone, zero if it did not say.
func (e *requestError) RetryAfter() time.Duration { return e.retryAfter }

func (e *requestError) Unwrap() error { return e.cause }

// failure makes an error of what a request returned.
func (b *client) failure(ctx context.Context, doing string, err error, retryAfter time.Duration) error {
	f := &requestError{retryAfter: retryAfter}
	said := minio.ToErrorResponse(err)
	var secret *credentialError
	switch {
	case errors.As(err, &secret):
		f.text = secret.Error()
	case errors.Is(context.Cause(ctx), errTimeout):
		f.text = fmt.Sprintf("the server did not answer within %s: check that it can be reached, or give it a longer timeout", b.timeout)
	case ctx.Err() != nil:
		f.text, f.cause = "it was broken off", ctx.Err()
	case said.Code != "" && (said.StatusCode != 0 || said.RequestID == "minio"):
		f.code, f.status = b.known.clean(said.Code), said.StatusCode
		f.text = "the server answered " + f.code
		if said.Message != "" {
			f.text += fmt.Sprintf(" and said %q", b.known.clean(said.Message))
		}
		f.text += b.codeCure(said)
	default:
		f.text = b.known.clean(err.Error()) + networkCure(err)
	}
	f.text = doing + ": " + f.text
	return f
}

// codeCure is what to do about an answer, as the end of a message.
func (b *client) codeCure(said minio.ErrorResponse) string {
	switch said.Code {
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		return ": check the key's policy: it needs s3:PutObject, s3:GetObject and s3:ListBucket, with lock also s3:GetBucketObjectLockConfiguration, s3:GetBucketVersioning and s3:PutObjectRetention, with legal_hold also s3:PutObjectLegalHold"
	case minio.NoSuchBucket:
		return fmt.Sprintf(": make the bucket %q, with Object Lock if entries shall be locked, or say create on", b.target.bucket)
	case "InvalidAccessKeyId", "XAdminUserNotFound", "InvalidToken", "ExpiredToken", "TokenRefreshRequired", "InvalidClientTokenId", "ExpiredTokenException":
		return ": check its options access_key and session_token, or the environment that they come from"
	case "SignatureDoesNotMatch", "XAmzContentSHA256Mismatch":
		return ": check its option secret_key, and that no proxy changes what is sent"
	case "RequestTimeTooSkewed", "RequestExpired":
		return ": set this machine's clock right"
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "InvalidRegion", "IllegalLocationConstraintException":
		text := ": check its option region and the endpoint"
		if said.Region != "" {
			text += fmt.Sprintf("; the bucket is in %q", b.known.clean(said.Region))
		}
		return text
	case "InvalidRequest", "InvalidArgument", "NotImplemented", "InvalidBucketState":
		return ": check that the server knows what its options ask for: lock, legal_hold, encryption, storage_class; and that this machine's clock is right"
	case "InvalidStorageClass":
		return ": check its option storage_class"
	case "QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "InsufficientCapacity":
		return ": give the bucket more room"
	}
	if strings.HasPrefix(said.Code, "KMS") {
		return ": check its option encryption and that the key may use the KMS key"
	}
	if said.StatusCode >= 300 && said.StatusCode < 400 {
		return ": a redirect is not followed: name the endpoint that has the bucket itself, and its region"
	}
	if said.StatusCode == http.StatusUnauthorized || said.StatusCode == http.StatusForbidden {
		return ": check its keys and what they may do"
	}
	return ""
}

// networkCure is what to do about an error of the network, as the end of a message.
func networkCure(err error) string {
	var unverified *tls.CertificateVerificationError
	var name x509.HostnameError
	var network *net.OpError
	switch {
	case errors.As(err, &name):
		return ": check the endpoint's host, or name what the certificate has by tls server_name"
	case errors.As(err, &unverified):
		return ": check the endpoint's certificate, or name the file of its issuer's by tls ca"
	case errors.As(err, &network) && network.Op == "dial":
		return ": check the endpoint's host, and that the server runs and can be reached from here"
	}
	return ""
}

// refusal reports whether the server says that these bytes will never be taken. The list
// is all there is: every other error is tried again.
func refusal(err error) bool {
	var f *requestError
	return errors.As(err, &f) && (f.code == minio.EntityTooLarge || f.code == "MaxMessageLengthExceeded" || f.status == http.StatusRequestEntityTooLarge)
}

// failure is what Write returns.
func (s *Store) failure(batch []forwarder.Record, err error) error {
	if s.closed.Err() != nil {
		err = errClosed
	}
	first, last := batch[0].Sequence, batch[0].Sequence
	for _, r := range batch {
		first, last = min(first, r.Sequence), max(last, r.Sequence)
	}
	err = &writeError{fmt.Sprintf("writing entries %d to %d to audit store %q: ", first, last, s.target.location()), err}
	if refusal(err) {
		return &forwarder.RefusedError{Err: err}
	}
	return err
}

// writeError says what was being written.
type writeError struct {
	doing string
	err   error
}

func (e *writeError) Error() string { return e.doing + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// RetryAfter is what the server asked for, zero if nothing.
func (e *writeError) RetryAfter() time.Duration {
	var asked interface{ RetryAfter() time.Duration }
	if errors.As(e.err, &asked) {
		return asked.RetryAfter()
	}
	return 0
}
