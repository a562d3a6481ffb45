package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "audit",
		Short: "Reads and operates the audit log",
		Long: `
Reads and operates the audit log. See the help of each subcommand.

The commands ask the running server through its admin endpoint, and read the
files when it is down. Without --address they find the endpoint, and the files,
in the configuration: --config, or the Caddyfile in the current directory. Run
them with the server's environment, and as its user.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.AddCommand(demoCommand(), statusCommand(), tailCommand(), searchCommand(), exportCommand(), drainCommand(),
				deliverCommand(), passCommand(), bufferCommand(), quarantineCommand(), storeCommand(), catalogCommand(),
				retentionCommand(), verifyCommand(), versionCommand(), doctorCommand(), sizeCommand())
		},
	})
}

// place is where a command finds the audit log.
type place struct{ address, config, adapter string }

func (p *place) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.address, "address", "", "The admin endpoint (default: the configuration's)")
	cmd.Flags().StringVarP(&p.config, "config", "c", "", "The configuration (default: ./Caddyfile)")
	cmd.Flags().StringVarP(&p.adapter, "adapter", "a", "", "The configuration's adapter (default: by its name)")
}

// errDown says that nobody listens at the admin endpoint.
var errDown = errors.New("the server is not running")

// load returns the configuration as JSON.
func (p *place) load() ([]byte, error) {
	file := p.config
	if file == "" {
		file = "Caddyfile"
	}
	body, err := os.ReadFile(file)
	if err != nil {
		if p.config == "" && errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading the configuration: there is no Caddyfile in this directory: give --config or --address")
		}
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	adapter := p.adapter
	if base := filepath.Base(file); adapter == "" && (strings.HasPrefix(base, "Caddyfile") || filepath.Ext(base) == ".caddyfile") {
		adapter = "caddyfile"
	}
	if adapter == "" {
		return body, nil
	}
	a := caddyconfig.GetAdapter(adapter)
	if a == nil {
		return nil, fmt.Errorf("reading the configuration: there is no adapter %q", adapter)
	}
	adapted, _, err := a.Adapt(body, map[string]any{"filename": file})
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return adapted, nil
}

// endpoint is the admin endpoint's address.
func (p *place) endpoint() (string, error) {
	if p.address != "" {
		return p.address, nil
	}
	body, err := p.load()
	if err != nil {
		return "", err
	}
	var config struct {
		Admin struct {
			Listen string `json:"listen"`
		} `json:"admin"`
	}
	if err := json.Unmarshal(body, &config); err != nil {
		return "", fmt.Errorf("reading the configuration: %w", err)
	}
	if config.Admin.Listen == "" {
		return caddy.DefaultAdminListen, nil
	}
	return config.Admin.Listen, nil
}

func parseEndpoint(address string) (caddy.NetworkAddress, error) {
	// A unix socket's mode is part of the listener, not of its path.
	listen, _, _ := strings.Cut(address, "|")
	parsed, err := caddy.ParseNetworkAddressWithDefaults(listen, "tcp", 2019)
	if err != nil {
		err = fmt.Errorf("asking the server at %q: %w", address, err)
	}
	return parsed, err
}

// get asks for something that changes nothing. A reload begins the endpoint anew and
// may cut a question off, which is then asked again.
func (p *place) get(ctx context.Context, path string, query url.Values) (body io.ReadCloser, err error) {
	for range 3 {
		body, err = p.ask(ctx, http.MethodGet, path, query, nil)
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
	return body, err
}

// ask asks the running server. The error is errDown, wrapped, when there is
// none, and the server's own when it gave one.
func (p *place) ask(ctx context.Context, method, path string, query url.Values, body io.Reader) (io.ReadCloser, error) {
	address, err := p.endpoint()
	if err != nil {
		return nil, err
	}
	parsed, err := parseEndpoint(address)
	if err != nil {
		return nil, err
	}
	host := parsed.JoinHostPort(0)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, parsed.Network, host)
	}}
	u := url.URL{Scheme: "http", Host: "127.0.0.1", Path: path, RawQuery: query.Encode()}
	if !parsed.IsUnixNetwork() {
		u.Host = host
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("asking the server at %q: %w", address, err)
	}
	resp, err := transport.RoundTrip(req) // without a client's redirects: the body may hold a credential
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" && !errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("asking the server at %q: %w (%w)", address, errDown, op.Err)
		}
		return nil, fmt.Errorf("asking the server at %q: %w", address, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var said struct {
		Error string `json:"error"`
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(text, &said) != nil || said.Error == "" {
		said.Error = strings.TrimSpace(string(text))
	}
	return nil, fmt.Errorf("asking the server at %q: %s: %s", address, resp.Status, said.Error)
}

// offline sets the configuration's app up without starting it, for its paths.
func (p *place) offline(ctx context.Context) (_ Sidecar, done func(), err error) {
	body, err := p.load()
	if err != nil {
		return nil, nil, err
	}
	var config struct {
		Apps struct {
			AuditLog json.RawMessage `json:"audit_log"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(body, &config); err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	app, err := newSidecar()
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if config.Apps.AuditLog != nil {
		if err := json.Unmarshal(config.Apps.AuditLog, app); err != nil {
			return nil, nil, fmt.Errorf("reading the configuration: audit_log: %w", err)
		}
	}
	cctx, cancel := caddy.NewContext(caddy.Context{Context: ctx})
	if err := app.Provision(cctx); err != nil {
		cancel()
		return nil, nil, err
	}
	return app, cancel, nil
}

// status asks the server, or the files.
func (p *place) status(ctx context.Context) (operator.Status, error) {
	var s operator.Status
	body, err := p.get(ctx, operator.StatusPath, nil)
	if err == nil {
		defer body.Close()
		if err := json.NewDecoder(body).Decode(&s); err != nil {
			return s, fmt.Errorf("reading the server's status: %w", err)
		}
		return s, nil
	}
	if !errors.Is(err, errDown) {
		return s, err
	}
	app, done, offErr := p.offline(ctx)
	if offErr != nil {
		return s, errors.Join(err, offErr)
	}
	defer done()
	b, inspectErr := buffer.Inspect(app.Directory())
	if errors.Is(inspectErr, buffer.ErrLocked) {
		return s, fmt.Errorf("%w; but a process has the buffer %q open: give the --address of its admin endpoint", err, app.Directory())
	}
	if inspectErr != nil {
		return s, inspectErr
	}
	return operator.StatusOf(app.Directory(), b, app.Retention().Stores), nil
}
