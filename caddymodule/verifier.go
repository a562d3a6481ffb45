package caddymodule

import (
	"fmt"
	"sync"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

const (
	// maxKnown bounds the tokens whose identity is remembered.
	maxKnown = 10_000
	// maxSampled is how many are looked at to find one that can be forgotten.
	maxSampled = 8
)

// verifier verifies the tokens of a site's issuers, and remembers those that
// were verified, so that a session costs one check of its signature. It waits
// for nothing but its own lock.
type verifier struct {
	issuers map[string]*Issuer // by their iss

	mu    sync.RWMutex
	known map[audit.TokenSum]knownToken
}

// knownToken holds as long as the keys are those that verified it: an issuer
// that withdraws one withdraws what it has signed.
type knownToken struct {
	identity *audit.Identity
	issuer   *Issuer
	set      *keys // nil if no set at a URL was there
}

func newVerifier(issuers []*Issuer) (*verifier, error) {
	v := &verifier{issuers: map[string]*Issuer{}, known: map[audit.TokenSum]knownToken{}}
	for _, i := range issuers {
		if v.issuers[i.URL] != nil {
			return nil, fmt.Errorf("issuer %s: there is one of that name already: put all of it into one block", i.URL)
		}
		v.issuers[i.URL] = i
	}
	return v, nil
}

// Identify implements audit.Verifier.
func (v *verifier) Identify(sum audit.TokenSum, token string, now time.Time) (*audit.Identity, audit.Reason) {
	if id := v.recall(sum, now); id != nil {
		verifiedFromCache.Inc()
		return id, ""
	}
	id, why := v.verify(sum, token, now)
	switch {
	case id != nil:
		verifiedBySignature.Inc()
	case why == audit.ReasonNoKeys, why == audit.ReasonUnknownKey:
		verifiedWithoutKey.Inc()
	case why != "":
		verifiedFailed.Inc()
	}
	return id, why
}

func (v *verifier) recall(sum audit.TokenSum, now time.Time) *audit.Identity {
	v.mu.RLock()
	k, ok := v.known[sum]
	v.mu.RUnlock()
	if !ok || !k.identity.Holds(now) || k.issuer.source != nil && k.issuer.source.keys() != k.set {
		return nil
	}
	return k.identity
}

func (v *verifier) verify(sum audit.TokenSum, token string, now time.Time) (*audit.Identity, audit.Reason) {
	t, why := audit.ReadToken(token)
	if t == nil {
		return nil, why
	}
	issuer := v.issuers[t.ClaimedIssuer()]
	if issuer == nil {
		return nil, audit.ReasonWrongIssuer
	}
	list, set := issuer.keys()
	id, why := issuer.verified.Verify(t, list, now)
	missing := why == audit.ReasonUnknownKey || why == audit.ReasonAlgorithm
	switch {
	case id != nil:
		v.remember(sum, knownToken{id, issuer, set}, now)
	case missing && issuer.source != nil && set == nil:
		why = audit.ReasonNoKeys // so far there is only the secret to try
	case why == audit.ReasonUnknownKey && issuer.source != nil:
		issuer.source.want()
	}
	return id, why
}

// remember keeps an identity, and forgets another one if there are too many: of
// a few at random the one that expires first.
func (v *verifier) remember(sum audit.TokenSum, k knownToken, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, there := v.known[sum]; !there && len(v.known) >= maxKnown {
		var (
			first   audit.TokenSum
			until   time.Time
			sampled int
		)
		for other, o := range v.known {
			if sampled == 0 || o.identity.Until().Before(until) {
				first, until = other, o.identity.Until()
			}
			if sampled++; sampled == maxSampled || until.Before(now) {
				break
			}
		}
		delete(v.known, first)
	}
	v.known[sum] = k
}

// Interface guards
var _ audit.Verifier = (*verifier)(nil)
