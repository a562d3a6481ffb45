package caddymodule

import (
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// A person quotes what has odd characters in it, and takes options from snippets.
func TestAStoresOwnOptionsMayBeQuotedImportedAndHaveSeveralLines(t *testing.T) {
	for name, store := range map[string]string{
		"quoted destination":      "store http \"https://siem.example.com/ingest\" {\n\t\t\tname siem\n\t\t\tmethod PUT\n\t\t}",
		"quoted last option":      "store http https://siem.example.com/ingest {\n\t\t\tname siem\n\t\t\theader X-Team \"platform audit\"\n\t\t}",
		"quoted in the middle":    "store http https://siem.example.com/ingest {\n\t\t\theader X-Team \"platform audit\"\n\t\t\tname siem\n\t\t\tmethod PUT\n\t\t}",
		"only common, quoted":     "store http \"https://siem.example.com/ingest\" {\n\t\t\tname siem\n\t\t}",
		"backquoted":              "store http `https://siem.example.com/ingest` {\n\t\t\tmethod PUT\n\t\t}",
		"imported options":        "store http https://siem.example.com/ingest {\n\t\t\timport options\n\t\t}",
		"imported between others": "store http https://siem.example.com/ingest {\n\t\t\tname siem\n\t\t\timport options\n\t\t\tmethod PUT\n\t\t}",
		"imported store":          "import whole",
		"nested":                  "store http https://siem.example.com/ingest {\n\t\t\ttls {\n\t\t\t\tserver_name name\n\t\t\t}\n\t\t\tname siem\n\t\t}",
		"empty":                   "store http https://siem.example.com/ingest {\n\t\t}",
		"heredoc":                 "store http https://siem.example.com/ingest {\n\t\t\tname siem\n\t\t\theader X-Team <<EOF\n\t\t\t\tplatform\n\t\t\t\tEOF\n\t\t}",
	} {
		t.Run(name, func(t *testing.T) {
			config := "(options) {\n\theader X-Team audit\n\tdetachable 20%\n}\n(whole) {\n\tstore http https://siem.example.com/ingest {\n\t\tname siem\n\t\tmethod PUT\n\t}\n}\n{\n\taudit_log {\n\t\t" + store + "\n\t}\n}\n"
			_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config), map[string]any{"filename": "Caddyfile"})
			if err != nil {
				t.Errorf("%v\n%s", err, config)
			}
		})
	}
}
