// Package jwttest is an issuer of JWTs for the tests of the rooms that read
// them. Nothing but tests imports it, and it imports no room.
package jwttest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// URL is the iss of its tokens.
const URL = "https://auth.example.com"

// KeyRing holds the issuer's keys. Secret serves HMAC and stands in no set.
type KeyRing struct {
	RSA    *rsa.PrivateKey
	EC     *ecdsa.PrivateKey
	Ed     ed25519.PrivateKey
	Secret []byte
}

// Keys are the issuer's own. All but the RSA key are the same in each process,
// so that a fuzzer's workers know each other's tokens.
var Keys = sync.OnceValue(func() *KeyRing {
	seed := sha256.Sum256([]byte("an issuer of tests"))
	return &KeyRing{
		RSA:    must(rsa.GenerateKey(rand.Reader, 2048)),
		EC:     must(ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])),
		Ed:     ed25519.NewKeyFromSeed(seed[:]),
		Secret: []byte("a secret of more than sixty-four bytes, so that it serves HS512 too"),
	}
})

// Set is the JWK set of the public keys that are named: "rsa", "ec" and "ed",
// which are their ids.
func (k *KeyRing) Set(ids ...string) []byte {
	public := map[string]jose.JSONWebKey{
		"rsa": {Key: k.RSA.Public(), KeyID: "rsa"},
		"ec":  {Key: k.EC.Public(), KeyID: "ec"},
		"ed":  {Key: k.Ed.Public(), KeyID: "ed", Use: "sig"},
	}
	var set jose.JSONWebKeySet
	for _, id := range ids {
		set.Keys = append(set.Keys, public[id])
	}
	return must(json.Marshal(set))
}

// Sign makes a JWT of any header and claims.
func Sign(alg jose.SignatureAlgorithm, key any, kid string, header map[string]any, claims string) string {
	options := (&jose.SignerOptions{}).WithType("JWT")
	for name, value := range header {
		options = options.WithHeader(jose.HeaderKey(name), value)
	}
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, options))
	return must(must(signer.Sign([]byte(claims))).CompactSerialize())
}

// Claims are those of a person's session for the next hour, changed by each of
// the maps in turn; nil takes a claim away.
func Claims(changes ...map[string]any) string {
	claims := map[string]any{
		"iss": URL, "sub": "u-1", "aud": "authenticated", "exp": time.Now().Unix() + 3600,
		"email": "ada@example.com", "role": "authenticated", "session_id": "s-1",
	}
	for _, change := range changes {
		maps.Copy(claims, change)
	}
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return string(must(json.Marshal(claims)))
}

// Session is a token of such claims, signed by the EC key.
func Session(changes ...map[string]any) string {
	return Sign(jose.ES256, Keys().EC, "ec", nil, Claims(changes...))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
