//go:build servers

package page

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/sample"
)

// script is what everybody tries first. It tells on itself by a dialog.
const script = `<script>alert("run")</script>`

// hostiles are texts that would do something if they were not taken for text.
var hostiles = []string{
	script,
	`"><img src=x onerror=alert(1)>`,
	`' onmouseover='alert(1)' x='`,
	`{{.}} {{template "log" .}} ${alert(1)} #{1} <%= 1 %>`,
	"</title></textarea></style></svg><svg onload=alert(1)>",
	"javascript:alert(1)",
	"\u202egnp.exe\u202c \u2066x\u2069 \u200f\u200b",
	"a\x00b\x1b[31mc\r\nSet-Cookie: x=1\u2028",
	strings.Repeat("W", 3000),
	"z" + strings.Repeat("\u0301", 500),
	"../../../../etc/passwd",
	"=HYPERLINK(\"http://evil.example\")",
}

// plant is an entry that a test looks for.
type plant struct {
	entry *audit.Entry
	stamp *audit.Stamp
}

// planted are oldest first, of each organization.
func planted(until time.Time) (all []plant) {
	for i, text := range hostiles {
		e := newEntry(hostile, until.Add(time.Duration(i-len(hostiles))*time.Second))
		e.Action = audit.Action{
			Code: text, Name: text, Method: "POST", Route: "/v1/" + text, Path: "/v1/" + text, Host: text, Status: 201,
			Params: map[string]string{"ref": text, text: "name"}, Metadata: map[string]any{"body": map[string]any{text: text}},
		}
		e.Actor = audit.Actor{
			TokenType: audit.TokenType(text), Verification: audit.VerificationSignature, Kind: audit.ActorPerson, UserID: text, Email: text,
			IP: text, UserAgent: text, SessionID: text, TokenAlias: text, JWTIssuer: text, AMR: []string{text},
			Claimed: &audit.Claimed{Email: text, Subject: text, Username: text},
		}
		e.Target, e.ProjectRef, e.RequestID, e.TraceID = &audit.Target{Type: text, ID: text, Parent: text}, text, text, text
		all = append(all, plant{e, stampOf(hostile, audit.MembershipProven)})
	}
	e := newEntry(doubted, until)
	e.Action = audit.Action{Code: "v1-delete-a-project", Name: "Delete a project", Method: "DELETE", Route: "/v1/projects/{ref}", Path: "/v1/projects/x", Status: 403}
	e.Actor = audit.Actor{
		TokenType: audit.TokenJWT, Verification: audit.VerificationSignature, Kind: audit.ActorPerson, UserID: "id-of-" + strangerEmail, Email: strangerEmail,
		IP: "192.0.2.66", UserAgent: "strange-agent/1.0",
	}
	e.Outcome = audit.OutcomeDenied
	e.Target = &audit.Target{Type: "project", ID: "strange-target"}
	all = append(all, plant{e, stampOf(doubted, audit.MembershipUnproven)})
	return all
}

func newEntry(o sample.Organization, at time.Time) *audit.Entry {
	return &audit.Entry{
		ID: idOf(at), Revision: audit.RevisionAnswer, Timestamp: at.UnixMicro(), RecordedAt: at.UnixMicro(), OrganizationSlug: o.Slug,
		Outcome: audit.OutcomeSuccess, Policy: audit.Policy{Rule: "default", Level: audit.LevelMetadata, Durability: audit.DurabilityStrict}, SchemaVersion: audit.SchemaVersion,
	}
}

// idOf is a UUIDv7 that was made at a time, as each entry's is.
func idOf(at time.Time) string {
	id := uuid.New()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli())<<16)
	copy(id[:6], ms[:6])
	id[6] = 0x70 | id[6]&0x0f
	return id.String()
}

func stampOf(o sample.Organization, m audit.Membership) *audit.Stamp {
	return &audit.Stamp{
		Membership: m, OrganizationID: o.ID, OrganizationSlug: o.Slug,
		Retention: &audit.Retention{Class: audit.ClassDefault, Plan: o.Plan, KeepUntil: audit.Days(400).KeepMicros(time.Now().UnixMicro())},
	}
}
