//go:build unix

package commands

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/natstest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/otelcol"
	"github.com/caddy-audit-log/caddy-audit-log/internal/pgtest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/s3test"
)

// sqliteLine is the shipped Caddyfile's store, behind which another one is put.
const sqliteLine = "store sqlite {$AUDIT_DIR:./audit-data}/audit.db"

// store adds one to the shipped Caddyfile.
func (s *site) store(block string) {
	s.t.Helper()
	text := s.read("Caddyfile")
	before, after, ok := strings.Cut(text, "\t\t"+sqliteLine)
	if !ok {
		s.t.Fatalf("the Caddyfile has no %q", sqliteLine)
	}
	line, rest, _ := strings.Cut(after, "\n")
	s.file("Caddyfile", before+"\t\t"+sqliteLine+line+"\n"+block+"\n"+rest)
}

const siemAddress = "127.0.0.1:9100"

var stores = func() setting {
	var mended func(bool)
	type kept struct {
		Sequence uint64
	}
	refuse := func(s *site) {
		mended(false)
		before := len(lines[kept](s, "caddy audit quarantine list --json"))
		s.call("GET", "/v1/projects/refused-by-the-siem", true)
		s.eventually("the entry's way into quarantine", func() bool {
			s.call("GET", "/v1/projects", true)
			list := lines[kept](s, "caddy audit quarantine list --json")
			if len(list) > before {
				s.values["4711"] = fmt.Sprint(list[len(list)-1].Sequence)
			}
			return len(list) > before
		})
	}
	return setting{
		before: func(s *site) {
			mended = siem(s.t, siemAddress)
			s.store("\t\tstore http http://" + siemAddress + "/ingest {\n\t\t\tname siem\n\t\t\tcompress none\n\t\t}")
		},
		steps: []step{
			{command: "caddy audit quarantine list", before: refuse, prints: []string{`siem`, `422`}},
			{command: "caddy audit quarantine show", prints: []string{`refused-by-the-siem`}},
			{command: "caddy audit quarantine retry", before: func(*site) { mended(true) }},
			{command: "caddy audit quarantine drop", before: refuse},
		},
	}
}()

var faults = setting{
	steps: []step{
		{command: "caddy audit pass", after: func(s *site) { s.shell("caddy audit pass --end") }},
		{command: "caddy audit buffer inspect", before: (*site).down},
		{command: "caddy audit buffer verify", prints: []string{`whole`}},
		{command: "caddy audit buffer export", prints: []string{`(?m)^\{"id":`}},
		{command: "caddy audit drain --wait --timeout 5m && caddy stop", before: (*site).up, after: (*site).hasStopped},
		{command: "caddy audit deliver", before: func(s *site) {
			s.left("/mnt/old-volume/audit-data")
			s.up()
		}, after: (*site).hasTheEntry},
	},
}

// left makes a directory with the buffer of a server that was killed, with an entry in it that
// no store has.
func (s *site) left(dir string) {
	s.t.Helper()
	s.kill()
	// Its store cannot be opened: a directory lies in its place.
	s.shell("mkdir -p " + dir + "/audit.db")
	s.serves(start(s.t, s.dir, append(s.env, "AUDIT_DIR="+dir, "ADMIN_LISTEN=127.0.0.1:2999"), "caddy run --config "+s.clone+"/Caddyfile", nil))
	s.values["ENTRY"] = s.call("DELETE", "/v1/projects/abcdefghijklmnopqrst/functions/left-behind", true)
	s.kill()
}

func (s *site) hasTheEntry() {
	s.t.Helper()
	if !strings.Contains(s.shell("caddy audit export"), s.values["ENTRY"]) {
		s.t.Errorf("the store does not have what was left behind")
	}
}

// hasStopped waits for the end of a server that was told to stop.
func (s *site) hasStopped() {
	s.t.Helper()
	if status := s.server.wait(time.Minute); status != 0 {
		s.t.Errorf("the server's exit status is %d: %s", status, s.server.output())
	}
	s.server = nil
}

var file = setting{
	before: func(s *site) {
		s.store("\t\tstore file {$AUDIT_DIR:./audit-data}/audit.ndjson {\n\t\t\tmax_size 1MiB\n\t\t}")
	},
	steps: []step{
		{command: "install -d", instead: []string{"shippers", "root"}},
		{command: "cat audit-*.ndjson", before: func(s *site) {
			s.eventually("a rotation", func() bool {
				for range 100 {
					s.call("GET", "/v1/projects/"+strings.Repeat("x", 1000), true)
				}
				rotated, _ := filepath.Glob(s.at("audit-data/audit-*.ndjson"))
				return len(rotated) > 0
			})
			s.dir = s.at("audit-data")
		}, prints: []string{`(?m)^\{"id":`}},
	},
}

