package caddymodule

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func TestASearchByFiltersAloneFindsEntriesWhereverTheyAre(t *testing.T) {
	statuses := map[string]int{"/pause": 200, "/restore": 403, "/restart": 500}
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(statuses[strings.TrimPrefix(r.URL.Path, project)])
	})
	db := filepath.Join(r.dir, "audit", "audit.db")
	if err := os.MkdirAll(db, 0o700); err != nil { // entries stay in the buffer
		t.Fatal(err)
	}
	r.load(rigCaddyfile, proxy)
	for _, path := range []string{"/pause", "/restore", "/restart", "/pause"} {
		r.send("POST", project+path, nil, "")
	}
	file := filepath.Join(r.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(r.expand(rigCaddyfile, proxy)), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(state string) {
		t.Helper()
		for _, c := range []struct{ args, paths, last string }{
			{"--outcome denied", "/restore", "1 entry"},
			{"--outcome denied --outcome failure", "/restore /restart", "2 entries"},
			{"--status 4xx --status 500 --newest-first", "/restart /restore", "2 entries"},
			{"--status 200 --limit 1 --text PAUSE", "/pause", "1 entry; there are more: --limit ended the search"},
			{"--network 127.0.0.0/8 --method post", "/pause /restore /restart /pause", "4 entries"},
			{"--network 127.0.0.1 --method post --limit 4", "/pause /restore /restart /pause", "4 entries"},
			{"--network 10.0.0.0/8", "", "nothing found for network 10.0.0.0/8"},
			{"--project abcdefghijklmnopqrst --target project --token-type none --newest-first --limit 2", "/pause /restore", "2 entries; there are more: --limit ended the search"},
			{"--ip 127.0.0.1 --outcome failure", "/restart", "1 entry"},
			{"--text restart", "/restart", "1 entry"},
			{"--actor nobody --action a,b --text x", "", "nothing found for actor nobody, action a,b, text x"},
		} {
			args := append([]string{"--config", file}, strings.Fields(c.args)...)
			out, messages, err := searched(t, "", append(args, "--json")...)
			var paths []string
			for line := range strings.Lines(out) {
				e, err := audit.Decode([]byte(line))
				if err != nil || e.Origin == nil {
					t.Fatalf("%s: line %s: %v", state, line, err)
				}
				paths = append(paths, strings.TrimPrefix(e.Action.Path, project))
			}
			lines := strings.Split(strings.TrimSpace(messages), "\n")
			if got := strings.Join(paths, " "); err != nil || got != c.paths || lines[len(lines)-1] != c.last {
				t.Errorf("%s: %s: %q, want %q: %v, %s", state, c.args, got, c.paths, err, messages)
			}
			if out, _, err := searched(t, "", args...); err != nil || strings.Count(out, "\n") != len(paths) || strings.Contains(out, "\x1b") {
				t.Errorf("%s: %s: %v\n%s", state, c.args, err, out)
			}
		}
	}
	check("only in the buffer")
	if err := os.Remove(db); err != nil {
		t.Fatal(err)
	}
	r.drained()
	check("in both")
	r.stop()
	if err := os.WriteFile(file, []byte(strings.Replace(r.expand(rigCaddyfile, proxy), "admin.sock", "nobody.sock", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	check("offline")
}

func TestAFilterThatCannotBeIsRefusedAndNotRepeated(t *testing.T) {
	const secret = "a-secret-that-nobody-may-see"
	many := strings.Repeat(" --actor x", forwarder.MaxFilterValues)
	for _, c := range []struct{ args, want string }{
		{"--status " + secret, "searching by status: it is a number as in 404"},
		{"--network " + secret, "searching by network: it is an address or a network"},
		{"--actor " + strings.Repeat(secret, 20), "searching by actor: it is longer than 512 bytes"},
		{"--text " + strings.Repeat(secret, 20), "searching by text: it is longer than 512 bytes"},
		{"--text " + secret + "\xff", "searching by text: it is longer than 512 bytes, or no text"},
		{"--token-type " + secret + many, "searching by 101 filters"},
		{"--text x" + many, "searching by 101 filters"},
		{"--outcome=", "searching by outcome: it is empty"},
		{"--text=", "searching by text: it is empty"},
		{"--outcome denied --limit -1", "below zero"},
		{"--outcome denied --limit " + secret, "--limit is a whole number"},
		{"--outcome denied --newest-first=" + secret, "--newest-first is a switch"},
		{"--limit 5", "searching for nothing"},
	} {
		_, _, err := searched(t, "", strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%.80s: %v", c.args, err)
		}
	}
	r := start(t, proxy, ok)
	for body, want := range map[string]string{
		`{"filters":{"status":["SECRET"]}}`: "as in 404", `{"filters":{"SECRET":["x"]}}`: "there are [actor", `{"filters":{"actor":[""]}}`: "is empty",
		`{"filters":{"actor":"SECRET"}}`: "400", `{"filters":[]}`: "400", `{"outcome":["denied"]}`: "400", `{"text":" "}`: "searching for nothing", `{"filters":{"actor":[]}}`: "searching for nothing",
		`{"filters":{"actor":["SECRET` + strings.Repeat("x", forwarder.MaxFilterValue) + `"]}}`:                               "longer than 512",
		`{"filters":{"actor":[` + strings.Repeat(`"SECRET",`, 60) + `"x"],"target":[` + strings.Repeat(`"x",`, 60) + `"x"]}}`: "122 filters",
		`{"filters":{"actor":["x"]},"limit":-1}`: "below zero", `{"text":"x","limit":"SECRET"}`: "400", `{"text":"x","newest_first":1}`: "400",
	} {
		_, err := r.ask(t.Context(), http.MethodPost, operator.SearchPath, body)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "400") || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%.60s: %v", body, err)
		}
	}
}
