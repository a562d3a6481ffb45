package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	auditlog "github.com/caddy-audit-log/caddy-audit-log"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/attribution"
)

func demoCommand() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo [--keep-running]",
		Short: "Shows the audit log at work, on this machine alone",
		Long: `
Runs the shipped Caddyfile on free loopback ports in a temporary directory, with
a stand-in for the platform's API behind it and a month of made-up entries of
1,000 organizations in its store, sends a few calls and shows their entries. With
--keep-running it says where a browser finds the page, signed in as somebody of
one of them by a key that was made for it. Nothing of it is left afterwards, and
nothing of it exists in "caddy run".`,
		Example: "  caddy audit demo --keep-running",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			d, err := startDemo(ctx, cmd.OutOrStdout())
			if err != nil {
				return fmt.Errorf("starting the demo: %w", err)
			}
			defer func() { err = errors.Join(err, d.stop()) }()
			return d.show(ctx, cmd.OutOrStdout(), keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep-running", false, "Keep running for calls of your own, until interrupted")
	return cmd
}

// demo is the shipped configuration at work in a directory of its own.
type demo struct {
	dir     string
	listen  string
	viewer  string
	api     *http.Server
	session *demoSession
}

func startDemo(ctx context.Context, w io.Writer) (_ *demo, err error) {
	d := new(demo)
	if d.dir, err = os.MkdirTemp("", "audit-demo-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop())
		}
	}()
	api, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	own, err := ownPorts(3)
	if err != nil {
		return nil, err
	}
	defer own.free()
	port, viewer, metrics := own.port(0), own.port(1), own.port(2)
	d.listen, d.viewer = "127.0.0.1:"+port, "127.0.0.1:"+viewer
	if d.session, err = newDemoSession("http://"+api.Addr().String(), "http://"+d.viewer+"/organizations/"+demoOrganization.Slug+"/audit"); err != nil {
		return nil, err
	}
	d.api = &http.Server{Handler: d.session.before(http.HandlerFunc(stubAPI)), ReadHeaderTimeout: time.Minute}
	go func() { _ = d.api.Serve(api) }()
	if err := d.seed(ctx, w); err != nil {
		return nil, fmt.Errorf("filling the store: %w", err)
	}
	for name, value := range map[string]string{
		"PORT": port, "VIEWER_PORT": viewer, "VIEWER_BIND": "127.0.0.1", "PLATFORM_URL": "http://" + api.Addr().String(), demoSecretName: d.session.secret, "BIND": "127.0.0.1", "METRICS_PORT": metrics, "METRICS_BIND": "127.0.0.1",
		"PLATFORM": "supabase", "PLATFORM_API": api.Addr().String(), "TRUSTED_PROXIES": "",
		"AUDIT_DIR": d.dir, "ADMIN_LISTEN": "unix/" + filepath.Join(d.dir, "admin.sock") + "|0600",
	} {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	config, err := d.config()
	if err != nil {
		return nil, err
	}
	own.free()
	return d, caddy.Load(config, true)
}

// config is the shipped file, kept away from this user's other Caddy: its
// storage is the demo's own, and it is not remembered. Only errors are logged.
func (d *demo) config() ([]byte, error) {
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(auditlog.Caddyfile, map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return nil, err
	}
	var config map[string]any
	if err := json.Unmarshal(adapted, &config); err != nil {
		return nil, err
	}
	withDemoSession(config, d.session)
	config["storage"] = map[string]any{"module": "file_system", "root": filepath.Join(d.dir, "storage")}
	config["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{"level": "ERROR"}}}
	if admin, ok := config["admin"].(map[string]any); ok {
		admin["config"] = map[string]any{"persist": false}
	}
	return json.Marshal(config)
}

// heldPorts are ports that nobody else gets until they are freed.
type heldPorts []net.Listener

func ownPorts(n int) (p heldPorts, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			p.free()
			return nil, err
		}
		p = append(p, l)
	}
	return p, nil
}

func (p heldPorts) port(i int) string { return strconv.Itoa(p[i].Addr().(*net.TCPAddr).Port) }

// free may be called again.
func (p heldPorts) free() {
	for _, l := range p {
		_ = l.Close() // nothing was accepted
	}
}

// stubAPI stands in for the platform's API: it carries nothing out.
func stubAPI(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Request-Id", uuid.NewString())
	status := http.StatusOK
	switch {
	case r.URL.Path == demoProject && r.Header.Get(attribution.NonceHeader) != "":
		_ = json.NewEncoder(w).Encode(map[string]string{"organization_id": demoOrganization.ID, "organization_slug": demoOrganization.Slug})
		return
	case r.Header.Get("Authorization") == "":
		status = http.StatusUnauthorized
	case r.Method == http.MethodPost:
		status = http.StatusCreated
	case r.URL.Path == "/v1/organizations/"+demoOrganization.Slug && r.Method == http.MethodGet:
		_ = json.NewEncoder(w).Encode(map[string]string{
			"id": demoOrganization.ID, "slug": demoOrganization.Slug, "name": demoOrganization.Name, "plan": demoOrganization.Plan,
		})
		return
	case strings.HasPrefix(r.URL.Path, "/v1/organizations/") && strings.Count(r.URL.Path, "/") == 3 && r.Method == http.MethodGet:
		status = http.StatusNotFound // nobody is a member of another one
	case strings.HasSuffix(r.URL.Path, "/upgrade/status"):
		status = http.StatusNotFound
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "{}\n")
}

