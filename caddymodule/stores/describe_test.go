package stores

import (
	"context"
	"log/slog"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// noStore says what it is, and can do nothing.
type noStore struct{}

func (noStore) Describe() forwarder.Description { return forwarder.Description{Kind: "none"} }

func (noStore) Open(context.Context, *slog.Logger) (forwarder.Store, error) { panic("nobody opens it") }

// What has not changed must not show as a change, and the hash of a configuration is one.
func TestThePolicyLineOfAStoreIsTheSameEachTime(t *testing.T) {
	n := &Store{Name: "siem", Opener: noStore{}, StoreConfig: &StoreConfig{Filter: forwarder.Filter{
		Only: forwarder.Conditions{Organizations: []string{"acme"}}, Except: forwarder.Conditions{Actions: []string{"audit.heartbeat"}},
	}}}
	first := n.Describe()
	for range 100 {
		if again := n.Describe(); again != first {
			t.Fatalf("once %q, then %q", first, again)
		}
	}
}
