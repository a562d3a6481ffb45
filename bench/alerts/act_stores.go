//go:build linux

package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver of the store that is locked
)

// act is a stage with its scenes, which happen one after the other.
type act struct {
	plan   plan
	scenes func(*stage) []scene
	// atOnce says that the scenes do not disturb each other.
	atOnce bool
}

// whileBufferFills are alerts that come with a store that takes nothing.
var whileBufferFills = []string{"AuditStoreFailing", "AuditEntriesWaiting", "AuditEntriesWaitingLong", "AuditBufferFilling"}

// storeDown is a required store that is away until calls are refused.
func storeDown() act {
	return act{
		plan: plan{name: "store", buffer: "max_size 8MiB"},
		scenes: func(s *stage) []scene {
			return []scene{
				{
					what: "a required store does not listen, under load, until the buffer is full", cured: "the store listens again",
					fires: append([]string{"AuditBufferNearlyFull", "AuditCallsRefused"}, whileBufferFills...),
					cause: func(context.Context) error {
						s.siem.down()
						s.load(8, 15*time.Millisecond, s.usual)
						return nil
					},
					cure: func(context.Context) error { return s.siem.up() },
				},
				{
					what: "the platform's API answers with 500 whether somebody is a member", cured: "it answers again",
					fires: []string{"AuditViewerFails"},
					cause: func(context.Context) error {
						s.api.broken.Store(true)
						s.load(1, 300*time.Millisecond, func(i uint64) *http.Request { return s.reading("/platform/organizations/acme/audit", i) })
						return nil
					},
					cure: func(context.Context) error {
						s.api.broken.Store(false)
						return nil
					},
				},
				{
					what: "a client leaves in the middle of an export", cured: "nobody does any more",
					fires: []string{"AuditExportsCut"},
					cause: s.cutExport,
					cure:  nothing,
				},
			}
		},
	}
}

// reading is a request to the viewer about the last hour, by a credential of its own each time, of
// which the viewer knows nothing yet.
func (s *stage) reading(path string, i uint64) *http.Request {
	now := time.Now().UTC()
	req := s.request(http.MethodGet, path+"?iso_timestamp_start="+now.Add(-time.Hour).Format(time.RFC3339)+"&iso_timestamp_end="+now.Add(time.Minute).Format(time.RFC3339),
		fmt.Sprintf("sbp_%040x", i))
	req.URL.Host = s.site.Viewer
	return req
}

// cutExport begins an export and leaves once it has begun.
func (s *stage) cutExport(ctx context.Context) error {
	for range 3 {
		ctx, cancel := context.WithCancel(ctx)
		resp, err := http.DefaultClient.Do(s.reading("/platform/organizations/acme/audit/export", numbers.Add(1)).WithContext(ctx))
		if err != nil {
			cancel()
			return err
		}
		_, err = io.CopyN(io.Discard, resp.Body, 1)
		if resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("the export has the status %d", resp.StatusCode)
		}
		cancel()
		_ = resp.Body.Close() // it was cut
		if err != nil {
			return err
		}
	}
	return nil
}

// detached is a detachable store that is away until it is detached.
func detached() act {
	return act{
		plan: plan{name: "detached", buffer: "max_size 16MiB", siem: "detachable 20%", may: whileBufferFills},
		scenes: func(s *stage) []scene {
			return []scene{{
				what: "a detachable store does not listen, under load, until it is detached", cured: "the store listens again",
				fires: []string{"AuditStoreFailing", "AuditStoreNearlyDetached", "AuditStoreDetached"},
				cause: func(context.Context) error {
					s.siem.down()
					s.load(3, 25*time.Millisecond, s.usual)
					return nil
				},
				cure: func(context.Context) error {
					s.silence()
					s.load(1, 50*time.Millisecond, s.usual)
					return s.siem.up()
				},
			}}
		},
	}
}

