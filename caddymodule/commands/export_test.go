package commands

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// CheckNames are those of the doctor's checks.
func CheckNames() (names []string) {
	for _, l := range checks() {
		names = append(names, l.name)
	}
	return names
}

// Look is what one check finds of a configuration, and of what its server would say.
func Look(ctx context.Context, config, check string, newest []*audit.Entry, status *operator.Status) (*doctor.Report, error) {
	d := &examination{doctorOptions: doctorOptions{within: time.Minute}, place: &place{config: config}, status: status}
	for _, e := range newest {
		d.newest = append(d.newest, liveEntry{Entry: e})
	}
	found, err := d.readConfiguration(ctx)
	if err == nil && d.app == nil {
		err = fmt.Errorf("%+v", found)
	}
	if err != nil {
		return nil, err
	}
	r := new(doctor.Report)
	for _, l := range checks() {
		if l.name == check {
			r.Add(l.name, l.at(ctx, d))
		}
	}
	return r, nil
}

// FirstSince is the oldest entry since a time that a configuration's server shows of an instance.
func FirstSince(ctx context.Context, config string, since time.Time, instance string) (*audit.Entry, error) {
	return (&place{config: config}).firstSince(ctx, since, instance)
}
