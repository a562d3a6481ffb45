package commands

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/postgres"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/sqlite"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

func versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version [--json]",
		Short: "Shows what this program is made of, and which files it reads and writes",
		Long: `
Shows the versions of the audit log, of Caddy and of Go, of the modules that touch
entries, and from which revision the program was built; and the versions of the
files and tables that it reads and writes. Compare those of two programs before an
upgrade, or before going back. It reads no configuration.`,
		Example: "  caddy audit version\n  caddy audit version --json | jq .formats",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, _ := debug.ReadBuildInfo()
			v := versionOf(info)
			if asJSON {
				return printJSON(cmd.OutOrStdout(), v)
			}
			_, err := io.WriteString(cmd.OutOrStdout(), v.text())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

// programVersion is what `caddy audit version` prints.
type programVersion struct {
	// Version is the module's, or "unknown" where the program was built from a working
	// tree without one; then Revision tells more.
	Version string `json:"version"`
	Caddy   string `json:"caddy"`
	Go      string `json:"go"`
	// Platform is GOOS/GOARCH.
	Platform string `json:"platform"`
	// Revision is the commit that the program was built from, absent if that is not known,
	// and Modified says that its files had been changed since.
	Revision     string `json:"revision,omitempty"`
	RevisionTime string `json:"revision_time,omitempty"`
	Modified     bool   `json:"modified,omitempty"`
	// Modules are those that touch entries on their way.
	Modules []moduleVersion `json:"modules"`
	Formats []formatVersion `json:"formats"`
}

type moduleVersion struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	// Replaced is what stands in its place, if something does.
	Replaced string `json:"replaced,omitempty"`
}

// formatVersion is a format with the version that is written, and those from ReadsFrom on
// that are read.
type formatVersion struct {
	Name      string `json:"name"`
	Writes    int    `json:"writes"`
	ReadsFrom int    `json:"reads_from"`
	// Upgrade says when an earlier one becomes this one. Empty: it stays as it is.
	Upgrade string `json:"upgrade,omitempty"`
}

// ourModule is the module that this package is of.
const ourModule = "github.com/caddy-audit-log/caddy-audit-log"

// modulesThatMatter are those that make entries durable, or bring them somewhere.
var modulesThatMatter = []string{
	"github.com/caddyserver/caddy/v2", "go.etcd.io/bbolt", "modernc.org/sqlite", "github.com/jackc/pgx/v5", "github.com/minio/minio-go/v7",
	"github.com/nats-io/nats.go", "go.opentelemetry.io/proto/otlp", "github.com/go-jose/go-jose/v4", "github.com/klauspost/compress",
}

// formats are those that outlive a process.
var formats = []formatVersion{
	{Name: "buffer", Writes: buffer.FormatVersion, ReadsFrom: buffer.ReadsFormatFrom},
	{Name: "entry", Writes: audit.SchemaVersion, ReadsFrom: 1},
	{Name: "sqlite", Writes: sqlite.SchemaVersion, ReadsFrom: 1, Upgrade: "when a server starts"},
	{Name: "postgres", Writes: postgres.SchemaVersion, ReadsFrom: 1, Upgrade: "when a server starts without migrate off"},
}

// versionOf reads what a program says of itself, which may be nothing.
func versionOf(info *debug.BuildInfo) *programVersion {
	_, full := caddy.Version()
	v := &programVersion{
		Version: "unknown", Caddy: full, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Modules: []moduleVersion{}, Formats: formats,
	}
	if info == nil {
		return v
	}
	found := map[string]*debug.Module{}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		found[m.Path] = m
	}
	if m := found[ourModule]; m != nil {
		v.Version = cmp.Or(strings.Trim(m.Version, "()"), "unknown") // "(devel)" is a working tree
	}
	for _, path := range modulesThatMatter {
		m := found[path]
		if m == nil {
			continue
		}
		one := moduleVersion{Path: path, Version: m.Version}
		if r := m.Replace; r != nil {
			one.Replaced = strings.TrimSpace(r.Path + " " + r.Version)
		}
		v.Modules = append(v.Modules, one)
	}
	if info.Main.Path != ourModule {
		return v // the revision would be that of whoever has us as a part
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.RevisionTime = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (v *programVersion) text() string {
	var b strings.Builder
	line := func(label, text string) {
		fmt.Fprintf(&b, "%-10s%s\n", label, display.Printable(strings.TrimSpace(text)))
	}
	line("audit log", v.Version)
	line("caddy", v.Caddy)
	line("go", v.Go+" "+v.Platform)
	if v.Revision != "" {
		changed := ""
		if v.Modified {
			changed = ", changed since"
		}
		line("revision", fmt.Sprintf("%s %s%s", v.Revision, v.RevisionTime, changed))
	}
	for i, f := range v.Formats {
		label := ""
		if i == 0 {
			label = "formats"
		}
		text := fmt.Sprintf("%-9s writes %d", f.Name, f.Writes)
		text += fmt.Sprintf(", reads %d", f.ReadsFrom)
		if f.ReadsFrom < f.Writes {
			text += fmt.Sprintf(" to %d", f.Writes)
		}
		if f.Upgrade != "" {
			text += fmt.Sprintf("; an earlier one is brought to %d %s", f.Writes, f.Upgrade)
		}
		line(label, text)
	}
	for i, m := range v.Modules {
		label := ""
		if i == 0 {
			label = "modules"
		}
		text := m.Path + " " + m.Version
		if m.Replaced != "" {
			text += " => " + m.Replaced
		}
		line(label, text)
	}
	return b.String()
}
