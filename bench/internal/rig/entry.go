package rig

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
)

// Entry is what the programs here read of an exported entry.
type Entry struct {
	ID               string `json:"id"`
	Revision         int    `json:"revision"`
	RequestID        string `json:"request_id"`
	Timestamp        int64  `json:"timestamp"`
	RecordedAt       int64  `json:"recorded_at"`
	OrganizationSlug string `json:"organization_slug"`
	ProjectRef       string `json:"project_ref"`
	Action           struct {
		Code   string `json:"code"`
		Method string `json:"method"`
		Route  string `json:"route"`
		Status int    `json:"status"`
		// Metadata are an event's facts.
		Metadata json.RawMessage `json:"metadata"`
	} `json:"action"`
	Actor struct {
		UserAgent string `json:"user_agent"`
	} `json:"actor"`
	Target  *Target `json:"target"`
	Outcome string  `json:"outcome"`
	Origin  *Origin `json:"origin"`
	// Retention is stamped, where the reader gives it.
	Retention struct {
		Class string `json:"class"`
	} `json:"retention"`

	// Sum identifies what was captured of the line that the entry was read from.
	Sum [sha256.Size]byte `json:"-"`
}

// Target is an entry's target.
type Target struct {
	Type   string `json:"type"`
	ID     string `json:"id"`
	Parent string `json:"parent"`
}

// Origin is an entry's origin.
type Origin struct {
	Instance string `json:"instance"`
	Sequence uint64 `json:"sequence"`
}

// Event says whether the entry is an event of the product itself, no call.
func (e Entry) Event() bool { return strings.HasPrefix(e.Action.Code, "audit.") }

// TargetID is the target's id, or nothing.
func (e Entry) TargetID() string {
	if e.Target == nil {
		return ""
	}
	return e.Target.ID
}

// OutcomeOf is the outcome that the documentation promises for a status.
func OutcomeOf(status int) string {
	switch {
	case status == 101, status >= 200 && status < 400:
		return "success"
	case status == 401, status == 403:
		return "denied"
	case status >= 400:
		return "failure"
	}
	return "unknown"
}
