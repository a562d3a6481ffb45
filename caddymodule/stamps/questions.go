package stamps

import (
	"context"

	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// Questions ask about a project and an organization that are not there.
func (o *Organizations) Questions() (all []doctor.Question) {
	if o == nil {
		return nil
	}
	projects, organizations, err := o.Lookups()
	if err != nil {
		return []doctor.Question{{Whom: "organizations", Look: func(context.Context) doctor.Diagnosis {
			return doctor.Wrong("organizations: %v", err).Mend("correct it where it says")
		}}}
	}
	if projects != nil {
		all = append(all, askLookup("project", projects.String(), projects.Probe))
	}
	if organizations != nil {
		all = append(all, askLookup("organization", organizations.String(), organizations.Probe))
	}
	return all
}

func askLookup(kind, at string, probe func(context.Context) error) doctor.Question {
	name := "organizations " + kind + ", " + at
	return doctor.Question{Whom: name, Look: func(ctx context.Context) doctor.Diagnosis {
		if err := probe(ctx); err != nil {
			return doctor.Wrong("%s: %v", name, err).Mend("until it answers, entries wait for their stamp and do not expire: correct the URL and the token")
		}
		return doctor.Fine("%s answers", name)
	}}
}
