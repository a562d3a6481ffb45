package main

import (
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// verdict is what a run found; it is the program's last line. The fields from
// Missing on are 0 (and the last three true) when the promise held.
type verdict struct {
	Seed  uint64 `json:"seed"`
	Kills int    `json:"kills"`
	Stops int    `json:"stops"`
	// Reloads were taken; KillsInReloads found one under way.
	Reloads        int `json:"reloads"`
	KillsInReloads int `json:"kills_in_reloads"`
	Acked          int `json:"acked"`
	Reached        int `json:"reached"`
	Refused        int `json:"refused"`
	Stored         int `json:"stored"`
	// Unknown are stored calls whose end nobody could record.
	Unknown int `json:"unknown"`
	// ReadsLost are reads that reached the API, were not answered and left no
	// entry: a read has no intent, so this is allowed.
	ReadsLost int    `json:"reads_lost"`
	Head      uint64 `json:"head"`

	// Missing were answered and are not stored.
	Missing int `json:"missing"`
	// Unrecorded are changing calls that reached the API and are not stored.
	Unrecorded int `json:"unrecorded"`
	// Duplicates are ids that are stored in more than one entry.
	Duplicates int `json:"duplicates"`
	// SequenceErrors are numbers that are used twice, lie outside the buffer's
	// range, or are missing without a revision that explains it.
	SequenceErrors int `json:"sequence_errors"`
	// WrongStatus are entries with another status or outcome than what
	// happened; WrongFields those with another route, target or project.
	WrongStatus int `json:"wrong_status"`
	WrongFields int `json:"wrong_fields"`
	// RefusedReached were declined by the product and reached the API.
	RefusedReached int `json:"refused_reached"`
	// Strangers are entries of calls that nobody sent.
	Strangers int `json:"strangers"`
	// Gaps are losses that the product itself reports.
	Gaps int `json:"gaps"`
	// Hangs are answers that did not come although nothing was killed.
	Hangs int `json:"hangs"`
	// WrongReloads were not taken although nothing was killed.
	WrongReloads int `json:"wrong_reloads"`
	// Conserved says that the equations held after every start.
	Conserved bool `json:"conserved"`
	// CountersAgree says that the product counts as many recorded calls as it
	// exports.
	CountersAgree bool `json:"counters_agree"`
	// OfflineEqual says that the export of the stopped product is the one of
	// the running product.
	OfflineEqual bool `json:"offline_equal"`

	oracle.Problems
}

func (v *verdict) held() bool {
	return v.Missing+v.Unrecorded+v.Duplicates+v.SequenceErrors+v.WrongStatus+v.WrongFields+
		v.RefusedReached+v.Strangers+v.Gaps+v.Hangs+v.WrongReloads == 0 &&
		v.Conserved && v.CountersAgree && v.OfflineEqual && v.Acked > 0
}

// compare holds the stored entries against what the oracle saw.
func (v *verdict) compare(calls map[string]*oracle.Call, entries []rig.Entry, head uint64) {
	v.Head = head
	stored := map[string][]rig.Entry{}
	ids := map[string]bool{}
	for _, e := range entries {
		if ids[e.ID] {
			v.Note(&v.Duplicates, "entry %s is exported twice", e.ID)
			continue
		}
		ids[e.ID] = true
		if e.Event() {
			if e.Action.Code == "audit.gap" {
				v.Note(&v.Gaps, "the product reports a gap: entry %s", e.ID)
			}
			continue
		}
		if calls[e.TargetID()] == nil {
			v.Note(&v.Strangers, "entry %s (%s %s, target %q) belongs to no call", e.ID, e.Action.Method, e.Action.Route, e.TargetID())
			continue
		}
		stored[e.TargetID()] = append(stored[e.TargetID()], e)
	}
	v.Stored = len(stored)
	for id, c := range calls {
		v.count(id, c)
		switch found := stored[id]; {
		case len(found) == 0:
			v.absent(id, c)
		case len(found) > 1:
			v.Note(&v.Duplicates, "call %s has %d entries: %s, %s", id, len(found), found[0].ID, found[1].ID)
		default:
			v.check(id, c, found[0])
		}
	}
	v.SequenceErrors += oracle.Sequences(calls, entries, head, &v.Problems)
}

func (v *verdict) count(id string, c *oracle.Call) {
	if c.Acked() {
		v.Acked++
	}
	if c.Reached {
		v.Reached++
	}
	if c.Refused {
		v.Refused++
		if c.Reached {
			v.Note(&v.RefusedReached, "call %s was refused and reached the API", id)
		}
	}
}

func (v *verdict) absent(id string, c *oracle.Call) {
	if c.Acked() {
		v.Note(&v.Missing, "call %s (%s %s) was answered with %d and is not stored", id, c.Kind.Method, c.Kind.Template, c.Status)
	}
	if !c.Reached {
		return
	}
	if c.Kind.Read() {
		v.ReadsLost++
		return
	}
	v.Note(&v.Unrecorded, "call %s (%s %s) reached the API and is not stored", id, c.Kind.Method, c.Kind.Template)
}

// check holds one entry against its call.
func (v *verdict) check(id string, c *oracle.Call, e rig.Entry) {
	if e.Outcome == "unknown" {
		v.Unknown++
	}
	if why := c.WrongFields(id, e); why != "" {
		v.Note(&v.WrongFields, "%s", why)
	}
	if why := c.WrongStatus(id, e); why != "" {
		v.Note(&v.WrongStatus, "%s", why)
	}
}
