package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// maxLookedAt bounds the files of a directory that are looked at.
const maxLookedAt = 10_000

// checkUser compares who looks with whose the buffer is.
func checkUser(_ context.Context, d *doctor) []diagnosis {
	dir, ok := d.bufferDir()
	if !ok {
		return unread()
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return []diagnosis{notKnown("there is no buffer yet in %s, so nobody's", dir).mend("run this as the user that the server will run as")}
	}
	if err != nil {
		return []diagnosis{notKnown("whose %s is: %v", dir, err).mend("run this as the server's user")}
	}
	owner, known := ownerOf(info)
	me, meKnown := thisUser()
	if !known || !meKnown {
		return []diagnosis{notKnown("this system does not say whose a file is")}
	}
	return []diagnosis{userFinding(me, owner)}
}

func userFinding(me, owner int) diagnosis {
	if me != owner {
		return warning("this runs as %s, and the buffer is %s's: what one may read and reach says little of the other", userName(me), userName(owner)).
			mend("run it as %s, with the server's environment", userName(owner))
	}
	return fine("this runs as %s, whose the buffer is", userName(me))
}

// checkFiles looks at who can get at what the audit log keeps, and at what it depends on.
func checkFiles(ctx context.Context, d *doctor) []diagnosis {
	if runtime.GOOS == "windows" {
		return []diagnosis{notKnown("modes say nothing here").mend("see to it that only the server's user can open the files of the audit log")}
	}
	dir, ok := d.bufferDir()
	if !ok {
		return unread()
	}
	f := &files{ctx: ctx}
	owner, hasOwner := -1, false
	if info, err := os.Stat(dir); err == nil {
		owner, hasOwner = ownerOf(info)
		f.directory(dir, info)
	}
	if !hasOwner {
		owner = -1
	}
	f.inside(dir, owner)
	f.above(dir)
	for _, name := range d.storeFiles() {
		f.private(name, owner, "the store's file")
	}
	for _, name := range d.secretFiles() {
		f.secret(name)
	}
	f.writers(cmp.Or(d.place.config, "Caddyfile"), "the configuration", "turn the audit log off")
	if d.app != nil {
		for _, h := range d.app.handlers {
			for _, i := range h.Issuers {
				f.writers(i.JWKSFile, "the keys of an issuer", "be anybody in the audit log")
			}
		}
	}
	d.adminSocket(f)
	if f.looked > 0 && !slices.ContainsFunc(f.list, func(f diagnosis) bool { return f.State != diagnosisOK }) {
		f.list = append(f.list, fine("%d files and directories can be got at by nobody who need not", f.looked))
	}
	return f.list
}

// files are looked at one by one. What is not there is nobody's business here.
type files struct {
	ctx    context.Context
	list   []diagnosis
	looked int
}

func (f *files) stat(name string) (fs.FileInfo, bool) {
	if f.ctx.Err() != nil {
		return nil, false
	}
	info, err := os.Lstat(name)
	if err != nil {
		return nil, false
	}
	f.looked++
	return info, true
}

func (f *files) says(one diagnosis) { f.list = append(f.list, one) }

// directory looks at the buffer's own.
func (f *files) directory(dir string, info fs.FileInfo) {
	f.looked++
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		f.says(wrong("%s has mode %04o: every user of this machine can get at what it holds, and the server does not start on it", dir, mode).mend("chmod 0700 %s", dir))
	}
}

// inside looks at the buffer's files, and says what they have in common once.
func (f *files) inside(dir string, owner int) {
	d, err := os.Open(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.says(wrong("%s cannot be read: %v", dir, errorsOfPath(err)).mend("run this as the server's user; give the directory to it"))
		}
		return
	}
	defer d.Close()
	entries, _ := d.ReadDir(maxLookedAt) // what could be read counts
	var open, others []string
	for _, e := range entries {
		info, ok := f.stat(filepath.Join(dir, e.Name()))
		if !ok || !info.Mode().IsRegular() {
			continue
		}
		if info.Mode().Perm()&0o077 != 0 {
			open = append(open, e.Name())
		}
		if uid, ok := ownerOf(info); ok && owner >= 0 && uid != owner {
			others = append(others, e.Name())
		}
	}
	if len(open) > 0 {
		f.says(warning("%d file(s) of the buffer can be opened by others than their owner, such as %s", len(open), open[0]).mend("chmod 0600 them"))
	}
	if len(others) > 0 {
		f.says(wrong("%d file(s) of the buffer are not its owner's, such as %s: a server may not be able to open them", len(others), others[0]).
			mend("give all of %s to %s", dir, userName(owner)))
	}
}

// above looks for directories in which others can put something else in the buffer's place.
func (f *files) above(dir string) {
	for at := filepath.Dir(nearest(dir)); ; at = filepath.Dir(at) {
		info, ok := f.stat(at)
		if ok && info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
			f.says(wrong("%s, above the buffer, can be written by every user of this machine: they can put another directory in its place", at).mend("chmod o-w %s", at))
		}
		if at == filepath.Dir(at) {
			return
		}
	}
}

