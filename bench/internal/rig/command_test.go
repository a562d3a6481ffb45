package rig

import (
	"strings"
	"testing"
)

func TestACutExportIsAnError(t *testing.T) {
	const line = `{"id":"a","revision":1,"action":{"code":"audit.started"},"origin":{"instance":"i","sequence":7}}` + "\n"
	es, err := Decode(strings.NewReader(line + line))
	if err != nil || len(es) != 2 || es[0].Origin.Sequence != 7 || !es[1].Event() || es[0].Sum != es[1].Sum {
		t.Errorf("got %+v, %v", es, err)
	}
	for _, cut := range []string{line + line[:40], line + strings.TrimSpace(line), line + "\n", line + "no json\n"} {
		if _, err := Decode(strings.NewReader(cut)); err == nil {
			t.Errorf("%q was accepted", cut[len(line):])
		}
	}
}

func TestStatusSumsAreDoneHere(t *testing.T) {
	good := Status{
		Head: 30, Conserved: true,
		Calls:  Calls{Seen: 21, Recorded: 10, Excluded: 5, Refused: 3, Passed: 1, Folded: 1, Open: 1},
		Stores: []StoreStatus{{Name: "sqlite", Start: 2, Position: 20, Delivered: 10, Filtered: 5, Quarantined: 3, Skipped: 1, Damaged: 1, Pending: 8}},
	}
	if b := good.Broken(); len(b) > 0 {
		t.Errorf("a sum that holds: %v", b)
	}
	for name, spoil := range map[string]func(*Status){
		"a call too few":           func(s *Status) { s.Calls.Recorded-- },
		"an entry too many":        func(s *Status) { s.Stores[0].Delivered++ },
		"a position past the head": func(s *Status) { s.Stores[0].Position = 31 },
		"a start past the head":    func(s *Status) { s.Stores[0].Start = 31 },
		"no store":                 func(s *Status) { s.Stores = nil },
		"its own doubt":            func(s *Status) { s.Conserved = false },
	} {
		s := good
		s.Stores = append([]StoreStatus(nil), good.Stores...)
		spoil(&s)
		if len(s.Broken()) == 0 {
			t.Errorf("%s: was not noticed", name)
		}
	}
	if good.Drained() {
		t.Error("8 pending and 1 open passed for drained")
	}
}
