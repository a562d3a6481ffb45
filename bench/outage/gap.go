package main

import (
	"encoding/json"
	"fmt"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// codeGap is the action of entries that tell of losses.
const codeGap = "audit.gap"

// The reasons of gaps that tell what one store does not get.
const (
	reasonDetached = "detached"
	reasonDropped  = "dropped"
)

// gap is what such an entry says.
type gap struct {
	Reason string `json:"reason"`
	Cause  string `json:"cause"`
	Store  string `json:"store"`
	Count  uint64 `json:"count"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
}

// gapOf reads an entry that is a gap.
func gapOf(e rig.Entry) (g gap, ok bool) {
	return g, e.Action.Code == codeGap && json.Unmarshal(e.Action.Metadata, &g) == nil
}

// given says by store which sequences gaps tell that it does not get.
func given(entries []rig.Entry) map[string]map[uint64]string {
	lost := map[string]map[uint64]string{}
	for _, e := range entries {
		g, ok := gapOf(e)
		if !ok || g.Store == "" || g.First == 0 || g.Last-g.First >= 10_000_000 {
			continue
		}
		if lost[g.Store] == nil {
			lost[g.Store] = map[uint64]string{}
		}
		for n := g.First; n <= g.Last; n++ {
			lost[g.Store][n] = fmt.Sprintf("gap %s (%s, %d to %d) says that it is not", e.ID, g.Reason, g.First, g.Last)
		}
	}
	return lost
}
