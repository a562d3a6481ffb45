package identity

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

const (
	// knownFor is how long a credential is known after the API accepted it.
	knownFor = 24 * time.Hour
	// maxCallers bounds the credentials that are known.
	maxCallers = 100_000
)

// Known remembers the callers that the API has accepted lately, by the hash of
// their credential. It is safe for concurrent use. A restart forgets them.
type Known struct {
	mu      sync.RWMutex
	callers memory[struct{}]
}

// NewKnown makes a memory that knows nobody.
func NewKnown() *Known { return &Known{callers: newMemory[struct{}](maxCallers)} }

// Accepted notes that the API has accepted the actor of an entry: it answered an
// operation that requires a credential, or somebody said whose it is.
func (k *Known) Accepted(a *audit.Actor) {
	if a.TokenHash == "" || a.Verification == audit.VerificationNone || a.Verification == audit.VerificationSignature {
		return // a signature proves itself, each time
	}
	k.note(a.TokenHash)
}

func (k *Known) note(hash string) {
	sum, now := sha256.Sum256([]byte(hash)), time.Now()
	k.mu.RLock()
	r, there := k.callers.values[sum]
	k.mu.RUnlock()
	if there && r.until.Sub(now) > knownFor-time.Minute {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.callers.put(sum, struct{}{}, now.Add(knownFor), now)
}

// Succeeded notes that the API did not refuse an actor, for an API that nobody
// has described: then nothing better can be known of a credential.
func (k *Known) Succeeded(a *audit.Actor) {
	if a.TokenHash != "" && a.VerificationReason != audit.ReasonSeveralCredentials {
		k.note(a.TokenHash)
	}
}

// Has reports whether the actor is known: by a signature, or because the API
// has accepted its credential within a day.
func (k *Known) Has(a *audit.Actor) bool {
	if a.Verification != audit.VerificationNone {
		return true
	}
	if a.TokenHash == "" {
		return false
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, ok := k.callers.get(sha256.Sum256([]byte(a.TokenHash)), time.Now())
	return ok
}
