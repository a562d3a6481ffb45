package caddymodule

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// A counter that goes back is a restart to Prometheus, so that all of it counts again.
func TestNoCounterOfAStoreGoesBackWhenQuarantineIsResolved(t *testing.T) {
	r := newRig(t, ok)
	setPicky(t, "poison", false)
	r.load(withStores("store picky"), proxy)
	for range 3 {
		r.send("PATCH", project+"/functions/poison", nil, "{}")
	}
	await(t, "quarantine", func() bool {
		r.send("GET", project, nil, "")
		return r.storeStatus("picky").Quarantined == 3 && r.storeStatus("picky").Pending == 0
	})
	counters := func() map[string]float64 {
		reg := prometheus.NewRegistry()
		reg.MustRegister(terms{})
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		list := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if c := m.GetCounter(); c != nil {
					list[f.GetName()+" "+m.String()[:strings.Index(m.String(), "counter")]] = c.GetValue()
				}
			}
		}
		return list
	}
	before := counters()
	if out, err := r.run("quarantine", "drop", "picky", "--all", "--reason", "test"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	after := counters()
	for name, n := range before {
		if after[name] < n {
			t.Errorf("%s went from %g to %g", name, n, after[name])
		}
	}
}
