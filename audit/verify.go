package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// maxToken bounds the tokens that are verified, in bytes.
	maxToken = 16 << 10
	// leeway is how far an issuer's clock may be from ours.
	leeway = time.Minute
)

// Reason says why a credential was not verified. It is one of few words, and
// never holds anything of the credential.
type Reason string

// The reasons. Those after ReasonBadSignature are of tokens that the issuer did
// sign: an expired token that somebody tries is not a forged one.
const (
	// ReasonSeveralCredentials means that the call has two Authorization headers,
	// two keys, or a header and a cookie at odds: the API may have read another
	// one than we.
	ReasonSeveralCredentials Reason = "several_credentials"
	// ReasonTooLarge means that it has more than 16 KiB.
	ReasonTooLarge Reason = "too_large"
	// ReasonMalformed means that it is not a JWS in compact form whose parts are
	// strict base64url and whose header and claims are JSON objects.
	ReasonMalformed Reason = "malformed"
	// ReasonDuplicateName means that a JSON object in it names a member twice, so
	// that two readers may read it differently.
	ReasonDuplicateName Reason = "duplicate_name"
	// ReasonEncrypted means that it is a JWE.
	ReasonEncrypted Reason = "encrypted"
	// ReasonNested means that it holds another token instead of claims.
	ReasonNested Reason = "nested"
	// ReasonCriticalHeader means that its header asks for an extension.
	ReasonCriticalHeader Reason = "critical_header"
	// ReasonWrongIssuer means that it names no configured issuer.
	ReasonWrongIssuer Reason = "wrong_issuer"
	// ReasonAlgorithm means that no key of the issuer serves its algorithm, which
	// may be "none".
	ReasonAlgorithm Reason = "algorithm_not_allowed"
	// ReasonNoKeys means that the issuer's keys have not been read yet.
	ReasonNoKeys Reason = "no_keys"
	// ReasonUnknownKey means that the issuer has no key of that id.
	ReasonUnknownKey Reason = "unknown_key"
	// ReasonBadSignature means that none of the issuer's keys made the signature.
	ReasonBadSignature Reason = "bad_signature"
	// ReasonBadClaim means that a claim of RFC 7519 has another type than there.
	ReasonBadClaim Reason = "bad_claim"
	// ReasonNoExpiry means that it has no exp: a token must end some day.
	ReasonNoExpiry Reason = "no_expiry"
	// ReasonExpired means that its exp is more than a minute ago.
	ReasonExpired Reason = "expired"
	// ReasonNotYetValid means that its nbf or iat is more than a minute ahead.
	ReasonNotYetValid Reason = "not_yet_valid"
	// ReasonWrongAudience means that its aud names none of those configured.
	ReasonWrongAudience Reason = "wrong_audience"

	// ReasonInactive means that the service that was asked says that the
	// credential is not valid, or no longer.
	ReasonInactive Reason = "inactive"
	// ReasonNobody means that the service knows the credential and names nobody.
	ReasonNobody Reason = "nobody"
	// ReasonLookupFailed means that the service did not answer in time, or with
	// what is no answer.
	ReasonLookupFailed Reason = "lookup_failed"
	// ReasonLookupBusy means that too many others were being asked about.
	ReasonLookupBusy Reason = "lookup_busy"
	// ReasonAssertedOther means that the API named another user in its answer
	// than the credential proves. The entry keeps what is proved.
	ReasonAssertedOther Reason = "asserted_other"
)

// TokenSum identifies a token to a Verifier.
type TokenSum = [sha256.Size]byte

// Verifier tells whose a token is. It must not wait for anything: what it needs
// from elsewhere it has, or says that it has not.
type Verifier interface {
	// Identify returns the identity of a verified token, or nil and why it was
	// not. What is no JWT at all has neither.
	Identify(sum TokenSum, token string, now time.Time) (*Identity, Reason)
}

// SignedToken is a JWT that has been read and not verified.
type SignedToken struct {
	jws       *jose.JSONWebSignature
	keyID     string
	algorithm jose.SignatureAlgorithm
	issuer    string
}

// ClaimedIssuer is whom the token claims to be of. It is good for finding that
// issuer and for nothing else.
func (t *SignedToken) ClaimedIssuer() string { return t.issuer }

// mayBeJWT is a cheap look at what is worth a verifier's: a JWS has two dots, a
// JWE four.
func mayBeJWT(token string) bool {
	dots := strings.Count(token, ".")
	return dots == 2 || dots == 4
}

