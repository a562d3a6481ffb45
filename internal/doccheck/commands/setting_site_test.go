//go:build unix

package commands

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"regexp"
	"strings"
	"time"
)

var readme = setting{
	noServer: true,
	env:      []string{"LEAKED=" + person},
	steps: []step{
		{command: "go run ./cmd/caddy audit demo", within: 3 * time.Minute, prints: []string{`calls +holds: 6 seen = 6 recorded`, `sqlite +holds: `, `"outcome": "`}},
		{command: "go run ./cmd/caddy audit demo --keep-running", until: `http://127\.0\.0\.1:\d+/`, after: (*site).pageOfTheDemo, status: 1}, // go run's own, when it is interrupted
		{command: "go build -o caddy ./cmd/caddy", within: 3 * time.Minute},
		{command: "PLATFORM_API=127.0.0.1:9000 ./caddy run", until: `serving initial configuration`, serves: true, after: func(s *site) {
			s.calls()
			s.delivered()
		}},
		{command: "caddy audit status --json", prints: []string{`"seen": ?5`}},
		{command: "caddy audit tail", prints: []string{`hello-world`}},
		{command: "caddy audit tail -f", until: `hello-world`},
		{command: "caddy audit search --outcome denied --status 4xx", prints: []string{`denied`}},
		{command: "caddy audit export --format ndjson", prints: []string{`(?m)^\{"id":`}},
		{command: `printf %s "$LEAKED" | caddy audit search --token-stdin`, prints: []string{`hello-world`, `4 entries`}},
		{command: "caddy audit search --outcome denied --outcome failure", prints: []string{`denied`}},
		{command: "caddy audit version", prints: []string{`sqlite`}},
	},
}

// pageOfTheDemo is what a browser gets at the address that the demo prints.
func (s *site) pageOfTheDemo() {
	s.t.Helper()
	at := regexp.MustCompile(`http://127\.0\.0\.1:\d+/\S*`).FindString(s.output)
	jar, _ := cookiejar.New(nil) // it is signed in by a cookie
	answer, err := (&http.Client{Jar: jar}).Get(at)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	page, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusOK || !strings.Contains(string(page), "<html") {
		s.t.Errorf("%s is no page: status %d", at, answer.StatusCode)
	}
}

var catalog = setting{
	noServer: true,
	before: func(s *site) {
		s.dir = s.at("catalog")
		s.file("Caddyfile", s.block("docs/catalog.md", "caddyfile", "catalog openapi"))
		s.file("overrides.yaml", s.block("docs/catalog.md", "yaml", "Refund an order"))
		description, err := os.ReadFile("testdata/openapi.yaml")
		if err != nil {
			s.t.Fatal(err)
		}
		s.file("openapi.yaml", string(description))
	},
	steps: []step{
		{command: "caddy audit catalog POST", exact: true},
		{command: "caddy audit catalog --uncovered", exact: true},
		{command: "caddy reload --force", before: func(s *site) {
			s.dir = s.clone // with the shipped Caddyfile
			s.up()
		}, after: func(s *site) {
			s.down()
			s.dir = s.at("catalog")
		}},
	},
}

var doctor = setting{
	steps: []step{
		{command: "caddy audit doctor --json"}, // nothing is wrong
		{command: "sudo -u caddy", instead: []string{"-u caddy --preserve-env=… ", ""}, before: func(s *site) {
			s.file("/etc/caddy/Caddyfile", s.read("Caddyfile"))
			s.shell("install -m 0755 $(command -v caddy) /usr/local/bin/caddy")
		}, prints: []string{`(?m)^ *ok`}},
		{command: "caddy audit doctor", prints: []string{`(?m)^ *ok`}},
	},
}

var retention = setting{
	steps: []step{
		{command: "caddy audit retention hold list", prints: []string{`case 4711`}},
		{command: "caddy audit retention hold release", before: func(s *site) {
			s.values["hold-1a2b3c4d"] = regexp.MustCompile(`hold-[0-9a-f]+`).FindString(s.shell("caddy audit retention hold list"))
		}},
		{command: "caddy audit retention explain ENTRY", prints: []string{`400`}},
	},
}

