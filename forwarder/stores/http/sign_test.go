package httpstore

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
)

// The test vector that the specification's libraries are published with.
const (
	vectorID      = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime    = 1614265330
	vectorPayload = `{"test": 2432232314}`

	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

	vectorKey          = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
	vectorKeySignature = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="
)

func TestASignatureIsThatOfThePublishedVector(t *testing.T) {
	for secret, want := range map[string]string{
		vectorSecret: vectorSignature, vectorKey: vectorKeySignature,
		withPublicKey(vectorKey): vectorKeySignature,
	} {
		key, err := parseSecret(secret)
		if err != nil {
			t.Fatal(err)
		}
		if got := signatures([]signingKey{key}, vectorID, time.Unix(vectorTime, 0), []byte(vectorPayload)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if !verified(vectorSecret, vectorID, "1614265330", vectorSignature, []byte(vectorPayload)) {
		t.Error("this test's own verification does not know the vector")
	}
}

func withPublicKey(secret string) string {
	seed, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsk_"))
	return "whsk_" + base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed))
}

// verified is what a receiver's library does, written from the specification.
func verified(secret, id, timestamp, header string, body []byte) bool {
	signed := []byte(id + "." + timestamp + "." + string(body))
	prefix, text, _ := strings.Cut(secret, "_")
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	for signature := range strings.SplitSeq(header, " ") {
		version, text, _ := strings.Cut(signature, ",")
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return false
		}
		switch {
		case version == "v1" && prefix == "whsec":
			mac := hmac.New(sha256.New, key)
			mac.Write(signed)
			if hmac.Equal(mac.Sum(nil), b) {
				return true
			}
		case version == "v1a" && prefix == "whpk":
			if ed25519.Verify(key, signed, b) {
				return true
			}
		}
	}
	return false
}

func verifies(secret string, h http.Header, body []byte) bool {
	return verified(secret, h.Get(headerID), h.Get(headerTimestamp), h.Get(headerSignature), body)
}

func secretOf(b string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(b, 32)))
}

func TestAReceiverVerifiesTheBodyAsSentAndAsDecompressed(t *testing.T) {
	seed := []byte(strings.Repeat("e", ed25519.SeedSize))
	public := "whpk_" + base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	p := placeholders{"{env.A}": secretOf("a") + "\n", "{env.E}": "whsk_" + base64.StdEncoding.EncodeToString(seed)}
	for _, compress := range []string{httpclient.CompressGzip, httpclient.CompressZstd, httpclient.CompressNone} {
		r, url := newReceiver(t)
		s := open(t, Config{URL: url, Compress: compress, Secrets: []string{"{env.A}", "{env.E}"}, Resolve: p.resolve})
		write(t, s, records(t, 1, 20))
		got := r.last(t)
		for _, secret := range []string{secretOf("a"), public} {
			for name, body := range map[string][]byte{"as sent": got.body, "decompressed": got.plain(t)} {
				if !verifies(secret, got.Header, body) {
					t.Errorf("%s: the body %s does not verify by %.6s", compress, name, secret)
				}
			}
			if verifies(secret, got.Header, append(got.plain(t), ' ')) {
				t.Error("a body that was changed verifies")
			}
		}
		if verifies(secretOf("b"), got.Header, got.body) {
			t.Error("it verifies by a secret that is none")
		}
	}
}

func TestSecretsRotateWithoutAMomentInWhichNoneIsKnown(t *testing.T) {
	r, url := newReceiver(t)
	p := placeholders{"{file./run/new}": secretOf("o"), "{file./run/old}": secretOf("o")}
	s := open(t, Config{URL: url, Secrets: []string{"{file./run/new}", "{file./run/old}"}, Resolve: p.resolve})
	known := func() (byOld, byNew bool) {
		t.Helper()
		write(t, s, records(t, 1, 2))
		got := r.last(t)
		return verifies(secretOf("o"), got.Header, got.body), verifies(secretOf("n"), got.Header, got.body)
	}
	if byOld, byNew := known(); !byOld || byNew {
		t.Errorf("before: by the old %v, by the new %v", byOld, byNew)
	}
	p["{file./run/new}"] = secretOf("n") // no restart, no reload
	if byOld, byNew := known(); !byOld || !byNew {
		t.Errorf("meanwhile: by the old %v, by the new %v", byOld, byNew)
	}
	p["{file./run/old}"] = secretOf("n")
	if byOld, byNew := known(); byOld || !byNew {
		t.Errorf("after: by the old %v, by the new %v", byOld, byNew)
	}
}

func TestWithoutASecretNothingIsSigned(t *testing.T) {
	r, url := newReceiver(t)
	s := open(t, Config{URL: url})
	s.client.Now = func() time.Time { return time.Unix(vectorTime, 0) }
	write(t, s, records(t, 1, 1))
	h := r.last(t).Header
	if _, ok := h[http.CanonicalHeaderKey(headerSignature)]; ok || h.Get(headerTimestamp) != "1614265330" || h.Get(headerID) == "" {
		t.Errorf("headers %v", h)
	}
}

func TestASecretThatIsNoneIsSaidWithoutShowingIt(t *testing.T) {
	_, url := newReceiver(t)
	for _, secret := range []string{
		"planted", "whsec_", "whsec_planted", "whsec_" + base64.StdEncoding.EncodeToString([]byte("planted too short")),
		"whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("planted", 10))),
		"whsk_planted", "whsk_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("p", 64))), "whpk_planted",
	} {
		p := placeholders{"{env.A}": secret}
		err := fails(t, open(t, Config{URL: url, Secrets: []string{"{env.A}"}, Resolve: p.resolve}))
		clienttest.Mentions(t, err, "{env.A}", url)
		if secret != "whsec_" && strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "planted") {
			t.Errorf("the error shows the secret: %v", err)
		}
		if clienttest.IsRefused(err) {
			t.Error("a wrong secret is no refusal")
		}
	}
	s := open(t, Config{URL: url, Secrets: []string{"{env.A}"}, Resolve: placeholders{}.resolve})
	clienttest.Mentions(t, fails(t, s), "{env.A}", "nobody has set it")
}