// ReadToken reads a JWT in compact form. What does not begin with a header as
// JWTs have it is no JWT, and has neither a result nor a reason.
//
// It is strict where readers differ, so that the API cannot take from the same
// bytes another identity, nor a leaked token have two spellings.
func ReadToken(token string) (*SignedToken, Reason) {
	head, rest, ok := strings.Cut(token, ".")
	if !ok || len(head) > maxToken {
		return nil, ""
	}
	header, why := decodePart(head)
	switch _, named := header["alg"].(string); {
	case why == ReasonDuplicateName:
		return nil, why
	case why != "" || !named:
		return nil, ""
	case len(token) > maxToken:
		return nil, ReasonTooLarge
	case header["enc"] != nil:
		return nil, ReasonEncrypted
	}
	t := new(SignedToken)
	if why := t.readHeader(header); why != "" {
		return nil, why
	}
	body, signature, ok := strings.Cut(rest, ".")
	if !ok || !isBase64(signature) {
		return nil, ReasonMalformed
	}
	claims, why := decodePart(body)
	if why != "" {
		if b, err := strict.DecodeString(body); err == nil && strings.Count(string(b), ".") >= 2 && !json.Valid(b) {
			return nil, ReasonNested
		}
		return nil, why
	}
	if t.issuer, ok = claims["iss"].(string); !ok && claims["iss"] != nil {
		return nil, ReasonBadClaim
	}
	var err error
	if t.jws, err = jose.ParseSignedCompact(token, verifiable); err != nil {
		return nil, ReasonMalformed
	}
	return t, ""
}

// readHeader takes the key's id and the algorithm. All else that a header may
// say about keys (jwk, jku, x5u, x5c) is the token's own word and never looked
// at.
func (t *SignedToken) readHeader(header map[string]any) Reason {
	if header["crit"] != nil || header["b64"] != nil {
		return ReasonCriticalHeader
	}
	if typ, _ := header["cty"].(string); strings.EqualFold(typ, "JWT") || strings.EqualFold(typ, "application/jwt") {
		return ReasonNested
	}
	id, ok := header["kid"].(string)
	if !ok && header["kid"] != nil {
		return ReasonMalformed
	}
	algorithm, _ := header["alg"].(string)
	t.keyID, t.algorithm = id, jose.SignatureAlgorithm(algorithm)
	if !slices.Contains(verifiable, t.algorithm) {
		return ReasonAlgorithm
	}
	return ""
}

// strict refuses the spare bits of the last character, which would give one
// token several spellings, each with a hash of its own.
var strict = base64.RawURLEncoding.Strict()

func isBase64(s string) bool {
	_, err := strict.DecodeString(s)
	// The decoder skips line ends.
	return err == nil && strings.Trim(s, wordChars) == ""
}

// decodePart reads a part of a token that must be a JSON object.
func decodePart(part string) (map[string]any, Reason) {
	if !isBase64(part) {
		return nil, ReasonMalformed
	}
	b, err := strict.DecodeString(part)
	if err != nil {
		return nil, ReasonMalformed
	}
	return decodeObject(b)
}

// decodeObject tells apart what names a member twice, at any depth.
func decodeObject(b []byte) (map[string]any, Reason) {
	var object map[string]any
	if err := josejson.Unmarshal(b, &object); err == nil && object != nil {
		return object, ""
	}
	if err := json.Unmarshal(b, &object); err == nil && object != nil {
		return nil, ReasonDuplicateName
	}
	return nil, ReasonMalformed
}

// Verify checks a token against an issuer's keys: its signature first, so that
// every later reason is about a token that the issuer did make.
func (i *Issuer) Verify(t *SignedToken, keys []Key, now time.Time) (*Identity, Reason) {
	if t.issuer != i.url {
		return nil, ReasonWrongIssuer
	}
	payload, why := t.checkSignature(keys)
	if why != "" {
		return nil, why
	}
	claims, why := decodeObject(payload)
	if why != "" {
		return nil, why
	}
	var registered jwt.Claims
	if err := josejson.Unmarshal(payload, &registered); err != nil {
		return nil, ReasonBadClaim
	}
	if registered.Expiry == nil {
		return nil, ReasonNoExpiry
	}
	err := registered.ValidateWithLeeway(jwt.Expected{Issuer: i.url, AnyAudience: i.audiences, Time: now}, leeway)
	switch {
	case err == nil:
	case errors.Is(err, jwt.ErrExpired):
		return nil, ReasonExpired
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return nil, ReasonNotYetValid
	case errors.Is(err, jwt.ErrInvalidAudience):
		return nil, ReasonWrongAudience
	default:
		return nil, ReasonWrongIssuer
	}
	return i.identity(registered.Subject, claims, registered.Expiry.Time().Add(leeway))
}

func (t *SignedToken) checkSignature(keys []Key) (payload []byte, why Reason) {
	if len(keys) == 0 {
		return nil, ReasonNoKeys
	}
	served, named := false, false
	for j := range keys {
		k := &keys[j]
		named = named || k.id == t.keyID
		if !k.serves(t.keyID, t.algorithm) {
			continue
		}
		served = true
		if payload, err := t.jws.Verify(k.material); err == nil {
			return payload, ""
		}
	}
	switch {
	case served:
		return nil, ReasonBadSignature
	case named || t.keyID == "" || slices.Contains(hmacAlgorithms, t.algorithm):
		return nil, ReasonAlgorithm // a set that is read anew would bring no such key
	default:
		return nil, ReasonUnknownKey
	}
}
