package commands_test

import (
	"bytes"
	"os"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	_ "github.com/caddy-audit-log/caddy-audit-log/caddymodule" // whose app the commands find
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/commands"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
)

// run runs a command of `caddy audit` as a person does, and returns both outputs.
func run(t *testing.T, args ...string) (out, messages string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := &cobra.Command{Use: "audit", SilenceUsage: true}
	caddycmd.Commands()["audit"].CobraFunc(cmd)
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

// lookAt is what one check finds of a configuration, and of what its server would say.
func lookAt(t *testing.T, config, check string, newest []*audit.Entry, status *operator.Status) *verdict {
	t.Helper()
	r, err := commands.Look(t.Context(), config, check, newest, status)
	if err != nil {
		t.Fatal(err)
	}
	return &verdict{r}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