var syslog = setting{
	steps: []step{
		{command: "jq", before: func(s *site) { s.shell("caddy audit export > audit.ndjson") }, prints: []string{`(?m)^\{"id":`}},
	},
}

var s3 = setting{
	noServer: true, // until there is a bucket
	before:   (*site).bucket,
	steps: []step{
		{command: "caddy audit store check s3", before: func(s *site) {
			s.up()
			s.calls()
			s.delivered()
		}},
		{command: "aws s3api create-bucket", optional: "aws", instead: []string{
			// The server's only region, in which no location is said.
			"--region eu-central-1 --create-bucket-configuration LocationConstraint=eu-central-1", "--region us-east-1",
		}},
		{command: "zstd -dc", before: func(s *site) {
			s.eventually("an object", func() bool { return s.object() != "" })
			s.values["000…-SHA256.ndjson.zst"] = s.object()
		}, after: func(s *site) {
			sum, _, _ := strings.Cut(s.output, " ")
			if !strings.Contains(s.values["000…-SHA256.ndjson.zst"], sum) {
				s.t.Errorf("the object %s has the hash %s", s.values["000…-SHA256.ndjson.zst"], sum)
			}
		}},
		{command: "caddy audit export --store s3", instead: []string{
			"2026-01-01T00:00:00Z", time.Now().UTC().Add(-time.Hour).Format(time.RFC3339),
			"2026-02-01T00:00:00Z", time.Now().UTC().Add(time.Hour).Format(time.RFC3339),
		}, after: func(s *site) {
			if !strings.Contains(s.read("january.ndjson"), s.values["ENTRY"]) {
				s.t.Error("the export does not have the entry")
			}
		}},
	},
}

// bucket starts a server that speaks S3, for what the command aws makes there, and for a store.
func (s *site) bucket() {
	s.t.Helper()
	server := s3test.Run(s.t, "", "")
	s.set("AWS_ENDPOINT_URL", server.URL(""))
	s.set("AWS_ACCESS_KEY_ID", s3test.AccessKey)
	s.set("AWS_SECRET_ACCESS_KEY", s3test.SecretKey)
	s.set("AWS_REGION", "us-east-1")
	create := ""
	if _, err := exec.LookPath("aws"); err != nil {
		create = "create on"
	}
	s.store("\t\tstore s3 " + server.URL("acme-audit/platform") + " {\n\t\t\tlock governance 1d\n\t\t\tbatch 100 1s\n" + create + "\n\t\t}")
	s.object = func() string {
		objects, err := server.Objects("acme-audit", "platform/entries/")
		if err != nil {
			s.t.Fatal(err)
		}
		if len(objects) == 0 {
			return ""
		}
		return objects[0].File
	}
}

var otlp = setting{
	before: func(s *site) {
		collector, err := otelcol.Start(s.ctx, s.t.TempDir(), "http://127.0.0.1:9101", otelcol.QueueNone)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { collector.Close() })
		siem(s.t, "127.0.0.1:9101")
		s.store("\t\tstore otlp " + collector.Endpoint)
	},
}

var nats = setting{
	noServer: true,
	before: func(s *site) {
		cluster, err := natstest.Start(s.ctx, 3, "")
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { cluster.Close() })
		s.set("NATS_URL", strings.Join(cluster.URLs(), ","))
		s.store("\t\tstore nats " + strings.Join(cluster.URLs(), " ") + " {\n\t\t\tcreate off\n\t\t}")
	},
	steps: []step{
		// With this class's stream and those of the others, the store takes entries.
		{command: "nats stream add", after: func(s *site) {
			for _, class := range []string{"sidecar", "unattributed"} {
				s.shell("nats stream add AUDIT_" + class + " --subjects 'audit." + class + ".*' --storage file --retention limits --discard new --replicas 3 --dupe-window 2h --compression s2 --defaults")
			}
			s.up()
			s.calls()
			s.delivered()
		}},
		{command: "nats consumer next", prints: []string{`"id":"`}},
	},
}

var postgres = setting{
	noServer: true,
	steps: []step{
		{command: "go test -run NONE -bench BenchmarkWrite", instead: []string{"12x", "1x"}, within: 4 * time.Minute, prints: []string{`(?m)^BenchmarkWrite/5000`, `(?m)^ok`}},
		{command: "go test ./bench/retention -run Pruning", instead: []string{"1000000", "2000", "-beside 30s", "-beside 1s"}, within: 4 * time.Minute, prints: []string{`(?m)^--- PASS: TestPruning`}},
	},
}