// quarantined is a store that refuses entries for what is in them.
func quarantined() act {
	return act{
		plan: plan{name: "quarantine", buffer: "max_size 8MiB", may: append([]string{"AuditBufferNearlyFull"}, whileBufferFills...)},
		scenes: func(s *stage) []scene {
			poisoned := func(i uint64) *http.Request {
				if i%3 == 0 {
					return s.usual(i)
				}
				return s.request(http.MethodPatch, fmt.Sprintf("/v1/projects/abcdefghijklmnopqrst/functions/poison-%d", i), token)
			}
			resolve := func(ctx context.Context, args ...string) error {
				return s.site.Audit(ctx, &bytes.Buffer{}, append([]string{"quarantine"}, args...)...)
			}
			return []scene{
				{
					what: "a store refuses two entries in three for what is in them", cured: "it takes them, and they are tried again",
					fires: []string{"AuditEntriesQuarantined", "AuditQuarantineFilling"},
					cause: func(context.Context) error {
						s.siem.poison.Store(true)
						s.load(4, 50*time.Millisecond, poisoned)
						return nil
					},
					cure: func(ctx context.Context) error {
						s.silence()
						s.siem.poison.Store(false)
						return resolve(ctx, "retry", "siem", "--all")
					},
				},
				{
					what: "somebody gives up entries in quarantine", cured: "nothing more happens",
					fires: []string{"AuditGapRecorded"},
					cause: func(ctx context.Context) error {
						s.siem.poison.Store(true)
						s.load(1, 50*time.Millisecond, poisoned)
						for {
							st, err := s.site.Status(ctx)
							if err != nil {
								return err
							}
							for _, t := range st.Stores {
								if t.Name == "siem" && t.Quarantined > 0 {
									s.silence()
									return resolve(ctx, "drop", "siem", "--all", "--reason", "trial")
								}
							}
							select {
							case <-ctx.Done():
								return ctx.Err()
							case <-time.After(time.Second):
							}
						}
					},
					cure: nothing,
				},
			}
		},
	}
}

// locked is a shared database that somebody else has locked, while strangers call.
func locked() act {
	var lock *dbLock
	return act{
		plan: plan{name: "locked", buffer: "max_size 8MiB", siem: "-", may: append([]string{"AuditBufferNearlyFull", "AuditCallsRefused"}, whileBufferFills...)},
		scenes: func(s *stage) []scene {
			lock = &dbLock{path: filepath.Join(s.site.AuditDir(), "audit.db")}
			s.stops = append(s.stops, func() { _ = lock.release() })
			return []scene{{
				what: "another process holds a lock on the SQLite file for over a minute, and a stranger floods the API", cured: "the lock is released, and the flood ends",
				fires: []string{"AuditStoreFailing", "AuditEntriesWaiting", "AuditEntriesWaitingLong", "AuditRetentionFailing", "AuditRetentionOverdue", "AuditStrangersRefused"},
				cause: func(ctx context.Context) error {
					s.load(4, 20*time.Millisecond, func(i uint64) *http.Request {
						return s.request(http.MethodPost, fmt.Sprintf("/v1/projects/abcdefghijklmnopqrst/functions/f-%d?%s", i, strings.Repeat("x", 100)), "")
					})
					return lock.take(ctx)
				},
				cure: func(context.Context) error {
					s.silence()
					return lock.release()
				},
			}}
		},
	}
}

// dbLock keeps a store from writing to its SQLite file.
type dbLock struct {
	path string
	db   *sql.DB
	conn *sql.Conn
}

func (l *dbLock) take(ctx context.Context) (err error) {
	if l.db, err = sql.Open("sqlite", l.path+"?_pragma=busy_timeout(30000)"); err != nil {
		return err
	}
	// A lock belongs to a connection, so it must always be the same one.
	if l.conn, err = l.db.Conn(ctx); err != nil {
		return errors.Join(err, l.db.Close())
	}
	if _, err = l.conn.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
		return errors.Join(err, l.release())
	}
	return nil
}

// release may be called again.
func (l *dbLock) release() error {
	if l.conn == nil {
		return nil
	}
	// Closing the connection ends its transaction.
	err := errors.Join(l.conn.Close(), l.db.Close())
	l.conn = nil
	return err
}
