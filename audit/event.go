package audit

import "time"

// The sidecar's own events, as the code of an entry's action.
const (
	EventStarted       = "audit.started"
	EventUncleanStart  = "audit.unclean_start"
	EventStopped       = "audit.stopped"
	EventConfigChanged = "audit.config_changed"
	EventHeartbeat     = "audit.heartbeat"
	EventGap           = "audit.gap"
	EventPass          = "audit.pass"
	EventQuarantined   = "audit.quarantined"
	EventProbe         = "audit.probe"
	EventHold          = "audit.hold"
	// EventExported is an export of an organization's log; its first revision is pending.
	EventExported = "audit.exported"
	// EventRead is an operator's look at an organization's log.
	EventRead = "audit.read"
)

var eventNames = map[string]string{
	EventStarted:       "Audit log started",
	EventUncleanStart:  "Audit log started after an unclean end",
	EventStopped:       "Audit log stopped",
	EventConfigChanged: "Audit configuration changed",
	EventHeartbeat:     "Audit heartbeat",
	EventGap:           "Audit gap",
	EventPass:          "Audit pass ordered",
	EventQuarantined:   "Audit entry quarantined",
	EventProbe:         "Audit store probed",
	EventHold:          "Audit hold ordered",
	EventExported:      "Audit log exported",
	EventRead:          "Audit log read by the operator",
}

// Event makes the entry of an event of the sidecar itself. The facts become
// the action's metadata; they must hold nothing from the network and no secret.
func Event(code string, at time.Time, facts map[string]any) *Entry {
	return &Entry{
		ID: NewID(), Revision: RevisionAnswer, Timestamp: at.UnixMicro(), RecordedAt: at.UnixMicro(),
		Action:        Action{Code: code, Name: eventNames[code], Metadata: facts},
		Actor:         Actor{TokenType: TokenNone, Verification: VerificationNone},
		Outcome:       OutcomeSuccess,
		Policy:        Policy{Rule: "sidecar", Level: LevelMetadata, Durability: DurabilityAnswer},
		SchemaVersion: SchemaVersion,
	}
}

// IsEvent reports whether the entry is about the sidecar and not about a call.
func (e *Entry) IsEvent() bool { return e.Policy.Rule == "sidecar" && e.Action.Method == "" }
