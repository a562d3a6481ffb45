package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

// verification says whether a store has all that it ever took, but for what has expired.
type verification struct {
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

// verify looks at a ledger.
func (a *App) verify(ctx context.Context, name string) (v verification, err error) {
	l, name, err := a.stores.OpenLedger(ctx, name)
	if err != nil {
		return v, err
	}
	defer l.Close()
	n := a.stores[a.stores.Index(name)]
	v = verification{Store: name, Partial: !n.IsZero() || n.Detachable > 0 || n.From == stores.FromNow, Expired: []forwarder.ClassTotal{}, Lost: []forwarder.Range{}, Missing: []forwarder.Range{}}
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

func (a *App) serveVerify(w http.ResponseWriter, r *http.Request) error {
	v, err := a.verify(r.Context(), r.URL.Query().Get("store"))
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func (v *verification) print(w io.Writer) {
	fmt.Fprintf(w, "%s has received %d sequences\n", v.Store, v.Received)
	for _, c := range v.Expired {
		fmt.Fprintf(w, "  expired  %d of class %s, with receipts\n", c.Entries, display.Printable(c.Class))
	}
	for _, r := range v.Missing {
		why := "never arrived"
		switch {
		case r.First == 1:
			why = "were recorded before the store was there, or never arrived"
		case v.Partial:
			why = "never arrived: filtered, detached or not asked for, as the configuration says"
		}
		fmt.Fprintf(w, "  missing  %d to %d of %s: %s\n", r.First, r.Last, display.Printable(r.Instance), why)
	}
	for _, r := range v.Lost {
		fmt.Fprintf(w, "  LOST     %d to %d of %s: they were there, and are gone without a receipt\n", r.First, r.Last, display.Printable(r.Instance))
	}
	if v.OK {
		fmt.Fprintln(w, "nothing is lost")
	}
}