var runbook = setting{
	env: []string{"LEAKED=" + person},
	steps: []step{
		{command: `printf %s "$LEAKED" | caddy audit search`, after: func(s *site) {
			if n := strings.Count(s.read("trail.ndjson"), "\n"); n != 4 {
				s.t.Errorf("trail.ndjson has %d entries, and not 4", n)
			}
		}},
		{command: "caddy audit search --token-hash", before: func(s *site) {
			entries := lines[struct {
				Actor struct {
					TokenHash string `json:"token_hash"`
				}
			}](s, "caddy audit export | grep token_hash")
			s.values["TOKEN_HASH"] = entries[0].Actor.TokenHash
		}, instead: []string{"--token-hash", "--token-hash TOKEN_HASH"}, prints: []string{`hello-world`}},
		{command: "aws s3api list-object-versions", optional: "aws", before: func(s *site) {
			s.down()
			s.bucket()
			s.shell("aws s3api create-bucket --bucket acme-audit --object-lock-enabled-for-bucket")
			s.up()
			s.eventually("an object", func() bool { return s.object() != "" })
		}, instead: []string{"BUCKET", "acme-audit", "NAME", "platform/entries"}, prints: []string{`"VersionId": "\w`}},
	},
}

var endpoint = setting{
	noServer: true,
	steps:    []step{{command: "echo whsec_", prints: []string{`^whsec_[0-9A-Za-z+/]{43}=`}}},
}

var sizing = setting{
	steps: []step{
		{command: "caddy audit size --outage", before: func(s *site) {
			time.Sleep(1100 * time.Millisecond) // a rate is that of a second, or more
			s.calls()
		}},
		// What a term comes to depends on the time of day; the rest is of the flags alone.
		{command: "caddy audit size --rate", prints: []string{`2\.4 GiB a day, 2410 bytes an entry; 98[0-4] GiB`, `it lasts 3d 4h`, `max_size 10GiB`}},
	},
}

var viewer = setting{
	env: []string{"TOKEN=" + person},
	steps: []step{
		{command: "curl -H", instead: []string{
			"https://audit.example.com", "http://127.0.0.1:8081",
			"2026-11-01T00:00:00Z", time.Now().UTC().Add(-time.Hour).Format(time.RFC3339),
			"2026-11-02T00:00:00Z", time.Now().UTC().Add(time.Hour).Format(time.RFC3339),
		}, prints: []string{`"result":\[\s*\{`, `"retention_period":`}},
	},
}

// bench is for documents whose commands are those of developers.
var bench = setting{
	noServer: true,
	steps: []step{
		{command: "go run ./bench/read", instead: []string{"./bench/read", "./bench/read -entries 20000 -asks 3", " -dir DIR", "", " -asks 150", ""}, within: 2 * time.Minute},
		{command: "go run ./bench/speed", instead: []string{"./bench/speed", "./bench/speed -quick -parts requests,appends -rounds 1 -duration 500ms"}, within: 3 * time.Minute},
	},
}

var contributing = setting{
	noServer: true,
	steps: []step{
		{command: "go test ./caddymodule", within: 4 * time.Minute, prints: []string{`(?m)^ok .*s$`}, after: (*site).unchanged},
		{command: "go test ./internal/confdoc -update", within: 4 * time.Minute, prints: []string{`(?m)^ok .*s$`}, after: (*site).unchanged},
	},
}

// unchanged: what is made of the source is what is in the clone.
func (s *site) unchanged() {
	s.t.Helper()
	if changed := s.shell("git status --porcelain"); changed != "" {
		s.t.Errorf("it has changed files: %s", changed)
	}
}

var releases = setting{
	noServer: true,
	// As what somebody has downloaded: one file of several that the list has.
	before: func(s *site) {
		s.shell("cp $(command -v caddy) caddy-audit-log_VERSION_linux_amd64 && cp caddy-audit-log_VERSION_linux_amd64 other && sha256sum caddy-audit-log_VERSION_linux_amd64 other > SHA256SUMS && rm other")
	},
	steps: []step{
		{command: "sha256sum", prints: []string{`caddy-audit-log_VERSION_linux_amd64: OK`}},
		{command: "go version -m", prints: []string{`vcs\.revision=[0-9a-f]{40}`, `vcs\.modified=false`, `dep\s+github\.com/caddyserver/caddy/v2`}},
		{command: "caddy audit demo", prints: []string{`calls +holds: 6 seen = 6 recorded`}},
	},
}
