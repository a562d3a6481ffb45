package main

import "github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"

// verdict is what a run found; it is the program's last line.
type verdict struct {
	Seed  uint64 `json:"seed"`
	Kills int    `json:"kills"`
	Stops int    `json:"stops"`
	// Reloads were taken; KillsInReloads found one under way.
	Reloads        int `json:"reloads"`
	KillsInReloads int `json:"kills_in_reloads"`
	oracle.Verdict
	// WrongReloads were not taken although nothing was killed.
	WrongReloads int `json:"wrong_reloads"`
	// Conserved says that the equations held in or after every life.
	Conserved bool `json:"conserved"`
	// CountersAgree says that the product counts as many recorded calls as it
	// exports.
	CountersAgree bool `json:"counters_agree"`
	// OfflineEqual says that the export of the stopped product is the one of
	// the running product.
	OfflineEqual bool `json:"offline_equal"`
}

func (v *verdict) held() bool { return v.Held() && v.WrongReloads == 0 && v.OfflineEqual }
