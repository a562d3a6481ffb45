package viewer

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// visit is a request of somebody who may read.
type visit struct {
	*Visitor
	*Grant
	// from is the earliest arrival that the plan lets them read; zero is all.
	from time.Time
	// days is the plan's range as the read API tells it.
	days int
	// asked is when it was last asked whether they may, and again asks anew.
	asked time.Time
	again func(ctx context.Context) (*visit, error)
}

const (
	// allDays is the range of who may read all that is kept, as a number of days.
	allDays = 36_500
	// askAgain is how old an answer of the Gate may become while a list goes out.
	askAgain = time.Minute
)

var (
	errCrossSite = &DeniedError{Status: http.StatusForbidden, Message: "Forbidden: another site asked for this with your session"}
	errPlan      = &DeniedError{Status: http.StatusPaymentRequired, Message: "Payment required: upgrade to a plan that includes audit logs, such as Team or Enterprise"}
	errExpired   = errors.New("reading the audit log: the visitor's credential has expired meanwhile")
)

// enter says who asks and what they may read of the organization in the path.
func (v *Viewer) enter(r *http.Request) (*visit, error) {
	if isCrossSite(r) {
		return nil, errCrossSite
	}
	ask := func(ctx context.Context) (*visit, error) {
		who, err := v.o.Gate.Visitor(r)
		if err != nil {
			return nil, gateError(err)
		}
		return v.grant(ctx, who, r.PathValue("slug"))
	}
	in, err := ask(r.Context())
	if err != nil {
		return nil, err
	}
	in.again = ask
	return in, nil
}

// grant asks the Gate what somebody may read, and the plan how far back.
func (v *Viewer) grant(ctx context.Context, who *Visitor, slug string) (*visit, error) {
	grant, err := v.o.Gate.Grant(ctx, who, slug)
	if err != nil {
		return nil, gateError(err)
	}
	if len(grant.Owners) == 0 {
		return nil, errors.New("the gate has granted nobody's log")
	}
	now := time.Now()
	in := &visit{Visitor: who, Grant: grant, days: allDays, asked: now}
	if grant.Operator {
		return in, v.named(ctx, grant)
	}
	var ok bool
	if in.from, ok = v.o.Readable.From(grant.Plan, now); !ok {
		return nil, errPlan
	}
	if !in.from.IsZero() {
		in.days = int(now.Sub(in.from) / (24 * time.Hour))
	}
	return in, nil
}

// named finds out the id of an organization that an operator names and nobody else knows:
// by the newest entry with that id, or with that slug. So their look is the organization's
// entry, too, and they see all that is its own.
func (v *Viewer) named(ctx context.Context, grant *Grant) error {
	if grant.ID != "" {
		return nil
	}
	for _, q := range []forwarder.Query{{Owners: []audit.Owner{audit.OwnerByID(grant.Slug)}}, {Organization: grant.Slug}} {
		q.NewestFirst = true
		p, err := v.read(ctx, q, 1)
		if err != nil {
			return err
		}
		for _, e := range p.entries {
			if grant.ID = e.OrganizationID; grant.ID != "" {
				if owner := audit.OwnerByID(grant.ID); !slices.Contains(grant.Owners, owner) {
					grant.Owners = append(grant.Owners, owner)
				}
				return nil
			}
		}
	}
	return nil
}

// gateError is what an error of the Gate means: a denial, or that it cannot be said now who
// may read.
func gateError(err error) error {
	if _, denied := errors.AsType[*DeniedError](err); denied {
		return err
	}
	return &unavailable{what: "asking who may read the audit log", err: err}
}

// live says whether a visit that goes on may go on: an error if the credential has expired
// meanwhile, or if the visitor is no member any more.
func (in *visit) live(ctx context.Context) error {
	now := time.Now()
	if !in.Until.IsZero() && now.After(in.Until) {
		return errExpired
	}
	if in.again == nil || now.Sub(in.asked) < askAgain {
		return nil
	}
	again, err := in.again(ctx)
	if err != nil {
		return err
	}
	// A slug may be another organization's by now.
	if again.ID != in.ID || again.Operator != in.Operator || !slices.Equal(again.Owners, in.Owners) {
		return ErrNoPermission
	}
	in.asked = again.asked
	return nil
}

// recordRead makes durable that an operator looks at an organization's log, and at what of
// it. That members do is no event.
func (v *Viewer) recordRead(in *visit, r *http.Request, a *ask) error {
	if !in.Operator {
		return nil
	}
	return v.record(v.event(audit.EventRead, in, a.facts(r.Pattern)))
}

// recordEntry is recordRead of one entry.
func (v *Viewer) recordEntry(in *visit, r *http.Request, e *audit.Entry) error {
	if !in.Operator {
		return nil
	}
	return v.record(v.event(audit.EventRead, in, map[string]any{"what": r.Pattern, "entry": e.ID}))
}

// event is one about a visit. It is the organization's as well, whose members learn that
// somebody of the operator looked, and not who.
func (v *Viewer) event(code string, in *visit, facts map[string]any) *audit.Entry {
	e := audit.Event(code, time.Now(), facts)
	e.OrganizationID, e.OrganizationSlug = in.ID, in.Slug
	e.Target = &audit.Target{Type: "audit_log", ID: in.Slug}
	if in.Operator {
		a := &in.Actor
		who := map[string]any{"token_type": string(a.TokenType), "verification": string(a.Verification)}
		for name, value := range map[string]string{
			"user_id": a.UserID, "email": a.Email, "ip": a.IP, "jwt_subject": a.JWTSubject, "session_id": a.SessionID, "token_hash": a.TokenHash,
		} {
			if value != "" {
				who[name] = value
			}
		}
		facts[operatorFact] = who
		return e
	}
	e.Actor = in.Actor
	return e
}

func (v *Viewer) record(e *audit.Entry) error {
	if err := v.o.Record(e); err != nil {
		return &unavailable{what: "recording that the audit log is read", err: err}
	}
	return nil
}

// isCrossSite reports whether a page of another site has made the browser ask, other than
// by a link that somebody followed.
func isCrossSite(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") != "cross-site" {
		return false
	}
	link := r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	return !link || strings.HasPrefix(r.URL.Path, "/platform/") // where nobody comes by a link, and an export is an entry
}
