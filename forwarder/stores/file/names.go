package file

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// stampForm is the time of a rotation in a name. It has one length, so that names
// sort by it.
const stampForm = "20060102T150405.000000000Z"

// names knows what the files of a store are called.
type names struct {
	dir, base string // of the live file
	stem, ext string // base, divided where the time goes
	form      *regexp.Regexp
}

func namesOf(path string) names {
	n := names{dir: filepath.Dir(path), base: filepath.Base(path)}
	n.ext = filepath.Ext(n.base)
	if n.stem = strings.TrimSuffix(n.base, n.ext); n.stem == "" {
		n.stem, n.ext = n.base, "" // .audit
	}
	n.form = regexp.MustCompile("^" + regexp.QuoteMeta(n.stem) + `-(\d{8}T\d{6}\.\d{9}Z)` + regexp.QuoteMeta(n.ext) + `(\.zst|\.gz)?$`)
	return n
}

func (n names) lock() string { return n.hidden(n.base + ".lock") }

// probe is the pattern of the file that Probe writes and removes.
func (n names) probe() string { return "." + n.base + ".probe-*" }

// temporary is what a file is called until it is complete.
func (n names) temporary(name string) string { return n.hidden(name + ".tmp") }

func (n names) hidden(name string) string { return filepath.Join(n.dir, "."+name) }

func (n names) path(name string) string { return filepath.Join(n.dir, name) }

func (n names) at(stamp time.Time) string {
	return n.stem + "-" + stamp.UTC().Format(stampForm) + n.ext
}

// rotated is a file that nothing is appended to any more.
type rotated struct {
	name  string // without the suffix of its compression
	stamp time.Time
	// plain says that it is there uncompressed, packed with which suffixes it is
	// there compressed. Both are there if a process died before it had removed the
	// former.
	plain  bool
	packed []string
}

// files is what it is in: the one to read first.
func (r rotated) files() []string {
	var files []string
	if r.plain {
		files = append(files, r.name)
	}
	for _, suffix := range r.packed {
		files = append(files, r.name+suffix)
	}
	return files
}

// rotated lists the rotated files, oldest first. What another program put there is
// not among them.
func (n names) rotated() ([]rotated, error) {
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		return nil, err
	}
	found := map[string]*rotated{}
	for _, e := range entries {
		m := n.form.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() {
			continue
		}
		stamp, err := time.Parse(stampForm, m[1])
		if err != nil {
			continue // 20269999T…
		}
		name := n.at(stamp)
		if found[name] == nil {
			found[name] = &rotated{name: name, stamp: stamp}
		}
		if m[2] == "" {
			found[name].plain = true
		} else {
			found[name].packed = append(found[name].packed, m[2])
		}
	}
	var all []rotated
	for _, r := range found {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b rotated) int { return cmp.Compare(a.name, b.name) })
	return all, nil
}

// next is the name for the live file, later than all that are taken: names tell the
// order, also if the clock has gone back.
func (n names) next(now time.Time) (string, error) {
	all, err := n.rotated()
	if err != nil {
		return "", err
	}
	stamp := now
	if len(all) > 0 {
		if last := all[len(all)-1].stamp; !stamp.After(last) {
			stamp = last.Add(time.Nanosecond)
		}
	}
	for {
		free, err := n.free(n.at(stamp))
		if free || err != nil {
			return n.at(stamp), err
		}
		stamp = stamp.Add(time.Nanosecond) // a directory, or the like
	}
}

// free says that nothing has the name, compressed or not.
func (n names) free(name string) (bool, error) {
	for _, suffix := range []string{"", suffixZstd, suffixGzip} {
		if _, err := os.Lstat(n.path(name + suffix)); !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

// removeTemporaries clears away what no process is at work on any more: the caller
// holds the lock. Somebody's probe may be among it and is then begun again.
func (n names) removeTemporaries() error {
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		hidden, ok := strings.CutPrefix(e.Name(), ".")
		if !ok || !e.Type().IsRegular() {
			continue
		}
		unfinished, ok := strings.CutSuffix(hidden, ".tmp")
		if ok && n.form.MatchString(unfinished) || strings.HasPrefix(hidden, n.base+".probe-") {
			if err := os.Remove(n.path(e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
