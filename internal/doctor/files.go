package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/caddy-audit-log/caddy-audit-log/internal/machine"
)

// maxLookedAt bounds the files of a directory that are looked at.
const maxLookedAt = 10_000

// User compares who looks with whose the buffer is.
func (b *Buffer) User() []Diagnosis {
	info, err := os.Stat(b.Directory)
	if errors.Is(err, fs.ErrNotExist) {
		return []Diagnosis{NotKnown("there is no buffer yet in %s, so nobody's", b.Directory).Mend("run this as the user that the server will run as")}
	}
	if err != nil {
		return []Diagnosis{NotKnown("whose %s is: %v", b.Directory, err).Mend("run this as the server's user")}
	}
	owner, known := machine.OwnerOf(info)
	me, meKnown := machine.ThisUser()
	if !known || !meKnown {
		return []Diagnosis{NotKnown("this system does not say whose a file is")}
	}
	return []Diagnosis{userFinding(me, owner)}
}

func userFinding(me, owner int) Diagnosis {
	if me != owner {
		return Warning("this runs as %s, and the buffer is %s's: what one may read and reach says little of the other", machine.UserName(me), machine.UserName(owner)).
			Mend("run it as %s, with the server's environment", machine.UserName(owner))
	}
	return Fine("this runs as %s, whose the buffer is", machine.UserName(me))
}

// Files are looked at one by one: who can get at what the audit log keeps, and at what it
// depends on. What is not there is nobody's business here. They are not safe for concurrent
// use.
type Files struct {
	ctx    context.Context
	owner  int // the buffer's; -1 if that is not known
	list   []Diagnosis
	looked int
}

// FilesAround looks at a buffer's directory, at what is in it and at what it is in. No further
// file is looked at once ctx has ended.
func FilesAround(ctx context.Context, dir string) *Files {
	f := &Files{ctx: ctx, owner: -1}
	if info, err := os.Stat(dir); err == nil {
		if uid, ok := machine.OwnerOf(info); ok {
			f.owner = uid
		}
		f.directory(dir, info)
	}
	f.inside(dir)
	f.above(dir)
	return f
}

// Findings are what was found, or that nothing was.
func (f *Files) Findings() []Diagnosis {
	if f.looked > 0 && !slices.ContainsFunc(f.list, func(f Diagnosis) bool { return f.State != StateOK }) {
		return append(f.list, Fine("%d files and directories can be got at by nobody who need not", f.looked))
	}
	return f.list
}

func (f *Files) stat(name string) (fs.FileInfo, bool) {
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

func (f *Files) says(one Diagnosis) { f.list = append(f.list, one) }

// directory looks at the buffer's own.
func (f *Files) directory(dir string, info fs.FileInfo) {
	f.looked++
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		f.says(Wrong("%s has mode %04o: every user of this machine can get at what it holds, and the server does not start on it", dir, mode).Mend("chmod 0700 %s", dir))
	}
}

// inside looks at the buffer's files, and says what they have in common once.
func (f *Files) inside(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.says(Wrong("%s cannot be read: %v", dir, errorsOfPath(err)).Mend("run this as the server's user; give the directory to it"))
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
		if uid, ok := machine.OwnerOf(info); ok && f.owner >= 0 && uid != f.owner {
			others = append(others, e.Name())
		}
	}
	if len(open) > 0 {
		f.says(Warning("%d file(s) of the buffer can be opened by others than their owner, such as %s", len(open), open[0]).Mend("chmod 0600 them"))
	}
	if len(others) > 0 {
		f.says(Wrong("%d file(s) of the buffer are not its owner's, such as %s: a server may not be able to open them", len(others), others[0]).
			Mend("give all of %s to %s", dir, machine.UserName(f.owner)))
	}
}

// above looks for directories in which others can put something else in the buffer's place.
func (f *Files) above(dir string) {
	for at := filepath.Dir(machine.Nearest(dir)); ; at = filepath.Dir(at) {
		info, ok := f.stat(at)
		if ok && info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
			f.says(Wrong("%s, above the buffer, can be written by every user of this machine: they can put another directory in its place", at).Mend("chmod o-w %s", at))
		}
		if at == filepath.Dir(at) {
			return
		}
	}
}

// Private looks at a file that only its owner needs.
func (f *Files) Private(name, what string) {
	info, ok := f.stat(name)
	if !ok {
		return
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o022 != 0:
		f.says(Wrong("%s %s has mode %04o: others can change what is recorded", what, name, mode).Mend("chmod 0600 %s", name))
	case mode&0o007 != 0:
		f.says(Warning("%s %s has mode %04o: every user of this machine can read every entry", what, name, mode).Mend("chmod 0600 %s", name))
	}
	if uid, ok := machine.OwnerOf(info); ok && f.owner >= 0 && uid != f.owner {
		f.says(Wrong("%s %s is %s's, and the buffer %s's: the server may not be able to write to it", what, name, machine.UserName(uid), machine.UserName(f.owner)).
			Mend("give it to %s", machine.UserName(f.owner)))
	}
}

// Secret looks at a file that a credential is read from.
func (f *Files) Secret(name string) {
	info, err := os.Stat(name) // a mounted secret is a link
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.says(Wrong("%s, from which a credential is read, is not there", name).Mend("put it there, or correct the path"))
		return
	case err != nil:
		f.says(NotKnown("%s, from which a credential is read: %v", name, errorsOfPath(err)).Mend("run this as the server's user"))
		return
	}
	f.looked++
	switch mode := info.Mode().Perm(); {
	case mode&0o002 != 0:
		f.says(Wrong("%s, from which a credential is read, has mode %04o: every user of this machine can change it", name, mode).Mend("chmod 0600 %s", name))
	case mode&0o004 != 0:
		f.says(Warning("%s, from which a credential is read, has mode %04o: every user of this machine can read it", name, mode).Mend("chmod 0600 %s", name))
	}
}

// Writers looks for others who can change a file, and says what they can do by that.
func (f *Files) Writers(name, what, do string) {
	if name == "" {
		return
	}
	info, ok := f.stat(name)
	if ok && info.Mode().IsRegular() && info.Mode().Perm()&0o002 != 0 {
		f.says(Wrong("%s, %s, can be changed by every user of this machine, who can %s", what, name, do).Mend("chmod o-w %s", name))
	}
}

// errorsOfPath is an error without the path, which stands beside it.
func errorsOfPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// Socket looks at the socket of the admin endpoint.
func (f *Files) Socket(path string) {
	info, ok := f.stat(path)
	if !ok || info.Mode()&fs.ModeSocket == 0 {
		return
	}
	f.list = append(f.list, socketFinding(path, info.Mode().Perm())...)
}

func socketFinding(path string, mode fs.FileMode) []Diagnosis {
	var who string
	switch {
	case mode&0o002 != 0:
		who = "every user of this machine"
	case mode&0o020 != 0:
		who = "its group"
	default:
		return nil
	}
	f := Warning("the admin endpoint's socket %s has mode %04o: %s can read every entry, and change the configuration", path, mode, who)
	if mode&0o002 != 0 {
		f.State = StateWrong
	}
	return []Diagnosis{f.Mend(`end its address with |0600, as in: admin %s|0600`, "unix/"+path)}
}