var upgrade = setting{
	steps: []step{
		{command: "go run ./bench/backlog/fill", instead: []string{"DIR", "filled", "300000", "3000"}, within: 2 * time.Minute},
		{command: "sqlite3 -readonly", instead: []string{"DIR", "audit-data"}, prints: []string{`(?m)^4$`}},
		{command: "caddy stop", after: (*site).hasStopped},
		{command: "caddy audit status", before: (*site).up, prints: []string{`calls +holds`, `sqlite +holds`}},
		{command: "caddy audit verify", prints: []string{`nothing is lost`}},
		{command: "pg_dump", before: (*site).postgres},
		{command: "cp -a", before: (*site).down, instead: []string{"DIR", "copied"}},
		{command: "sqlite3 audit-before.db", prints: []string{`(?m)^ok$`, `(?m)^4$`}},
		{command: "caddy audit buffer verify", instead: []string{"DIR", "copied"}, prints: []string{`whole`}},
		{command: "AUDIT_DSN=", before: func(s *site) {
			s.edit("Caddyfile", sqliteLine, "store postgres {env.AUDIT_DSN}")
		}, prints: []string{`nothing is lost`}},
	},
}

// postgres starts a server with a database "audit" that the site's server has delivered to, and
// an empty one, "audit2", for what is restored.
func (s *site) postgres() {
	s.t.Helper()
	server := pgtest.Run(s.t, nil)
	for name, value := range map[string]string{"PGHOST": "127.0.0.1", "PGPORT": fmt.Sprint(server.Port), "PGUSER": pgtest.User, "PGPASSWORD": pgtest.Password} {
		s.set(name, value)
	}
	s.shell("createdb audit && createdb audit2")
	caddyfile := s.read("Caddyfile")
	s.down()
	s.edit("Caddyfile", sqliteLine, "store postgres {env.AUDIT_DSN} {\nname postgres\nfrom oldest\n}")
	s.set("AUDIT_DSN", server.DSN(map[string]string{"database": "audit"}))
	s.up()
	s.calls()
	s.delivered()
	s.file("Caddyfile", caddyfile)
	s.values["host=…"] = "host=127.0.0.1" // the rest is in the variables of libpq
}

var deployment = setting{
	noServer: true,
	before:   func(s *site) { s.shell("cp $(command -v caddy) caddy") },
	steps: []step{
		{command: "sudo caddy audit status", before: (*site).service, prints: []string{`calls +holds`}},
		{command: "sudo install -m 0400", before: func(s *site) { s.file("dsn.txt", "host=db.example.com") }},
		{command: "caddy audit deliver", user: serviceUser, env: serviceEnv, before: func(s *site) {
			s.stopService()
			s.left("/mnt/old-volume")
			s.shell("chown -R caddy-audit /mnt/old-volume")
			s.service()
		}},
		{command: "caddy audit drain", user: serviceUser, env: serviceEnv},
		{command: "sudo caddy audit drain", before: func(s *site) {
			s.file("/usr/local/bin/systemctl", "#!/bin/sh\n# stop caddy-audit\nkill -TERM \"$(cat /run/caddy-audit.pid)\"\n")
			s.shell("chmod 755 /usr/local/bin/systemctl")
		}, after: (*site).hasStopped},
	},
}

// What the unit of deploy/systemd has.
const serviceUser = "caddy-audit"

var serviceEnv = []string{"AUDIT_DIR=/var/lib/caddy-audit", "ADMIN_LISTEN=unix//run/caddy-audit/admin.sock|0600", "XDG_DATA_HOME=/var/lib/caddy-audit", "XDG_CONFIG_HOME=/var/lib/caddy-audit", "HOME=/"}

// service starts what the commands before have installed, as systemd does: it has no other part
// in what is shown here.
func (s *site) service() {
	s.t.Helper()
	s.shell("install -d -m 0700 -o caddy-audit -g caddy-audit /var/lib/caddy-audit /run/caddy-audit")
	env := append(append([]string{}, s.env...), serviceEnv...)
	for l := range strings.Lines(s.read("/etc/caddy-audit/environment")) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			env = append(env, l)
		}
	}
	p := start(s.t, "/var/lib/caddy-audit", env, "exec /usr/local/bin/caddy run --config /etc/caddy-audit/Caddyfile --adapter caddyfile", credential(s.t, serviceUser))
	s.file("/run/caddy-audit.pid", fmt.Sprint(p.cmd.Process.Pid))
	s.serves(p)
	s.call("GET", "/v1/projects", true)
}

func (s *site) stopService() {
	if status := s.server.end(syscall.SIGTERM); status != 0 {
		s.t.Errorf("the service's exit status is %d: %s", status, s.server.output())
	}
	s.server = nil
}
