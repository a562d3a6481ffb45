package operator

import (
	"context"
	"slices"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Verification says whether a store has all that it ever took, but for what has expired.
type Verification struct {
	Store string `json:"store"`
	// OK says that nothing is lost, and that nothing is missing that should be there.
	OK bool `json:"ok"`
	// Received counts the sequences that ever arrived, by instance merged, and Expired
	// the entries that are gone with a receipt, by class.
	Received uint64                 `json:"received"`
	Expired  []forwarder.ClassTotal `json:"expired"`
	// Lost are sequences that have arrived and are gone without a receipt: somebody has
	// deleted their entries.
	Lost []forwarder.Range `json:"lost"`
	// Missing are sequences that never arrived, though later ones have. Partial says that
	// this may be as it should: the store does not get every entry.
	Missing []forwarder.Range `json:"missing"`
	Partial bool              `json:"partial,omitempty"`
}

// Verify goes through the ledger of the store of a name, or of the first that has one.
func Verify(ctx context.Context, list stores.List, name string) (v Verification, err error) {
	l, name, err := list.OpenLedger(ctx, name)
	if err != nil {
		return v, err
	}
	defer l.Close()
	n := list[list.Index(name)]
	v = Verification{Store: name, Partial: !n.IsZero() || n.Detachable > 0 || n.From == stores.FromNow, Expired: []forwarder.ClassTotal{}, Lost: []forwarder.Range{}, Missing: []forwarder.Range{}}
	lost, err := l.Lost(ctx)
	if err != nil {
		return v, err
	}
	v.Lost = append(v.Lost, lost...)
	if c, ok := l.(forwarder.Checker); ok {
		received, err := c.Received(ctx)
		if err != nil {
			return v, err
		}
		for _, r := range received {
			v.Received += r.Last - r.First + 1
		}
		v.Missing = append(v.Missing, forwarder.Holes(received)...)
	}
	at := map[string]int{}
	for r, err := range l.Receipts(ctx) {
		if err != nil {
			return v, err
		}
		i, ok := at[r.Class]
		if !ok {
			i = len(v.Expired)
			at[r.Class] = i
			v.Expired = append(v.Expired, forwarder.ClassTotal{Class: r.Class})
		}
		v.Expired[i].Entries += r.Entries
	}
	begins := func(r forwarder.Range) bool { return r.First == 1 } // the store may have come later
	v.OK = len(v.Lost) == 0 && (v.Partial || !slices.ContainsFunc(v.Missing, func(r forwarder.Range) bool { return !begins(r) }))
	return v, nil
}
