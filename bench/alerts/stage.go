//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

const (
	readyTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	// patience is the usual max_wait: that the machine's own disk is busy is no cause.
	patience = "15s"
	// token is a credential that the stub API accepts, so that its callers are known.
	token = "sbp_0123456789abcdef0123456789abcdef01234567"
)

// stage is one build with its API and its callers.
type stage struct {
	name string
	dir  string
	site *rig.Site
	proc *rig.Process
	// config is the text of its Caddyfile.
	config string
	api    *api
	// siem is a second store that can be taken away; nil if it has none.
	siem *receiver
	// may are alerts that need not be shown here and may fire: what its causes entail.
	may []string

	// heal is done before the build is ended: one that waits for a disk cannot be killed.
	heal  func()
	stops []func()
	mu    sync.Mutex
	// calls are the callers that are at work.
	calls []func()
}

// plan is what a stage is made of.
type plan struct {
	name string
	// buffer are further lines of the buffer's block, and global of audit_log's global one.
	buffer, global string
	// handler are further lines of the site's audit_log.
	handler string
	// maxWait is the buffer's; empty is patience.
	maxWait string
	// siem are options of a second store; "-" is none.
	siem string
	env  []string
	may  []string
	// prepare is done before the first start.
	prepare func(*stage) error
}

const caddyfile = `{
	admin {$ADMIN_LISTEN}
	metrics
	persist_config off
	log {
		format filter {
			request>headers delete
			request>uri audit_log
			headers delete
			resp_headers delete
			uri audit_log
		}
	}
	audit_log {
		buffer {$AUDIT_DIR}/buffer {
			segment_size 1MiB
			max_wait {$MAX_WAIT}
			%BUFFER%
		}
		store sqlite {$AUDIT_DIR}/audit.db
		%SIEM%
		keep {
			default 400d
		}
		%GLOBAL%
	}
}

http://:{$PORT} {
	bind {$BIND}
	audit_log {
		platform supabase
		%HANDLER%
	}
	reverse_proxy {$PLATFORM_API}
}

http://:{$VIEWER_PORT} {
	bind {$VIEWER_BIND}
	audit_log_viewer {
		members ask {$PLATFORM_URL}/v1/organizations/{slug}
	}
}

http://:{$METRICS_PORT} {
	bind {$METRICS_BIND}
	metrics /metrics
}
`

// newStage starts a build by a plan.
func newStage(ctx context.Context, setup rig.Setup, dir string, p plan) (s *stage, err error) {
	s = &stage{name: p.name, dir: filepath.Join(dir, p.name), api: newAPI(), may: p.may}
	defer func() {
		if err != nil {
			s.close()
			err = fmt.Errorf("%s: %w", p.name, err)
		}
	}()
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return s, fmt.Errorf("making its directory: %w", err)
	}
	addr, stop, err := rig.Serve(s.api)
	if err != nil {
		return s, err
	}
	s.stops = append(s.stops, stop)
	siem := ""
	if p.siem != "-" {
		if s.siem, err = newReceiver(); err != nil {
			return s, err
		}
		s.stops = append(s.stops, s.siem.down)
		siem = "store http http://" + s.siem.addr + "/ingest {\n\t\t\tname siem\n\t\t\ttimeout 2s\n\t\t\t" + p.siem + "\n\t\t}"
	}
	s.config = strings.NewReplacer("%BUFFER%", p.buffer, "%SIEM%", siem, "%GLOBAL%", p.global, "%HANDLER%", p.handler).Replace(caddyfile)
	setup.Caddyfile, setup.Env = filepath.Join(s.dir, "Caddyfile"), append([]string{"MAX_WAIT=" + cmp.Or(p.maxWait, patience)}, p.env...)
	if err := os.WriteFile(setup.Caddyfile, []byte(s.config), 0o600); err != nil {
		return s, fmt.Errorf("writing the Caddyfile: %w", err)
	}
	if s.site, err = rig.NewSite(setup, filepath.Join(s.dir, "site"), addr); err != nil {
		return s, err
	}
	if p.prepare != nil {
		if err := p.prepare(s); err != nil {
			return s, err
		}
	}
	return s, s.up(ctx)
}

// up starts the build.
func (s *stage) up(ctx context.Context) (err error) {
	if s.proc, err = s.site.Start(ctx); err != nil {
		return err
	}
	return s.proc.Ready(ctx, readyTimeout)
}

// buffer is where it keeps its entries.
func (s *stage) buffer() string { return filepath.Join(s.site.AuditDir(), "buffer") }

func (s *stage) close() {
	if s.heal != nil {
		s.heal()
	}
	s.silence()
	if s.proc != nil {
		s.proc.Kill()
	}
	for _, stop := range slices.Backward(s.stops) {
		stop()
	}
}

// load has n callers call, each with a rest after each call, until stop or silence. A
// request is made anew for each call.
func (s *stage) load(n int, rest time.Duration, request func(i uint64) *http.Request) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	for range n {
		callers.Go(func() { s.call(ctx, rest, request) })
	}
	stop = func() {
		cancel()
		callers.Wait()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, stop)
	return stop
}

var numbers atomic.Uint64

func (s *stage) call(ctx context.Context, rest time.Duration, request func(i uint64) *http.Request) {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		if resp, err := client.Do(request(numbers.Add(1)).WithContext(ctx)); err == nil {
			drain(resp)
		}
		select {
		case <-ctx.Done():
		case <-time.After(rest):
		}
	}
}

// silence ends all calls.
func (s *stage) silence() {
	s.mu.Lock()
	calls := s.calls
	s.calls = nil
	s.mu.Unlock()
	for _, stop := range calls {
		stop()
	}
}

// request is one of a known caller's.
func (s *stage) request(method, path, bearer string) *http.Request {
	var body *strings.Reader
	if method == http.MethodGet {
		body = strings.NewReader("")
	} else {
		body = strings.NewReader(`{"name":"x"}`)
	}
	req, err := http.NewRequest(method, "http://"+s.site.Addr+path, body)
	if err != nil {
		panic(err) // the paths are ours
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return req
}

// usual are the calls of a known caller: half of them change something.
func (s *stage) usual(i uint64) *http.Request {
	const path = "/v1/organizations/acme/members"
	if i%2 == 0 {
		return s.request(http.MethodGet, path, token)
	}
	return s.request(http.MethodPatch, fmt.Sprintf("/v1/projects/abcdefghijklmnopqrst/functions/f-%d", i), token)
}

// changes only change something.
func (s *stage) changes(i uint64) *http.Request { return s.usual(2*i + 1) }
