package commands

import (
	"context"

	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// checkServices asks once each service that the configuration names: where keys are, who
// somebody is, whose a call is, and who is a member.
func checkServices(ctx context.Context, d *examination) []doctor.Diagnosis {
	if d.app == nil {
		return unread()
	}
	questions, anonymous := d.app.Services()
	list := doctor.Together(ctx, questions)
	if anonymous {
		list = append(list, doctor.Warning("nothing says who a caller is: there is no issuer, introspect, profile or answer_header, so that entries have no verified actor").
			Mend("add what you have, as in: issuer https://auth.example.com"))
	}
	if len(list) == 0 {
		list = append(list, doctor.Fine("no service is asked for anything"))
	}
	return list
}