// private looks at a file that only its owner needs.
func (f *files) private(name string, owner int, what string) {
	info, ok := f.stat(name)
	if !ok {
		return
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o022 != 0:
		f.says(wrong("%s %s has mode %04o: others can change what is recorded", what, name, mode).mend("chmod 0600 %s", name))
	case mode&0o007 != 0:
		f.says(warning("%s %s has mode %04o: every user of this machine can read every entry", what, name, mode).mend("chmod 0600 %s", name))
	}
	if uid, ok := ownerOf(info); ok && owner >= 0 && uid != owner {
		f.says(wrong("%s %s is %s's, and the buffer %s's: the server may not be able to write to it", what, name, userName(uid), userName(owner)).
			mend("give it to %s", userName(owner)))
	}
}

// secret looks at a file that a credential is read from.
func (f *files) secret(name string) {
	info, err := os.Stat(name) // a mounted secret is a link
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.says(wrong("%s, from which a credential is read, is not there", name).mend("put it there, or correct the path"))
		return
	case err != nil:
		f.says(notKnown("%s, from which a credential is read: %v", name, errorsOfPath(err)).mend("run this as the server's user"))
		return
	}
	f.looked++
	switch mode := info.Mode().Perm(); {
	case mode&0o002 != 0:
		f.says(wrong("%s, from which a credential is read, has mode %04o: every user of this machine can change it", name, mode).mend("chmod 0600 %s", name))
	case mode&0o004 != 0:
		f.says(warning("%s, from which a credential is read, has mode %04o: every user of this machine can read it", name, mode).mend("chmod 0600 %s", name))
	}
}

// writers looks for others who can change a file, and says what they can do by that.
func (f *files) writers(name, what, do string) {
	if name == "" {
		return
	}
	info, ok := f.stat(name)
	if ok && info.Mode().IsRegular() && info.Mode().Perm()&0o002 != 0 {
		f.says(wrong("%s, %s, can be changed by every user of this machine, who can %s", what, name, do).mend("chmod o-w %s", name))
	}
}

// errorsOfPath is an error without the path, which stands beside it.
func errorsOfPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// storeFiles are those of the stores that have some here.
func (d *doctor) storeFiles() (names []string) {
	if d.app == nil {
		return nil
	}
	for _, n := range d.app.stores {
		at := locationOf(n)
		if at == "" {
			continue
		}
		names = append(names, at)
		if n.open.Describe().Kind == "sqlite" {
			names = append(names, at+"-wal", at+"-shm")
		}
	}
	return names
}

// secretPlaceholder is a file that a placeholder of the configuration reads.
var secretPlaceholder = regexp.MustCompile(`\{file\.([^{}]+)\}`)

// secretFiles are the files that the configuration reads credentials and private keys from.
func (d *doctor) secretFiles() []string {
	var names []string
	var walk func(v any, depth int)
	walk = func(v any, depth int) {
		if depth > 4*deepest {
			return
		}
		switch v := v.(type) {
		case map[string]any:
			// What shows a certificate names its key beside it.
			if key, ok := v["key"].(string); ok && key != "" && v["certificate"] != nil {
				names = append(names, key)
			}
			for _, one := range v {
				walk(one, depth+1)
			}
		case []any:
			for _, one := range v {
				walk(one, depth+1)
			}
		case string:
			for _, m := range secretPlaceholder.FindAllStringSubmatch(v, -1) {
				names = append(names, m[1])
			}
		}
	}
	var config any
	if json.Unmarshal(d.config, &config) == nil {
		walk(config, 0)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return strings.Contains(name, "{") })
}

// adminSocket looks at the socket of the admin endpoint, if it is one.
func (d *doctor) adminSocket(f *files) {
	address, err := d.place.endpoint()
	if err != nil {
		return
	}
	parsed, err := parseEndpoint(address)
	if err != nil || !parsed.IsUnixNetwork() {
		return // for checkListeners
	}
	info, ok := f.stat(parsed.Host)
	if !ok || info.Mode()&fs.ModeSocket == 0 {
		return
	}
	f.list = append(f.list, socketFinding(parsed, info.Mode().Perm())...)
}

func socketFinding(at caddy.NetworkAddress, mode fs.FileMode) []diagnosis {
	var who string
	switch {
	case mode&0o002 != 0:
		who = "every user of this machine"
	case mode&0o020 != 0:
		who = "its group"
	default:
		return nil
	}
	f := warning("the admin endpoint's socket %s has mode %04o: %s can read every entry, and change the configuration", at.Host, mode, who)
	if mode&0o002 != 0 {
		f.State = diagnosisWrong
	}
	return []diagnosis{f.mend(`end its address with |0600, as in: admin %s|0600`, fmt.Sprintf("unix/%s", at.Host))}
}
