package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/google/go-cmp/cmp"

	auditlog "github.com/caddy-audit-log/caddy-audit-log"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Each golden file is a Caddyfile, a line of dashes, and the JSON or the error
// that it gives.
func TestCaddyfilesAdaptAsTheGoldenFilesSay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(b), "----------\n")
			got := adaptText([]byte(input))
			if *update {
				if err := os.WriteFile(file, []byte(input+"----------\n"+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Every Caddyfile in the documentation is one, but for the few that show a
// syntax with its <names>.
func TestCaddyfilesInTheDocumentationAdapt(t *testing.T) {
	documents, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	adapted := 0
	for _, file := range append(documents, "../README.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, fence := range strings.Split(string(b), "```caddyfile\n")[1:] {
			text, _, _ := strings.Cut(fence, "```")
			if strings.Contains(text, "<") {
				continue
			}
			if strings.HasPrefix(text, "audit_log") {
				text = ":80 {\n" + text + "\n}\n"
			}
			if got := adaptText([]byte(text)); !strings.Contains(got, `"audit_log`) {
				t.Errorf("%s, Caddyfile %d: %s", file, i+1, got)
			}
			adapted++
		}
	}
	if adapted < 6 {
		t.Errorf("only %d Caddyfiles were found", adapted)
	}
}

func adaptText(caddyfile []byte) string {
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(caddyfile, map[string]any{"filename": "Caddyfile"})
	if err != nil {
		// The store of a test is not part of any build.
		return strings.NewReplacer("[archive ", "[", " watched", "", " picky", "").Replace(err.Error()) + "\n"
	}
	var out bytes.Buffer
	for _, w := range warnings {
		out.WriteString("warning: " + w.String() + "\n")
	}
	if err := json.Indent(&out, config, "", "\t"); err != nil {
		return err.Error() + "\n"
	}
	return out.String() + "\n"
}

func TestTheShippedCaddyfileIsFormattedAndValid(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("AUDIT_DIR", dir)
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(auditlog.Caddyfile, map[string]any{"filename": "Caddyfile"})
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&c); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("validating made %v, %v", left, err)
	}
}

// Errors that only the machine can give are found by validate, and name the
// file, the line, the option and the cure all the same.
func TestValidateNamesTheFileTheLineTheOptionAndTheCure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const tail = "\n:0 {\n\taudit_log\n}\n"
	for name, c := range map[string]struct {
		caddyfile string
		want      []string
	}{
		"a directory below a file": {
			"{\n\taudit_log {\n\t\tbuffer " + file + "/buffer\n\t}\n}" + tail,
			[]string{"Caddyfile:3", "audit_log buffer", file + "/buffer", "is a file", "choose another directory"},
		},
		"a directory that cannot be written": {
			"{\n\taudit_log {\n\t\tbuffer /proc/1/buffer\n\t}\n}" + tail,
			[]string{"Caddyfile:3", "audit_log buffer", "/proc/1/buffer", "choose"},
		},
		"a placeholder that has no value": {
			"{\n\taudit_log {\n\t\tbuffer {env.THIS_IS_NOT_SET}/buffer\n\t}\n}" + tail,
			[]string{"Caddyfile:3", "audit_log buffer", "env.THIS_IS_NOT_SET"},
		},
		"two stores of one name": {
			"{\n\taudit_log {\n\t\tstore sqlite a.db\n\t\tstore sqlite b.db\n\t}\n}" + tail,
			[]string{"Caddyfile:4", "two stores", "sqlite", "name siem"},
		},
		"a name that is none": {
			"{\n\taudit_log {\n\t\tstore sqlite a.db {\n\t\t\tname \"a b\"\n\t\t}\n\t}\n}" + tail,
			[]string{"Caddyfile:3", "a b", "letters"},
		},
		"a beginning that is none": {
			"{\n\taudit_log {\n\t\tstore sqlite a.db {\n\t\t\tfrom yesterday\n\t\t}\n\t}\n}" + tail,
			[]string{"Caddyfile:3", "sqlite", "yesterday", "oldest or now"},
		},
		"ocsf in a store that is read back": {
			"{\n\taudit_log {\n\t\tstore sqlite a.db {\n\t\t\tformat ocsf\n\t\t}\n\t}\n}" + tail,
			[]string{"Caddyfile:3", "read back", "http or file"},
		},
		"an outcome that is none": {
			"{\n\taudit_log {\n\t\tstore sqlite a.db {\n\t\t\tonly outcome ok\n\t\t}\n\t}\n}" + tail,
			[]string{"Caddyfile:3", "ok", "denied"},
		},
		"an unknown platform": {
			":0 {\n\taudit_log {\n\t\tplatform nowhere\n\t}\n}\n",
			[]string{"Caddyfile:2", "platform", "nowhere", "supabase"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var config caddy.Config
			if err := caddy.StrictUnmarshalJSON(adapt(t, c.caddyfile), &config); err != nil {
				t.Fatal(err)
			}
			err := caddy.Validate(&config)
			if err == nil {
				t.Fatal("it is valid")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
		})
	}
}

func FuzzCaddyfile(f *testing.F) {
	f.Add("buffer x {\n max_size 1GiB\n}\nstore sqlite a.db")
	f.Add("buffer {")
	f.Add("store sqlite {\n}")
	f.Fuzz(func(_ *testing.T, options string) {
		_, _, _ = caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\n\taudit_log {\n"+options+"\n\t}\n}\n:80 {\n\taudit_log\n}\n"), nil)
	})
}

// What the shipped Caddyfile shows in a comment works when its marks are taken
// away.
func TestTheShippedCaddyfilesIssuerIsValid(t *testing.T) {
	text := string(auditlog.Caddyfile)
	from := strings.Index(text, "# issuer")
	length := strings.Index(text[max(from, 0):], "# }\n")
	if from < 0 || length < 0 {
		t.Fatal("it shows no issuer")
	}
	block := text[from : from+length+len("# }\n")]
	shown := strings.ReplaceAll(strings.ReplaceAll(block, "\t# ", "\t"), "# issuer", "issuer")
	t.Setenv("AUDIT_DIR", t.TempDir())
	config := adapt(t, strings.Replace(text, block, shown, 1))
	if want := `"issuers":[{"audiences":["authenticated"],"jwks_url":"https://auth.example.com/.well-known/jwks.json"`; !strings.Contains(string(config), want) {
		t.Errorf("it has no issuer: %s", config)
	}
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&c); err != nil {
		t.Error(err)
	}
}
