package caddymodule

import (
	"strings"
	"testing"
	"time"
)

// What the error says is what there is to do: then it must go on.
func TestAStoreGoesOnOnceTheQuarantineThatKeptItFromAnotherDestinationIsEmpty(t *testing.T) {
	r := newRig(t, ok)
	setPicky(t, "poison", false)
	r.load(withStores("store picky {\nname siem\n}"), proxy)
	r.send("PATCH", project+"/functions/poison", nil, "{}")
	await(t, "quarantine", func() bool {
		r.send("GET", project, nil, "")
		return r.storeStatus("siem").Quarantined == 1 && r.storeStatus("siem").Pending == 0
	})
	r.load(withStores("store file %DIR%/other.ndjson {\nname siem\nfrom oldest\n}"), proxy)
	r.send("PATCH", project+"/functions/after", nil, "{}")
	await(t, "a reason", func() bool { return strings.Contains(r.storeStatus("siem").LastError, "drop them, go back to") })
	if out, err := r.run("quarantine", "drop", "siem", "--all", "--reason", "as I was told"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for end := time.Now().Add(45 * time.Second); r.storeStatus("siem").Pending > 0; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it still waits: %+v", r.storeStatus("siem"))
		}
	}
}
