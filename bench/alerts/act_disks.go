//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/faultfs"
)

// fullDisk is a small filesystem that fills up with what is not the buffer's.
func fullDisk() act {
	const mib = 1 << 20
	return act{
		plan: plan{name: "disk", buffer: "max_size 8MiB\n\t\t\tmin_free 8MiB", siem: "-", may: []string{"AuditDiskFilling", "AuditDiskFloorNear", "AuditUncleanStart"}, prepare: func(s *stage) error {
			if err := os.MkdirAll(s.buffer(), 0o700); err != nil {
				return err
			}
			if err := syscall.Mount("tmpfs", s.buffer(), "tmpfs", 0, "size=64m,mode=700"); err != nil {
				return fmt.Errorf("mounting a small filesystem (this needs root): %w", err)
			}
			s.stops = append(s.stops, func() { _ = syscall.Unmount(s.buffer(), syscall.MNT_DETACH) })
			return nil
		}},
		scenes: func(s *stage) []scene {
			ballast := filepath.Join(s.buffer(), "ballast")
			var f *os.File
			fill := make(chan struct{})
			return []scene{{
				what: "something else fills the buffer's filesystem, 1 MiB a second", cured: "it is removed",
				fires: []string{"AuditDiskFilling", "AuditDiskFloorNear", "AuditCallsRefused"},
				cause: func(ctx context.Context) (err error) {
					if f, err = os.Create(ballast); err != nil {
						return err
					}
					s.load(2, 50*time.Millisecond, s.usual)
					go func() {
						piece := make([]byte, mib)
						for {
							select {
							case <-ctx.Done():
								return
							case <-fill:
								return
							case <-time.After(time.Second):
								_, _ = f.Write(piece) // until it is full
							}
						}
					}()
					return nil
				},
				cure: func(context.Context) error {
					close(fill)
					return errors.Join(f.Close(), os.Remove(ballast))
				},
			}}
		},
	}
}

// illDisk is a disk that fails, hangs, and is slow.
func illDisk() act {
	var disk *faultfs.FS
	return act{
		plan: plan{
			name: "ill", buffer: "max_size 64MiB", maxWait: "1s", siem: "-",
			may: []string{"AuditCommitsFail", "AuditCommitsSlow", "AuditDiskSlow", "AuditAnswersLate", "AuditAnswersWithheld", "AuditCallsRefused", "AuditDiskFailing", "AuditEntriesWaiting", "AuditEntriesWaitingLong", "AuditGapRecorded"},
			prepare: func(s *stage) (err error) {
				behind := filepath.Join(s.dir, "behind")
				if err := errors.Join(os.MkdirAll(behind, 0o700), os.MkdirAll(s.buffer(), 0o700)); err != nil {
					return err
				}
				if disk, err = faultfs.Mount(s.buffer(), behind); err != nil {
					return err
				}
				s.heal = disk.Heal
				s.stops = append(s.stops, func() { _ = disk.Unmount() })
				return nil
			},
		},
		scenes: func(s *stage) []scene {
			heal := func(context.Context) error {
				disk.Heal()
				return nil
			}
			return []scene{
				{
					what: "each sync of the disk takes 0.7 s", cured: "the disk is quick again",
					fires: []string{"AuditCommitsSlow"},
					cause: func(context.Context) error {
						s.load(6, 20*time.Millisecond, s.usual)
						disk.Set(faultfs.Fault{Op: faultfs.Fsync, Kind: faultfs.Slow, Delay: 700 * time.Millisecond})
						return nil
					},
					cure: heal,
				},
				{
					what: "the disk returns errors for writes and syncs", cured: "the disk works again",
					fires: []string{"AuditDiskFailing", "AuditCommitsFail", "AuditCallsRefused"},
					cause: func(context.Context) error {
						disk.Set(faultfs.Fault{Op: faultfs.All, Kind: faultfs.Error})
						return nil
					},
					cure: heal,
				},
				{
					what: "somebody breaks the glass, and the disk returns errors", cured: "the disk works again, and the order is withdrawn",
					fires: []string{"AuditPassOrdered", "AuditCallsPassUnrecorded", "AuditDiskFailing"},
					cause: func(ctx context.Context) error {
						if err := s.site.Audit(ctx, &bytes.Buffer{}, "pass", "--for", "5m", "--reason", "trial"); err != nil {
							return err
						}
						disk.Set(faultfs.Fault{Op: faultfs.All, Kind: faultfs.Error})
						return nil
					},
					cure: func(ctx context.Context) error {
						disk.Heal()
						return s.site.Audit(ctx, &bytes.Buffer{}, "pass", "--end")
					},
				},
				{
					what: "the disk does not answer for over a minute", cured: "the disk answers",
					fires: []string{"AuditDiskSlow", "AuditAnswersLate", "AuditAnswersWithheld", "AuditCallsRefused", "AuditHeartbeatMissing"},
					cause: func(ctx context.Context) error {
						// So that some calls are at the API when it begins.
						s.api.slow.Store(int64(500 * time.Millisecond))
						select {
						case <-ctx.Done():
							return ctx.Err()
						case <-time.After(2 * time.Second):
						}
						disk.Set(faultfs.Fault{Op: faultfs.All, Kind: faultfs.Hang})
						return nil
					},
					cure: heal,
				},
			}
		},
	}
}
