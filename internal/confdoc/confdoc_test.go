package confdoc

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/standard" // what a site needs beside ours
	"github.com/google/go-cmp/cmp"

	_ "github.com/caddy-audit-log/caddy-audit-log/caddymodule" // the modules of a build
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const (
	root      = "../.."
	reference = "../../docs/configuration.md"
	complete  = "../../docs/complete.Caddyfile"
)

// Every field has a comment and states its default, and every line of a syntax is a field's.
func read(t *testing.T) []*Module {
	t.Helper()
	modules, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	return modules
}

func TestTheReferenceSaysWhatTheSourceSays(t *testing.T) {
	example, err := os.ReadFile(complete)
	if err != nil {
		t.Fatal(err)
	}
	want := Render(read(t), string(example))
	if *update {
		if err := os.WriteFile(reference, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/configuration.md is stale: run go test ./internal/confdoc -update (-want +got):\n%s", diff)
	}
}

func TestEveryModuleOfABuildIsInTheReference(t *testing.T) {
	described := map[string]bool{}
	for _, m := range read(t) {
		described[m.ID] = true
	}
	for _, name := range caddy.Modules() {
		if strings.Contains(name, "audit_log") && !described[name] {
			t.Errorf("module %s is not described", name)
		}
		delete(described, name)
	}
	for id := range described {
		t.Errorf("module %s is described, and no build has it", id)
	}
}

func TestACommentThatIsNoManualIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "no comment",
		"Size bounds the file.":              "no default",
		"Default: 5.":                        "does not say what it is",
		"Size of it. Required. Default: 5.":  "remove one",
		"Size is 5 by default, mostly: so.":  "no default",
		"Required.":                          "no default",
		"Size bounds it.\n\nCaddyfile: none": "no default",
	} {
		if _, err := parseComment(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestACommentIsTakenApart(t *testing.T) {
	for text, want := range map[string]comment{
		"Size bounds the file, in bytes.\nDefault: 1.5 MiB. At most 2.": {meaning: "Size bounds the file, in bytes. At most 2.", byDefault: "1.5 MiB"},
		"Size is it. Required.\n\nCaddyfile: size  <size>":              {meaning: "Size is it.", byDefault: "required", form: "size <size>"},
		"Key is one. Default: {env.KEY}.":                               {meaning: "Key is one.", byDefault: "{env.KEY}"},
		"Claims: some. Default: of one a.b; of another c.":              {meaning: "Claims: some.", byDefault: "of one a.b; of another c"},
	} {
		got, err := parseComment(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestFieldsAreCalledAsInJSON(t *testing.T) {
	names := [][2]string{{"MaxSize", "max_size"}, {"URL", "url"}, {"Default", "default"}, {"KMSKey", "kms_key"}}
	for text, want := range map[string]string{
		"URL is one, unlike a URL. MaxSize bounds it.": "`url` is one, unlike a URL. `max_size` bounds it.",
		"Term is that of Default. Default is it.":      "Term is that of `default`. Default is it.",
		"It is in KMSKey: see MaxSize's.":              "It is in `kms_key`: see `max_size`'s.",
	} {
		if got := withJSONNames(text, names); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