func (d *demo) stop() error {
	err := caddy.Stop()
	if d.api != nil {
		_ = d.api.Close()
	}
	return errors.Join(err, closed(filepath.Join(d.dir, "buffer")), os.RemoveAll(d.dir))
}

// closedWithin bounds how long the demo waits for its buffer to be delivered and closed.
const closedWithin = 10 * time.Second

// closed waits until nobody has the buffer in a directory open.
func closed(dir string) error {
	for end := time.Now().Add(closedWithin); ; time.Sleep(20 * time.Millisecond) {
		_, err := buffer.Inspect(dir)
		if !errors.Is(err, buffer.ErrLocked) {
			return nil // or there is none: the demo has not come that far
		}
		if time.Now().After(end) {
			return fmt.Errorf("waiting for the audit buffer %q to be delivered: %w", dir, context.DeadlineExceeded)
		}
	}
}

// server is where the demo's own answers.
func (d *demo) server() *place { return &place{address: os.Getenv("ADMIN_LISTEN")} }

// demoProject is one of the visitor's organization.
const demoProject = "/v1/projects/abcdefghijklmnopqrst"

// demoCalls are what the demo's visitor does, and others. Tokens are made anew each time.
func demoCalls(member string) []demoCall {
	app := demoToken("sbp_oauth_")
	const project = demoProject
	return []demoCall{
		{"GET", "/v1/organizations/acme/members", member, ""},
		{"GET", project + "/upgrade/status", member, ""},
		{"PATCH", project + "/config/auth", app, `{"site_url":"https://example.com"}`},
		{"DELETE", project + "/functions/hello-world", "", ""},
		{"POST", project + "/functions?slug=hello-world", member, `{"name":"hello-world","body":"…"}`},
		{"DELETE", project + "/functions/hello-world", member, ""},
	}
}

type demoCall struct{ method, path, token, body string }

// demoToken makes a token of the platform's form.
func demoToken(prefix string) string {
	a, b := uuid.New(), uuid.New()
	return fmt.Sprintf("%s%x%x", prefix, a[:], b[:4])
}

func (d *demo) show(ctx context.Context, w io.Writer, keep bool) error {
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	calls := demoCalls(d.session.token)
	say("Caddy runs with the audit log at http://%s, before a stand-in for a platform's API.", d.listen)
	say("Sending %d calls …\n", len(calls))
	began := time.Now()
	for _, c := range calls {
		if err := d.send(ctx, c); err != nil {
			return fmt.Errorf("sending %s %s: %w", c.method, c.path, err)
		}
	}
	docs, err := d.wait(ctx, began, len(calls))
	if err != nil {
		return err
	}
	say("Their entries, as the store has them:\n")
	print := linePrinter(w, false)
	for _, doc := range docs {
		if err := print(doc); err != nil {
			return err
		}
	}
	s, err := d.server().liveStatus(ctx)
	if err != nil {
		return err
	}
	say("\nIs anything lost?\n\n%s", s.Text())
	if keep {
		say("Read them as a member of %s does, in a browser of this machine:\n\n  %s\n", demoOrganization.Name, d.session.url)
		say("Send calls of your own from another terminal, and end with Ctrl-C:\n\n"+
			"  curl -X POST -H 'Authorization: Bearer %s' http://%s%s/pause\n\n"+
			"Entries as they are recorded:\n", demoToken("sbp_"), d.listen, demoProject)
		return d.follow(ctx, w)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, docs[len(docs)-1], "", "  "); err != nil {
		return err
	}
	say("The newest entry whole:\n\n%s", pretty.String())
	return nil
}

func (d *demo) send(ctx context.Context, c demoCall) error {
	req, err := http.NewRequestWithContext(ctx, c.method, "http://"+d.listen+c.path, strings.NewReader(c.body))
	if err != nil {
		return err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("User-Agent", "audit-demo")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// wait returns what the store has from then on, as soon as it has all of it.
func (d *demo) wait(ctx context.Context, from time.Time, n int) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	p := d.server()
	for {
		s, err := p.liveStatus(ctx)
		if err != nil {
			return nil, err
		}
		if s.Head >= uint64(n) && len(s.Stores) > 0 && s.Stores[0].Pending == 0 {
			body, err := p.get(ctx, operator.ExportPath, url.Values{"from": {from.UTC().Format(time.RFC3339Nano)}})
			if err != nil {
				return nil, err
			}
			defer body.Close()
			var docs [][]byte
			err = eachLine(body, func(doc []byte) error {
				docs = append(docs, bytes.Clone(doc))
				return nil
			})
			if err == nil && len(docs) < n {
				err = fmt.Errorf("reading the entries: %d of %d are stored", len(docs), n)
			}
			return docs, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the store: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// follow prints entries until the demo is interrupted, as caddy audit tail -f
// does.
func (d *demo) follow(ctx context.Context, w io.Writer) error {
	body, err := d.server().get(ctx, operator.TailPath, url.Values{"n": {"0"}, "follow": {"1"}})
	if err != nil {
		return err
	}
	defer body.Close()
	if err := eachLine(body, linePrinter(w, false)); ctx.Err() == nil {
		return err
	}
	return nil
}
