//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// process is a build that is killed, reloaded and left without an audit log.
func process() act {
	return act{
		plan: plan{name: "process", siem: "-", buffer: "max_size 64MiB", may: []string{"AuditDown", "AuditLogMissing"}},
		scenes: func(s *stage) []scene {
			load := func(ctx context.Context, config string) error {
				refusal, err := rig.NewAdmin(s.site).Load(ctx, rig.TypeCaddyfile, []byte(config))
				if refusal != "" {
					err = errors.New(refusal)
				}
				return err
			}
			without := regexp.MustCompile(`(?ms)^\t+audit_log(_viewer)? \{\n.*?\n\t\}\n`)
			return []scene{
				{
					what: "the process is stopped", cured: "it is started again",
					fires: []string{"AuditDown"},
					cause: func(context.Context) error { return s.proc.Stop(stopTimeout) },
					cure:  s.up,
				},
				{
					what: "SIGKILL with calls in flight, and a start", cured: "nothing more happens",
					fires: []string{"AuditUncleanStart"},
					cause: func(ctx context.Context) error {
						s.api.slow.Store(int64(5 * time.Second))
						s.load(4, time.Second, s.changes)
						time.Sleep(2 * time.Second)
						s.proc.Kill()
						s.silence()
						s.api.slow.Store(0)
						return s.up(ctx)
					},
					cure: nothing,
				},
				{
					what: "a configuration without audit_log is loaded", cured: "the right one is loaded",
					fires: []string{"AuditLogMissing"},
					cause: func(ctx context.Context) error { return load(ctx, without.ReplaceAllString(s.config, "")) },
					cure:  func(ctx context.Context) error { return load(ctx, s.config) },
				},
				{
					what: "a reload changes a rule", cured: "nothing more happens",
					fires: []string{"AuditConfigChanged"},
					cause: func(ctx context.Context) error {
						return load(ctx, strings.Replace(s.config, "platform supabase\n", "platform supabase\n\t\trule / none\n", 1))
					},
					cure: nothing,
				},
			}
		},
	}
}

// files is a build whose files are changed while it is stopped.
func files() act {
	return act{
		plan: plan{
			name: "files", buffer: "max_size 64MiB",
			// It is started so often that no process of it lives for the minute after which
			// retention is looked at.
			may: append([]string{"AuditDown", "AuditUncleanStart", "AuditRetentionOverdue"}, whileBufferFills...),
		},
		scenes: func(s *stage) []scene {
			// stopped does something with the files of the stopped build and starts it again.
			stopped := func(do func() error) func(context.Context) error {
				return func(ctx context.Context) error {
					if err := s.proc.Stop(stopTimeout); err != nil {
						return err
					}
					if err := do(); err != nil {
						return err
					}
					return s.up(ctx)
				}
			}
			known := filepath.Join(s.buffer(), "known")
			lose := func(n int) func() error {
				return func() error {
					return errors.Join(s.edit(regexp.MustCompile(`"recorded":([0-9]+)`), n), s.edit(regexp.MustCompile(`"delivered":([0-9]+)`), n))
				}
			}
			return []scene{
				{
					what: "a call and an entry of a store are taken out of the counts on the disk", cured: "they are put back",
					fires: []string{"AuditCallsNotConserved", "AuditStoreNotConserved"},
					cause: func(ctx context.Context) error {
						s.load(4, 20*time.Millisecond, s.usual)
						time.Sleep(3 * time.Second)
						s.silence()
						return stopped(lose(-1))(ctx)
					},
					cure: stopped(lose(1)),
				},
				{
					what: "the sidecar was last at work ten days ago, by its files", cured: "it was a moment ago",
					fires: []string{"AuditClockDistrusted"},
					cause: stopped(func() error {
						ago := time.Now().Add(-240 * time.Hour)
						return os.Chtimes(known, ago, ago)
					}),
					cure: stopped(func() error { return os.Chtimes(known, time.Now(), time.Now()) }),
				},
				{
					what: "bits flip in a sealed segment that waits for a store", cured: "nothing more happens",
					fires: []string{"AuditEntriesDamaged"},
					cause: func(ctx context.Context) error {
						s.siem.down()
						s.load(8, 10*time.Millisecond, s.usual)
						for {
							segments, err := s.segments()
							if err != nil {
								return err
							}
							if len(segments) >= 3 {
								break
							}
							select {
							case <-ctx.Done():
								return ctx.Err()
							case <-time.After(time.Second):
							}
						}
						s.silence()
						return stopped(func() error {
							segments, err := s.segments()
							if err != nil {
								return err
							}
							return errors.Join(flip(segments[len(segments)-2]), s.siem.up())
						})(ctx)
					},
					cure: nothing,
				},
			}
		},
	}
}

// segments are the buffer's, oldest first.
func (s *stage) segments() ([]string, error) {
	all, err := filepath.Glob(filepath.Join(s.buffer(), "seg-*.db"))
	if err != nil {
		return nil, err
	}
	first := func(path string) int {
		n, _ := strconv.Atoi(regexp.MustCompile(`[0-9]+`).FindString(filepath.Base(path)))
		return n
	}
	slices.SortFunc(all, func(a, b string) int { return first(a) - first(b) })
	return all, nil
}

// flip harms what a segment's first pages hold: a sealed one of a MiB of entries has more.
func flip(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i := 64 << 10; i < min(len(b), 512<<10); i += 64 {
		b[i] ^= 0xff
	}
	return os.WriteFile(path, b, 0o600)
}

// edit adds to the first number that a pattern finds in the newest segment's state, whose frame is
// described in buffer/DESIGN.md.
func (s *stage) edit(number *regexp.Regexp, add int) error {
	segments, err := s.segments()
	if err != nil || len(segments) == 0 {
		return errors.Join(err, errors.New("looking for segments: there is none"))
	}
	db, err := bolt.Open(segments[len(segments)-1], 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Update(func(tx *bolt.Tx) error {
		const header, body, transaction = 37, 12, 21
		state := tx.Bucket([]byte("s"))
		frame := slices.Clone(state.Get([]byte("state")))
		if len(frame) < header {
			return fmt.Errorf("reading the state: it has %d bytes", len(frame))
		}
		at := number.FindSubmatchIndex(frame)
		if at == nil {
			return fmt.Errorf("reading the state: nothing is like %s", number)
		}
		n, err := strconv.Atoi(string(frame[at[2]:at[3]]))
		if err != nil {
			return err
		}
		frame = slices.Concat(frame[:at[2]], []byte(strconv.Itoa(n+add)), frame[at[3]:])
		binary.BigEndian.PutUint32(frame[4:], uint32(len(frame)))
		binary.BigEndian.PutUint64(frame[transaction:], uint64(tx.ID()))
		binary.BigEndian.PutUint32(frame[8:], crc32.Checksum(frame[body:], crc32.MakeTable(crc32.Castagnoli)))
		return state.Put([]byte("state"), frame)
	})
}
