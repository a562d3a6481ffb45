package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// settling bounds how long old configurations may take to go: Caddy gives
// theirs ten seconds.
const settling = 20 * time.Second

// resources are what a process leaks first.
type resources struct {
	Goroutines int `json:"goroutines"`
	Files      int `json:"files"`
}

// resourcesOf counts; profile says where the goroutines are.
func (a *admin) resourcesOf(ctx context.Context, p *rig.Process) (r resources, profile []byte, err error) {
	// The files first: the other question opens one.
	files, err := openFiles(p)
	if err != nil {
		return r, nil, err
	}
	r.Files = len(files)
	r.Goroutines, profile, err = a.goroutines(ctx)
	return r, profile, err
}

// openFiles lists what a process has open, but for the segment that the buffer
// prepares: it is open, twice, or not by how full the current one is, whoever
// reloads.
func openFiles(p *rig.Process) (names []string, err error) {
	dir := fmt.Sprintf("/proc/%d/fd", p.PID)
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("listing open files: %w: they are taken from /proc, so this program needs Linux", err)
	}
	preparing := 0
	for _, f := range files {
		name, err := os.Readlink(filepath.Join(dir, f.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if filepath.Base(name) == prepared && preparing < 2 {
			preparing++
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

const prepared = "seg-next.db.tmp"

// keepFiles writes down which files are open, for who asks what has come since.
func keepFiles(p *rig.Process, path string) error {
	names, err := openFiles(p)
	if err != nil {
		return err
	}
	slices.Sort(names)
	if err := os.WriteFile(path, []byte(strings.Join(names, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("keeping the evidence: %w", err)
	}
	return nil
}

// steady waits until the counts do not change any more.
func (a *admin) steady(ctx context.Context, p *rig.Process) (resources, error) {
	last, _, err := a.resourcesOf(ctx, p)
	for same, began := 0, time.Now(); err == nil && same < 8 && time.Since(began) < settling; {
		time.Sleep(250 * time.Millisecond)
		var r resources
		if r, _, err = a.resourcesOf(ctx, p); r == last {
			same++
		} else {
			last, same = r, 0
		}
	}
	return last, err
}

// back waits until the counts are at most what they were. What they are when
// it gives up is written down beside the site's files.
func (a *admin) back(ctx context.Context, p *rig.Process, before resources, dir string) (resources, error) {
	for began := time.Now(); ; time.Sleep(250 * time.Millisecond) {
		r, profile, err := a.resourcesOf(ctx, p)
		if err != nil || r.within(before) {
			return r, err
		}
		if time.Since(began) < settling {
			continue
		}
		_, stacks, err := a.Do(ctx, "GET", "/debug/pprof/goroutine?debug=2", "", nil)
		if err != nil {
			return r, err
		}
		if err := os.WriteFile(filepath.Join(dir, "goroutines.txt"), append(profile, stacks...), 0o600); err != nil {
			return r, fmt.Errorf("keeping the evidence: %w", err)
		}
		return r, keepFiles(p, filepath.Join(dir, "files-after.txt"))
	}
}

func (r resources) within(before resources) bool {
	return r.Goroutines <= before.Goroutines && r.Files <= before.Files
}
