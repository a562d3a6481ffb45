package identity

import (
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

func TestKnownCallersOutliveARestart(t *testing.T) {
	accepted := &audit.Actor{TokenHash: "a", Verification: audit.VerificationAccepted}
	k := NewKnown()
	k.Accepted(accepted)
	b, err := k.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	again := NewKnown()
	if err := again.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	caller := &audit.Actor{TokenHash: "a", Verification: audit.VerificationNone}
	if !again.Has(caller) {
		t.Error("a caller is not known any more")
	}
	if again.Has(&audit.Actor{TokenHash: "b", Verification: audit.VerificationNone}) {
		t.Error("somebody else is known")
	}
	for i := range b {
		for _, harmed := range [][]byte{b[:i], append(append(append([]byte{}, b[:i]...), b[i]^0x10), b[i+1:]...)} {
			k := NewKnown()
			if err := k.UnmarshalBinary(harmed); err == nil {
				t.Fatalf("a file that is harmed at %d is believed", i)
			}
			if k.Has(caller) {
				t.Fatalf("a file that is harmed at %d makes somebody known", i)
			}
		}
	}
}

func TestAKnownCallerOfTheFutureIsKnownForADayAtMost(t *testing.T) {
	k := NewKnown()
	k.callers.put(audit.TokenSum{1}, struct{}{}, time.Now().Add(1000*knownFor), time.Now())
	b, err := k.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	again := NewKnown()
	if err := again.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if until := again.callers.values[audit.TokenSum{1}].until; time.Until(until) > knownFor {
		t.Errorf("known until %s", until)
	}
}
