//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// services are what the build asks: an issuer's keys, whose a credential is, whose a project
// is. Each can be broken.
type services struct {
	set                         []byte // the issuer's keys
	keys, credentials, projects atomic.Bool
}

func (v *services) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	works := map[string]*atomic.Bool{"/jwks.json": &v.keys, "/introspect": &v.credentials}[r.URL.Path]
	if works == nil {
		works = &v.projects
	}
	switch {
	case !works.Load():
		w.WriteHeader(http.StatusInternalServerError)
	case r.URL.Path == "/jwks.json":
		_, _ = w.Write(v.set)
	case r.URL.Path == "/introspect":
		_, _ = io.WriteString(w, `{"active":true,"sub":"u-2","username":"bob"}`)
	default:
		_, _ = io.WriteString(w, `{"id":"x","organization_id":"acme","organization_slug":"acme","plan":"free"}`)
	}
}

// callers are a build and who calls it.
func callers() (act, func(), error) {
	from, err := newIssuer()
	if err != nil {
		return act{}, nil, err
	}
	v := &services{}
	if v.set, err = from.set(); err != nil {
		return act{}, nil, err
	}
	addr, stop, err := rig.Serve(v)
	if err != nil {
		return act{}, nil, err
	}
	jwt := func(s *stage, path, token string) *http.Request { return s.request(http.MethodPost, path, token) }
	return act{
		atOnce: true,
		plan: plan{
			name: "callers", siem: "-", buffer: "max_size 64MiB",
			handler: strings.NewReplacer("ISSUER", issuerURL, "OTHER", otherURL, "ADDR", addr).Replace(`issuer ISSUER {
			secret {env.TRIAL_SECRET}
			audience authenticated
		}
		issuer OTHER {
			jwks http://ADDR/jwks.json
		}
		token robot prefix rb_
		introspect http://ADDR/introspect {
			types robot
			client trial {env.TRIAL_SECRET}
		}
		fold 20 1m`),
			global: "organizations {\n\t\t\tlookup supabase http://" + addr + "\n\t\t\ttoken {env.TRIAL_SECRET}\n\t\t}",
			env:    []string{"TRIAL_SECRET=" + string(from.secret)},
		},
		scenes: func(s *stage) []scene {
			var forger, scanner, astray func()
			forged := []byte("not the secret, but one that is long enough for it to serve as one")
			until := func(works *atomic.Bool) func(context.Context) error {
				return func(context.Context) error {
					works.Store(true)
					return nil
				}
			}
			return []scene{
				{
					what: "somebody tries forged tokens", cured: "nobody does any more",
					fires: []string{"AuditVerificationsFail"},
					cause: func(context.Context) error {
						forger = s.load(2, 20*time.Millisecond, func(i uint64) *http.Request {
							return jwt(s, "/v1/projects/abcdefghijklmnopqrst/pause", from.session(forged, i))
						})
						return nil
					},
					cure: ended(&forger),
				},
				{
					what: "an issuer's keys cannot be read", cured: "they can be read",
					fires: []string{"AuditIssuerKeysMissing"},
					cause: func(context.Context) error {
						s.load(1, 500*time.Millisecond, func(i uint64) *http.Request {
							return jwt(s, "/v1/projects/abcdefghijklmnopqrst/pause", from.other(i))
						})
						return nil
					},
					cure: until(&v.keys),
				},
				{
					what: "the service that knows whose credentials are answers with 500", cured: "it answers",
					fires: []string{"AuditLookupsFail"},
					cause: func(context.Context) error {
						s.load(1, 300*time.Millisecond, func(uint64) *http.Request {
							var b [16]byte
							_, _ = rand.Read(b[:]) // never fails
							return jwt(s, "/v1/projects/abcdefghijklmnopqrst/pause", "rb_"+hex.EncodeToString(b[:]))
						})
						return nil
					},
					cure: until(&v.credentials),
				},
				{
					what: "the service that knows whose projects are answers with 500", cured: "it answers",
					fires: []string{"AuditOrganizationLookupsFail"},
					cause: func(context.Context) error {
						s.load(1, 300*time.Millisecond, func(i uint64) *http.Request {
							return jwt(s, fmt.Sprintf("/v1/projects/%s/pause", letters(i)), from.session(from.secret, i))
						})
						return nil
					},
					cure: until(&v.projects),
				},
				{
					what: "a scanner reads what it may not, twenty times a second", cured: "it has gone",
					fires: []string{"AuditCallsFolded"},
					cause: func(context.Context) error {
						scanner = s.load(1, 50*time.Millisecond, func(i uint64) *http.Request {
							return s.request(http.MethodGet, fmt.Sprintf("/v1/projects/%s", letters(i)), "")
						})
						return nil
					},
					cure: ended(&scanner),
				},
				{
					what: "one call in three is for a route that nobody has described", cured: "they are no more",
					fires: []string{"AuditCallsUnmatched"},
					cause: func(context.Context) error {
						astray = s.load(1, 50*time.Millisecond, func(i uint64) *http.Request {
							if i%3 == 0 {
								return s.request(http.MethodPost, "/nowhere/x", token)
							}
							return s.usual(i)
						})
						return nil
					},
					cure: ended(&astray),
				},
			}
		},
	}, stop, nil
}

// ended ends a load.
func ended(stop *func()) func(context.Context) error {
	return func(context.Context) error {
		(*stop)()
		return nil
	}
}

// letters are those of a project's ref.
func letters(i uint64) string {
	b := []byte(strings.Repeat("a", 20))
	for n := len(b) - 1; i > 0; n-- {
		b[n] = 'a' + byte(i%26)
		i /= 26
	}
	return string(b)
}
