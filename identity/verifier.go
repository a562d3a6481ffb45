package identity

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Issuer is whose tokens are verified, and with which keys. It does not change
// once a Verifier has it.
type Issuer struct {
	*audit.Issuer
	// Fixed are keys that stay, as those of a file or a secret do.
	Fixed []audit.Key
	// Source has those at a URL. It may be nil.
	Source *KeySource
}

// keys are those of the moment, and the set that came by URL, if one did.
func (i *Issuer) keys() ([]audit.Key, *keys) {
	if i.Source == nil {
		return i.Fixed, nil
	}
	set := i.Source.keys()
	switch {
	case set == nil:
		return i.Fixed, nil
	case len(i.Fixed) == 0:
		return set.list, set
	default:
		return slices.Concat(i.Fixed, set.list), set
	}
}

// Check is how the verification of a JWT ended.
type Check string

// The checks.
const (
	CheckSignature Check = "signature"
	CheckCached    Check = "cached" // it was verified before
	CheckFailed    Check = "failed"
	CheckNoKey     Check = "no_key" // there is none to check it with
)

// Verifier verifies the tokens of a site's issuers, and remembers those that
// were verified, so that a session costs one check of its signature. It waits
// for nothing but its own lock, and is safe for concurrent use.
type Verifier struct {
	issuers map[string]*Issuer // by their iss
	observe func(Check)

	mu    sync.RWMutex
	known memory[knownToken]
}

// knownToken holds as long as the keys are those that verified it: an issuer
// that withdraws one withdraws what it has signed.
type knownToken struct {
	identity *audit.Identity
	issuer   *Issuer
	set      *keys // nil if no set at a URL was there
}

// NewVerifier makes a site's verifier. Observe is told of each JWT; it may be
// nil.
func NewVerifier(issuers []*Issuer, observe func(Check)) (*Verifier, error) {
	v := &Verifier{issuers: map[string]*Issuer{}, observe: observe, known: newMemory[knownToken](maxKnown)}
	if v.observe == nil {
		v.observe = func(Check) {}
	}
	for _, i := range issuers {
		if v.issuers[i.URL()] != nil {
			return nil, fmt.Errorf("issuer %s: there is one of that name already: put all of it into one block", i.URL())
		}
		v.issuers[i.URL()] = i
	}
	return v, nil
}

// Identify implements audit.Verifier.
func (v *Verifier) Identify(sum audit.TokenSum, token string, now time.Time) (*audit.Identity, audit.Reason) {
	if id := v.recall(sum, now); id != nil {
		v.observe(CheckCached)
		return id, ""
	}
	id, why := v.verify(sum, token, now)
	switch {
	case id != nil:
		v.observe(CheckSignature)
	case why == audit.ReasonNoKeys, why == audit.ReasonUnknownKey:
		v.observe(CheckNoKey)
	case why != "":
		v.observe(CheckFailed)
	}
	return id, why
}

func (v *Verifier) recall(sum audit.TokenSum, now time.Time) *audit.Identity {
	v.mu.RLock()
	k, ok := v.known.get(sum, now)
	v.mu.RUnlock()
	if !ok || k.issuer.Source != nil && k.issuer.Source.keys() != k.set {
		return nil
	}
	return k.identity
}

func (v *Verifier) verify(sum audit.TokenSum, token string, now time.Time) (*audit.Identity, audit.Reason) {
	t, why := audit.ReadToken(token)
	if t == nil {
		return nil, why
	}
	issuer := v.issuers[t.ClaimedIssuer()]
	if issuer == nil {
		return nil, audit.ReasonWrongIssuer
	}
	list, set := issuer.keys()
	id, why := issuer.Verify(t, list, now)
	missing := why == audit.ReasonUnknownKey || why == audit.ReasonAlgorithm
	switch {
	case id != nil:
		v.mu.Lock()
		v.known.put(sum, knownToken{id, issuer, set}, id.Until(), now)
		v.mu.Unlock()
	case missing && issuer.Source != nil && set == nil:
		why = audit.ReasonNoKeys // so far there is only the secret to try
	case why == audit.ReasonUnknownKey && issuer.Source != nil:
		issuer.Source.want()
	}
	return id, why
}

// Interface guards
var _ audit.Verifier = (*Verifier)(nil)
