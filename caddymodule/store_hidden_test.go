package caddymodule

import (
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The easiest way to hide an action is a reload: the event must show what it hides.
func TestWhatAReloadHidesFromAStoreShowsInTheEventHoweverLongItsAddressIs(t *testing.T) {
	n := func(f forwarder.Filter) string {
		s := &stores.Store{Name: "siem", Opener: new(longStore), StoreConfig: &stores.StoreConfig{Filter: f}}
		return bounded([]string{s.Describe()})[0]
	}
	before, after := n(forwarder.Filter{}), n(forwarder.Filter{Except: forwarder.Conditions{Actions: []string{"DELETE *"}}})
	if before == after {
		t.Errorf("the line is the same before and after: %q", after)
	}
}

type longStore struct{ pickyStore }

func (*longStore) Describe() forwarder.Description {
	return forwarder.Description{Kind: "http", Location: "https://siem.example.com/" + strings.Repeat("x", 260)}
}
