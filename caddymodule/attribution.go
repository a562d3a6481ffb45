package caddymodule

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/attribution"
)

// attributionOptions are what the directory of a buffer needs of the configuration.
func (a *App) attributionOptions() (o attribution.Options, err error) {
	o = attribution.Options{
		NeedsPlan: a.Readable != nil && len(a.Readable.Plans) > 0, Logger: a.log, Observe: observeAttribution,
	}
	if a.Keep != nil {
		o.Keep = &a.Keep.Keep
	}
	c := a.Organizations
	if c == nil {
		return o, nil
	}
	o.Static, o.TTL, o.NegativeTTL, o.Rate = c.Plans, time.Duration(c.TTL), time.Duration(c.NegativeTTL), c.Rate
	o.Projects, o.Organizations, err = c.Lookups()
	return o, err
}

// checkOrganizations looks at the options as a running server will.
func (a *App) checkOrganizations() error {
	o, err := a.attributionOptions()
	if err != nil {
		return err
	}
	o.Logger = nil
	d, err := attribution.New(o)
	if err != nil {
		return a.Organizations.Wrong("%w", err)
	}
	return d.Close()
}

// organizationsPath is where what is known of organizations outlives a restart.
func organizationsPath(dir string) string { return filepath.Join(dir, "organizations") }

// seesLookup answers a question of our own that has come back to us: recording it would
// bring the next one. It reports whether it was one.
func (s *shared) seesLookup(w http.ResponseWriter, r *http.Request) bool {
	value := r.Header.Get(attribution.NonceHeader)
	if value == "" || !s.directory.IsOwn(value) {
		return false
	}
	s.buf.Exclude() // it is no call of anybody's
	w.WriteHeader(http.StatusLoopDetected)
	return true
}

// lookupsOwnSite says that a lookup leads to an address that this configuration listens
// on, as far as that can be seen.
func (a *App) lookupsOwnSite() (address string, yes bool) {
	if a.Organizations == nil || a.http == nil {
		return "", false
	}
	for address, l := range a.Organizations.Asked() {
		u, err := url.Parse(address)
		if err != nil || !syntax.IsLoopback(u.Hostname()) {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		for _, server := range a.http.Servers {
			for _, listen := range server.Listen {
				at, err := caddy.ParseNetworkAddress(listen)
				if err == nil && !at.IsUnixNetwork() && fmt.Sprint(at.StartPort) == port {
					return l.String(), true
				}
			}
		}
	}
	return "", false
}

// Interface guard
var _ forwarder.Stamper = (*attribution.Directory)(nil)
