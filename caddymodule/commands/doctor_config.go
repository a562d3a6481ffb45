package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// readConfiguration adapts and validates the configuration, as `caddy validate` does. The
// error says that there is none to read; what is wrong with it is found.
func (d *examination) readConfiguration(ctx context.Context) ([]doctor.Diagnosis, error) {
	const cure = "correct it where it says; \"caddy validate\" says the same"
	file := d.place.config
	if file == "" {
		file = "Caddyfile"
	}
	if _, err := os.ReadFile(file); err != nil {
		_, err := d.place.load() // which knows what to say
		return []doctor.Diagnosis{doctor.NotKnown("it was not read: %v", err)}, err
	}
	config, err := d.place.load()
	if err != nil {
		return []doctor.Diagnosis{doctor.Wrong("%v", err).Mend(cure)}, nil
	}
	d.config = config
	if d.sites, err = findSites(config); err != nil {
		return []doctor.Diagnosis{doctor.Wrong("%v", err).Mend(cure)}, nil
	}
	app, err := validated(ctx, config, d.within)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return []doctor.Diagnosis{doctor.NotKnown("it was not provisioned within %s", d.within).Mend("see which server of a catalog hangs, or give more time with --timeout")}, nil
	case err != nil:
		return []doctor.Diagnosis{doctor.Wrong("it cannot be provisioned: %v", err).Mend(cure)}, nil
	}
	d.app = app
	if app == nil || len(d.sites) == 0 {
		return []doctor.Diagnosis{doctor.Wrong("%s has no site with audit_log: nothing is recorded", file).Mend("add the directive to the site before the API")}, nil
	}
	list := []doctor.Diagnosis{doctor.Fine("%s adapts and provisions; %d site(s) have audit_log", file, len(d.sites))}
	_, warnings := app.Warnings() // those about routes are for checkRoutes
	for _, w := range warnings {
		list = append(list, asFinding(w))
	}
	if d.given().Buffer.Directory == "" {
		list = append(list, doctor.Warning("the buffer has no directory of its own, and is in Caddy's data directory: %s", app.Directory()).
			Mend("name one on a local disk with room, as in: buffer /var/lib/caddy-audit/buffer"))
	}
	return list, nil
}

// givenConfig is what of the configuration itself matters to checks, not what it comes to.
type givenConfig struct {
	Buffer struct {
		Directory string `json:"directory"`
	} `json:"buffer"`
	Stores []any `json:"stores"`
}

func (d *examination) given() *givenConfig {
	var c struct {
		Apps struct {
			AuditLog givenConfig `json:"audit_log"`
		} `json:"apps"`
	}
	_ = json.Unmarshal(d.config, &c) // it was provisioned
	return &c.Apps.AuditLog
}

// asFinding is a warning about the configuration, whose last part is the cure.
func asFinding(text string) doctor.Diagnosis {
	f := doctor.Warning("%s", text)
	if i := strings.LastIndex(text, "; "); i > 0 {
		f.Seen, f.Cure = text[:i], text[i+2:]
	}
	return f
}

// validating keeps two looks apart, which would take each other's app.
var validating sync.Mutex

// validated provisions a configuration, starts nothing, and returns its audit log: nil if it
// has none. Its logs go nowhere, so that no file of theirs is made by whoever looks.
func validated(ctx context.Context, config []byte, within time.Duration) (Examined, error) {
	c := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(config, c); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	silence(c)
	return doctor.InTime(ctx, within, func() (Examined, error) { return validate(c) })
}

func validate(c *caddy.Config) (app Examined, err error) {
	validating.Lock()
	defer validating.Unlock()
	lookFor(func(found Examined) { app = found })
	defer lookFor(nil)
	err = caddy.Validate(c)
	return app, err
}

// silence takes the writers of all logs away, and leaves what says how they are written,
// which is looked at.
func silence(c *caddy.Config) {
	if c.Logging == nil {
		c.Logging = new(caddy.Logging)
	}
	nowhere := json.RawMessage(`{"output":"discard"}`)
	if c.Logging.Sink != nil {
		c.Logging.Sink.WriterRaw = nowhere
	}
	if c.Logging.Logs == nil {
		c.Logging.Logs = map[string]*caddy.CustomLog{}
	}
	if c.Logging.Logs[caddy.DefaultLoggerName] == nil {
		c.Logging.Logs[caddy.DefaultLoggerName] = new(caddy.CustomLog)
	}
	for name, l := range c.Logging.Logs {
		switch {
		case l == nil:
		case name == caddy.DefaultLoggerName:
			// Standard error, where Caddy logs before it is told otherwise: it says when
			// that becomes another one.
			l.WriterRaw, l.Level = nil, "FATAL"
		default:
			l.WriterRaw = nowhere
		}
	}
}
