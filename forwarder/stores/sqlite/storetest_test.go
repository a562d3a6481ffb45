package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
)

func TestStoreKeepsItsContract(t *testing.T) {
	storetest.Run(t, func(t testing.TB) *storetest.Target {
		path := filepath.Join(t.TempDir(), "audit.db")
		return &storetest.Target{
			Opener: &Module{Path: path},
			Documents: func() ([][]byte, error) {
				r, err := OpenReader(t.Context(), path)
				if err != nil {
					return nil, err
				}
				defer r.Close()
				var docs [][]byte
				for doc, err := range r.Read(t.Context(), forwarder.Query{}) {
					if err != nil {
						return nil, err
					}
					docs = append(docs, append([]byte(nil), doc...))
				}
				return docs, nil
			},
		}
	}, storetest.Options{})
}
