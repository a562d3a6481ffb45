//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// issuer makes JWTs: with a secret as issuerURL, and with a key as otherURL.
type issuer struct {
	secret []byte
	key    *ecdsa.PrivateKey
}

const (
	issuerURL = "https://auth.example.com"
	otherURL  = "https://keys.example.com"
)

func newIssuer() (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making an issuer's key: %w", err)
	}
	return &issuer{[]byte("a secret of this trial, which is long enough for it to serve"), key}, nil
}

// session is a person's token for the next hour, each another one, signed with a secret.
func (*issuer) session(secret []byte, n uint64) string {
	text := unsigned("HS256", issuerURL, n)
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(text)) // never fails
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// other is one that is signed with the key.
func (i *issuer) other(n uint64) string {
	text := unsigned("ES256", otherURL, n)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		panic(err) // the key is whole
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// set is what serves the key.
func (i *issuer) set() ([]byte, error) {
	point, err := i.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return nil, fmt.Errorf("writing an issuer's key: %w", err)
	}
	return encode(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "kid": "trial", "alg": "ES256", "use": "sig",
		"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
	}}}), nil
}

func unsigned(alg, iss string, n uint64) string {
	header := encode(map[string]any{"alg": alg, "kid": "trial", "typ": "JWT"})
	claims := encode(map[string]any{
		"iss": iss, "sub": "u-1", "aud": "authenticated", "exp": time.Now().Unix() + 3600, "email": "ada@example.com", "role": "authenticated", "jti": fmt.Sprint(n),
	})
	return base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
}

func encode(v map[string]any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts and numbers always encode
	}
	return b
}
