package identity

import (
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/jwttest"
)

// knowing is a deriver that knows one token.
func knowing(t testing.TB) (*audit.Deriver, *audit.Call) {
	key, err := audit.SecretKey(jwttest.Keys().Secret)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := audit.NewIssuer(jwttest.URL, []string{"authenticated"}, audit.Supabase(), nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier([]*Issuer{{Issuer: issuer, Fixed: []audit.Key{key}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwttest.Claims(map[string]any{"aal": "aal2", "amr": []any{"password", "totp"}, "app_metadata": map[string]any{"providers": []string{"email"}}})
	token := jwttest.Sign(jose.HS256, jwttest.Keys().Secret, "key-1", nil, claims)
	return &audit.Deriver{Platform: audit.Supabase(), Key: new(audit.TokenKey), Verifier: v},
		&audit.Call{Arrived: time.Now(), Method: "GET", Authorization: "Bearer " + token, ClientIP: "203.0.113.9", PeerIP: "203.0.113.9", UserAgent: "cli/1"}
}

func TestAKnownTokenCostsFiveAllocationsAtMost(t *testing.T) {
	d, c := knowing(t)
	if a := d.Identify(c); a.Verification != audit.VerificationSignature {
		t.Fatalf("%+v", a)
	}
	if n := testing.AllocsPerRun(100, func() { d.Identify(c) }); n > 5 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkKnownToken(b *testing.B) {
	d, c := knowing(b)
	d.Identify(c)
	b.ReportAllocs()
	for b.Loop() {
		d.Identify(c)
	}
}

func BenchmarkUnknownToken(b *testing.B) {
	keys, _, err := audit.ParseKeys(jwttest.Keys().Set("ec"))
	if err != nil {
		b.Fatal(err)
	}
	d, c := knowing(b)
	v := d.Verifier.(*Verifier)
	v.issuers[jwttest.URL].Fixed = keys
	c.Authorization = "Bearer " + jwttest.Session()
	b.ReportAllocs()
	for b.Loop() {
		clear(v.known.values)
		d.Identify(c)
	}
}

func TestTheMemoryOfTokensIsBounded(t *testing.T) {
	d, c := knowing(t)
	v := d.Verifier.(*Verifier)
	d.Identify(c)
	var sample knownToken
	for _, r := range v.known.values {
		sample = r.value
	}
	for n := range 2 * maxKnown {
		v.known.put(audit.TokenSum{byte(n), byte(n >> 8), byte(n >> 16)}, sample, sample.identity.Until(), c.Arrived)
	}
	if len(v.known.values) != maxKnown {
		t.Errorf("%d tokens are remembered", len(v.known.values))
	}
	if id := v.recall(audit.TokenSum{1}, sample.identity.Until().Add(time.Second)); id != nil {
		t.Error("an expired token is remembered")
	}
}

func TestManyCallsAtOnceAreVerified(t *testing.T) {
	d, c := knowing(t)
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 200 {
				if a := d.Identify(c); a.UserID != "u-1" {
					t.Errorf("%+v", a)
				}
			}
		})
	}
	calls.Wait()
}
