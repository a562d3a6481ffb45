package caddymodule

import (
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// What has not changed must not show as a change, and the hash of a configuration is one.
func TestThePolicyLineOfAStoreIsTheSameEachTime(t *testing.T) {
	n := &stores.Store{Name: "siem", Opener: new(pickyStore), StoreConfig: &stores.StoreConfig{Filter: forwarder.Filter{
		Only: forwarder.Conditions{Organizations: []string{"acme"}}, Except: forwarder.Conditions{Actions: []string{"audit.heartbeat"}},
	}}}
	first := n.Describe()
	for range 100 {
		if again := n.Describe(); again != first {
			t.Fatalf("once %q, then %q", first, again)
		}
	}
}
