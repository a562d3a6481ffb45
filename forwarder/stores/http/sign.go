package httpstore

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The headers of the Standard Webhooks specification.
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

// The specification's bounds of a symmetric secret, in bytes.
const minSecret, maxSecret = 24, 64

// requestID is the same for the same entries, and for no others: whoever has taken a
// request under it has taken this one. It has no dot, which would let two requests
// sign the same text.
func requestID(instance string, first, last uint64, records []forwarder.Record) string {
	h := sha256.New()
	add := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	add(instance)
	add(strconv.FormatUint(first, 10))
	add(strconv.FormatUint(last, 10))
	for _, r := range records {
		add(r.Entry.ID)
		add(strconv.Itoa(r.Entry.Revision))
	}
	return "msg_" + hex.EncodeToString(h.Sum(nil)[:16])
}

// signingKey is one secret, symmetric or asymmetric.
type signingKey struct {
	symmetric  []byte
	asymmetric ed25519.PrivateKey
}

// parseSecret reads a secret in the specification's form. The error does not show it.
func parseSecret(secret string) (signingKey, error) {
	if text, ok := strings.CutPrefix(secret, "whsec_"); ok {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(b) < minSecret || len(b) > maxSecret {
			return signingKey{}, fmt.Errorf("it is not whsec_ and the base64 of %d to %d bytes: make one by echo whsec_$(openssl rand -base64 32)", minSecret, maxSecret)
		}
		return signingKey{symmetric: b}, nil
	}
	if text, ok := strings.CutPrefix(secret, "whsk_"); ok {
		b, err := base64.StdEncoding.DecodeString(text)
		if err == nil && (len(b) == ed25519.SeedSize || len(b) == ed25519.PrivateKeySize) {
			key := ed25519.NewKeyFromSeed(b[:ed25519.SeedSize])
			if bytes.HasPrefix(key, b) {
				return signingKey{asymmetric: key}, nil
			}
		}
		return signingKey{}, fmt.Errorf("it is not whsk_ and the base64 of an ed25519 key, its seed of %d bytes alone or with the public key behind it", ed25519.SeedSize)
	}
	return signingKey{}, fmt.Errorf("it begins neither with whsec_ nor with whsk_: make one by echo whsec_$(openssl rand -base64 32)")
}

// signatures returns the value of webhook-signature: what each key makes of each body.
//
// The specification signs the body that was sent. When it was compressed, a receiver's
// framework may have decompressed it before anything of the receiver's sees it, or
// not. A receiver accepts a request when one signature is right, so both are signed.
func signatures(keys []signingKey, id string, at time.Time, bodies ...[]byte) string {
	prefix := id + "." + strconv.FormatInt(at.Unix(), 10) + "."
	var all []string
	for _, key := range keys {
		for _, body := range bodies {
			all = append(all, key.sign(prefix, body))
		}
	}
	return strings.Join(all, " ")
}

func (k signingKey) sign(prefix string, body []byte) string {
	if k.asymmetric != nil {
		return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(k.asymmetric, append([]byte(prefix), body...)))
	}
	mac := hmac.New(sha256.New, k.symmetric)
	mac.Write([]byte(prefix))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
