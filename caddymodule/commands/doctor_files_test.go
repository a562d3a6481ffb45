package commands_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

func TestFilesThatOthersCanGetAtAreFound(t *testing.T) {
	secret := write(t, filepath.Join(t.TempDir(), "secret"), strings.Repeat("s", 32))
	p := newPatient(t, "%SITE%", "issuer https://auth.example.com {\n\t\t\tsecret {file."+secret+"}\n\t\t}")
	dir := filepath.Join(p.dir, "audit", "buffer")
	db := filepath.Join(p.dir, "audit", "audit.db")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(dir, "token.key"), db, db + "-wal"} {
		write(t, name, "")
	}
	chmod := func(name string, mode os.FileMode) {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	socket, err := net.Listen("unix", filepath.Join(p.dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	chmod(filepath.Join(p.dir, "admin.sock"), 0o600)
	looked := func() *verdict { return lookAt(t, p.file, "files", nil, nil) }
	if r := looked(); r.Wrong+r.Warnings != 0 || r.OK != 1 {
		t.Errorf("%+v", r.Findings)
	}
	for name, c := range map[string]struct {
		mode, usual os.FileMode
		state       doctor.State
		has         string
	}{
		dir:                                {0o701, 0o700, doctor.StateWrong, "the server does not start on it"},
		filepath.Join(dir, "token.key"):    {0o640, 0o600, doctor.StateWarning, "such as token.key"},
		db:                                 {0o604, 0o600, doctor.StateWarning, "can read every entry"},
		db + "-wal":                        {0o620, 0o600, doctor.StateWrong, "others can change what is recorded"},
		filepath.Join(p.dir, "admin.sock"): {0o606, 0o600, doctor.StateWrong, "every user of this machine can read every entry, and change"},
		p.dir:                              {0o777, 0o700, doctor.StateWrong, "above the buffer"},
		secret:                             {0o604, 0o600, doctor.StateWarning, "can read it"},
		p.file:                             {0o602, 0o600, doctor.StateWrong, "turn the audit log off"},
	} {
		chmod(name, c.mode)
		looked().want(t, "files", c.state, c.has)
		chmod(name, c.usual)
	}
	chmod(filepath.Join(p.dir, "admin.sock"), 0o660)
	looked().want(t, "files", doctor.StateWarning, "its group can read every entry")
	chmod(filepath.Join(p.dir, "admin.sock"), 0o600)
	chmod(secret, 0o602)
	looked().want(t, "files", doctor.StateWrong, "can change it")
	chmod(secret, 0o600)
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chown(db, 12345, -1), os.Chown(filepath.Join(dir, "token.key"), 12345, -1)); err != nil {
			t.Fatal(err)
		}
		r := looked()
		r.want(t, "files", doctor.StateWrong, "is uid 12345's, and the buffer root's")
		r.want(t, "files", doctor.StateWrong, "are not its owner's, such as token.key")
	}
}
