package natsstore

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/tlsfiles"
)

func TestAConfigurationThatCannotWorkSaysWhatToDo(t *testing.T) {
	const local = "nats://localhost"
	for cure, c := range map[string]Config{
		"name 1 to 64":                    {},
		"does not begin with nats://":     {Servers: []string{"http://a"}},
		"cannot be read":                  {Servers: []string{"nats://a/path"}},
		"cannot be read: write":           {Servers: []string{"nats://{env.HOST}:4222"}},
		"written out: give each":          {Servers: []string{"nats://user:planted-password@localhost"}},
		"named twice":                     {Servers: []string{local, "nats://localhost:4222"}},
		"write tls://":                    {Servers: []string{"nats://nats.example.com"}},
		"are mixed":                       {Servers: []string{"nats://127.0.0.1", "tls://nats.example.com"}},
		"several users":                   {Servers: []string{"nats://{env.A}:{env.B}@localhost", "nats://{env.C}:{env.D}@127.0.0.1"}},
		"stream \"A.B\"":                  {Servers: []string{local}, Stream: "A.B"},
		"subject \"a.*\"":                 {Servers: []string{local}, Subject: "a.*"},
		"subject \"_INBOX.a\"":            {Servers: []string{local}, Subject: "_INBOX.a"},
		"subject \"$JS\"":                 {Servers: []string{local}, Subject: "$JS"},
		"domain \"a b\"":                  {Servers: []string{local}, Domain: "a b"},
		"replicas 6":                      {Servers: []string{local}, Replicas: 6},
		"max_bytes -1":                    {Servers: []string{local}, MaxBytes: -1},
		"max_age 1m0s":                    {Servers: []string{local}, MaxAge: map[string]time.Duration{"": time.Minute}},
		"duplicate_window 1ms":            {Servers: []string{local}, DuplicateWindow: time.Millisecond},
		"timeout 1h0m0s":                  {Servers: []string{local}, Timeout: time.Hour},
		"keep one of":                     {Servers: []string{local}, Token: "{env.T}", Credentials: "a.creds"},
		"name both":                       {Servers: []string{local}, User: "{env.U}"},
		"token is written out":            {Servers: []string{local}, Token: "planted-password"},
		"password is written out":         {Servers: []string{local}, User: "{env.U}", Password: "planted-password"},
		"user is written out":             {Servers: []string{local}, User: "planted-password", Password: "{env.P}"},
		"nkey is not a file":              {Servers: []string{local}, NKey: "{env.SEED}"},
		"nkey is written out":             {Servers: []string{local}, NKey: "SUplanted-password"},
		"a client certificate is two":     {Servers: []string{local}, TLS: TLS{Files: tlsfiles.Files{Certificate: "a.pem"}}},
		"keep one of credentials, nkey":   {Servers: []string{"nats://{env.T}@localhost"}, NKey: "{file.a}"},
		"several users: name one, in a U": {Servers: []string{"nats://{env.T}@localhost"}, Token: "{env.U}"},
	} {
		c = c.withDefaults()
		_, err := c.check()
		mentions(t, err, cure)
		if err != nil && strings.Contains(err.Error(), "planted-password") {
			t.Errorf("the error shows a credential: %v", err)
		}
	}
}

func TestTheFirstServerAndTheStreamsAreWhatTheDestinationIsKnownBy(t *testing.T) {
	for want, configs := range map[string][]Config{
		"nats://a.example.com:4222/AUDIT": {
			{Servers: []string{"tls://a.example.com"}},
			{Servers: []string{"TLS://A.example.com:4222/", "tls://b.example.com"}, Subject: "other", Timeout: time.Second, Replicas: 1},
			{Servers: []string{"tls://{env.U}:{env.P}@a.example.com"}},
			{Servers: []string{"tls://{file./run/a:b}@a.example.com"}},
			{Servers: []string{"nats://a.example.com"}, Insecure: true, Token: "{env.T}"},
			{Servers: []string{"nats://a.example.com"}, TLS: TLS{Files: tlsfiles.Files{CA: "ca.pem"}}},
		},
		"nats://[::1]:4223/hub/TRAIL": {{Servers: []string{"nats://[::1]:4223"}, Domain: "hub", Stream: "TRAIL"}},
	} {
		for _, c := range configs {
			c = c.withDefaults()
			servers, err := c.check()
			if err != nil {
				t.Errorf("%v: %v", c.Servers, err)
				continue
			}
			if got := c.describe(servers); got.Location != want || got.Kind != "nats" || got.Delivery != "at_least_once" {
				t.Errorf("%v: %+v", c.Servers, got)
			}
		}
	}
}

func TestAURLsUserIsEveryServers(t *testing.T) {
	c := Config{Servers: []string{"nats://{env.U}:{file./run/x:y}@localhost", "nats://127.0.0.1"}}.withDefaults()
	servers, err := c.check()
	if err != nil || c.User != "{env.U}" || c.Password != "{file./run/x:y}" || len(servers) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if again, err := c.check(); err != nil || len(again) != 2 { // as Open does
		t.Errorf("checked again: %v", err)
	}
	for _, s := range servers {
		if strings.Contains(s.url(), "env") {
			t.Errorf("the library gets %s", s.url())
		}
	}
}

func TestTheWindowIsNoLongerThanWhatTheStreamKeeps(t *testing.T) {
	c := Config{MaxAge: map[string]time.Duration{"short": time.Hour}}
	if c.window("short") != time.Hour || c.window("other") != DefaultDuplicateWindow || c.maxAge("other") != 0 {
		t.Errorf("%v, %v", c.window("short"), c.window("other"))
	}
}
