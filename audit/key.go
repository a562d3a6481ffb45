package audit

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxKeys bounds what one token can be tried against.
	maxKeys = 64
	// minRSABits is what is still held to be safe.
	minRSABits = 2048
	// minSecret is the least that HS256 takes, in bytes.
	minSecret = 32
)

// Key is one key that an issuer signs with. Which algorithms it serves follows
// from what it is, never from what a token says: a token that is signed by HMAC
// with an RSA key's public half finds no key.
type Key struct {
	id         string
	algorithms []jose.SignatureAlgorithm
	material   any
}

// String keeps a secret out of logs and errors.
func (k Key) String() string { return fmt.Sprintf("key %q for %v", k.id, k.algorithms) }

// GoString keeps it out of %#v too.
func (k Key) GoString() string { return k.String() }

var (
	rsaAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	// hmacAlgorithms by the bytes that their secret must have, shortest first.
	hmacAlgorithms = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}
	// verifiable is every algorithm that any key can serve; none is not one.
	verifiable = append(append([]jose.SignatureAlgorithm{
		jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}, rsaAlgorithms...), hmacAlgorithms...)
)

// SecretKey is the key of an issuer that signs by HMAC. Whoever has it can make
// tokens, so it is never part of a published set.
func SecretKey(secret []byte) (Key, error) {
	if len(secret) < minSecret {
		return Key{}, fmt.Errorf("a secret of %d bytes can be guessed: the issuer has to use one of at least %d", len(secret), minSecret)
	}
	n := 1
	for n < len(hmacAlgorithms) && len(secret) >= minSecret+n*16 {
		n++
	}
	return Key{algorithms: hmacAlgorithms[:n], material: slices.Clone(secret)}, nil
}

// ParseKeys reads a JWK set. What cannot verify a signature is left out and
// counted: encryption keys, kinds that we do not know, RSA below 2048 bits, and
// keys that are no secret any more because they stand in a set, which are the
// symmetric and the private ones. A set without keys is no error: an issuer may
// have withdrawn them.
func ParseKeys(set []byte) (keys []Key, leftOut int, err error) {
	var raw struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &raw); err != nil {
		return nil, 0, fmt.Errorf("reading a key set: it is no JSON object: %w", err)
	}
	if raw.Keys == nil {
		return nil, 0, errors.New(`reading a key set: it has no member "keys"`)
	}
	if len(*raw.Keys) > maxKeys {
		return nil, 0, fmt.Errorf("reading a key set: it has %d keys, and %d is the most that is taken", len(*raw.Keys), maxKeys)
	}
	for _, r := range *raw.Keys {
		if key, ok := parseKey(r); ok {
			keys = append(keys, key)
		} else {
			leftOut++
		}
	}
	return keys, leftOut, nil
}

func parseKey(raw []byte) (Key, bool) {
	var jwk jose.JSONWebKey
	if jwk.UnmarshalJSON(raw) != nil || !jwk.Valid() || !jwk.IsPublic() || jwk.Use != "" && jwk.Use != "sig" {
		return Key{}, false
	}
	algorithms := algorithmsOf(jwk.Key)
	if jwk.Algorithm != "" {
		named := jose.SignatureAlgorithm(jwk.Algorithm)
		if !slices.Contains(algorithms, named) {
			return Key{}, false
		}
		algorithms = []jose.SignatureAlgorithm{named}
	}
	return Key{id: jwk.KeyID, algorithms: algorithms, material: jwk.Key}, len(algorithms) > 0
}

func algorithmsOf(material any) []jose.SignatureAlgorithm {
	switch k := material.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() >= minRSABits {
			return rsaAlgorithms
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			return []jose.SignatureAlgorithm{jose.ES384}
		case elliptic.P521():
			return []jose.SignatureAlgorithm{jose.ES512}
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}
	}
	return nil
}

// serves reports whether the key may have signed a token with that header. A
// token without a key id may be any key's, and a key without one, as a secret
// is, may have signed any token.
func (k *Key) serves(id string, algorithm jose.SignatureAlgorithm) bool {
	return (id == "" || k.id == "" || k.id == id) && slices.Contains(k.algorithms, algorithm)
}
