package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
)

// auditCommand is `caddy audit`, as importing this package has registered it.
func auditCommand(args ...string) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", SilenceUsage: true}
	caddycmd.Commands()["audit"].CobraFunc(cmd)
	cmd.SetArgs(args)
	return cmd
}

// audited runs a command of `caddy audit` as a person does, and returns both outputs.
func audited(t *testing.T, args ...string) (out, messages string, err error) {
	t.Helper()
	return auditedWith(t.Context(), "", args...)
}

func auditedWith(ctx context.Context, stdin string, args ...string) (out, messages string, err error) {
	var stdout, stderr bytes.Buffer
	cmd := auditCommand(args...)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	err = cmd.ExecuteContext(ctx)
	return stdout.String(), stderr.String(), err
}

// run runs a command that asks the rig's server, and returns all that it prints.
func (r *rig) run(args ...string) (string, error) {
	r.t.Helper()
	out, messages, err := audited(r.t, append(args, "--address", r.admin())...)
	return out + messages, err
}

// admin is the address of the rig's admin endpoint.
func (r *rig) admin() string { return "unix/" + r.dir + "/admin.sock" }

// ask asks an admin route itself. The error has the status and what is said of it.
func (r *rig) ask(ctx context.Context, method, path, body string) (io.ReadCloser, error) {
	r.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.dir+"/admin.sock")
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://127.0.0.1"+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return nil, fmt.Errorf("%s: %s", resp.Status, text)
}

// statusOf is what `caddy audit status` says of a configuration's server, or of its files.
func statusOf(t *testing.T, config string) (s operator.Status) {
	t.Helper()
	out, messages, err := audited(t, "status", "--json", "--config", config)
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		t.Fatal(err, messages)
	}
	return s
}
