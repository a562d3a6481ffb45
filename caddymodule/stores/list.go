package stores

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/spool"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
)

// List are the stores of a configuration, in its order. They do not change.
type List []*Store

// Load sets the configured stores up, and opens none: without any, one SQLite database.
func Load(ctx caddy.Context, configs []*StoreConfig, database string) (List, error) {
	if len(configs) == 0 {
		return List{{StoreConfig: new(StoreConfig), Name: "sqlite", Opener: &sqlite.Module{Path: database}}}, nil
	}
	var list List
	for i, c := range configs {
		if c == nil {
			return nil, fmt.Errorf("audit_log store: number %d is null: give it a store, or take it out", i+1)
		}
		n, err := c.provision(ctx)
		if err == nil && list.Has(n.Name) {
			err = fmt.Errorf("there are two stores with the name %q: give one of them another, as in: name siem", n.Name)
		}
		if err != nil {
			err = fmt.Errorf("audit_log store: %w", err)
			if c.DefinedAt != "" {
				err = fmt.Errorf("%s: %w", c.DefinedAt, err)
			}
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// Has reports whether there is a store of a name.
func (l List) Has(name string) bool { return l.Index(name) >= 0 }

// Index is that of the store of a name, -1 if there is none.
func (l List) Index(name string) int {
	return slices.IndexFunc(l, func(n *Store) bool { return n.Name == name })
}

// Names are those of all.
func (l List) Names() (names []string) {
	for _, n := range l {
		names = append(names, n.Name)
	}
	return names
}

// Readable is the store that is read back, nil if none can be.
func (l List) Readable() *Store {
	for _, all := range []bool{true, false} {
		for _, n := range l {
			if n.isReadable() && (n.IsZero() || !all) {
				return n
			}
		}
	}
	return nil
}

// NotKept are the names of those that do not enforce retention themselves.
func (l List) NotKept() (names []string) {
	for _, n := range l {
		if !n.Keeps() {
			names = append(names, n.Name)
		}
	}
	return names
}

// OpenReader opens the first store that can be read back, and if there is one, the first of
// them that gets every entry.
func (l List) OpenReader(ctx context.Context) (forwarder.ReadCloser, error) {
	if n := l.Readable(); n != nil {
		return n.Opener.(forwarder.ReaderOpener).OpenReader(ctx)
	}
	return nil, errors.New("none of the configured stores can be read back: add one that can, such as sqlite")
}

// OpenNamed opens the store of a name, or with an empty one what OpenReader opens. It
// may be one that is slow to read.
func (l List) OpenNamed(ctx context.Context, name string) (forwarder.ReadCloser, error) {
	if name == "" {
		return l.OpenReader(ctx)
	}
	i := l.Index(name)
	if i < 0 {
		return nil, fmt.Errorf("reading store %q: the configuration has no store of that name: it has %s", name, strings.Join(l.Names(), ", "))
	}
	n := l[i]
	if o, ok := n.Opener.(forwarder.ReaderOpener); ok {
		return o.OpenReader(ctx)
	}
	o, ok := n.Opener.(forwarder.ScanOpener)
	switch {
	case !ok:
		return nil, fmt.Errorf("reading store %q: what a store %s has taken cannot be read back: name one that can, such as sqlite, postgres or s3", name, n.Opener.Describe().Kind)
	case n.Format == formatOCSF:
		return nil, fmt.Errorf("reading store %q: its format is ocsf, and only native entries can be put in order and in their highest revision: read its objects themselves", name)
	}
	return spool.New(o, ""), nil
}

// OpenLedger opens the ledger of the store of a name, or of the first that has one.
func (l List) OpenLedger(ctx context.Context, name string) (forwarder.LedgerCloser, string, error) {
	for _, n := range l {
		if o, ok := n.Opener.(forwarder.LedgerOpener); ok && (name == "" || n.Name == name) {
			ledger, err := o.OpenLedger(ctx)
			return ledger, n.Name, err
		}
	}
	switch {
	case name == "":
		return nil, "", errors.New("none of the configured stores enforces retention itself: add one that does, such as sqlite or postgres")
	case l.Has(name):
		return nil, "", fmt.Errorf("store %q does not enforce retention itself, so nothing can be told of it: sqlite and postgres do", name)
	}
	return nil, "", fmt.Errorf("the configuration has no store %q: it has %s", name, strings.Join(l.Names(), ", "))
}
