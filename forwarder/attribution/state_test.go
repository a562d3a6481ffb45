package attribution

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// used is the file of a Directory that has been used, with all that a file can have.
func used(t testing.TB, path string) []byte {
	t.Helper()
	r := newRig(t, newPlatform(), func(o *Options) { o.File = path })
	e := call(project(ref))
	for r.Stamp(e).Pending {
		time.Sleep(time.Millisecond)
	}
	now := time.Now()
	r.Offered(ref, now)
	r.Transferred(ref, now, now)
	r.Stamp(call(project(ref)))
	r.Directory.mu.Lock()
	r.changed("o-1", "acme", fact{Plan: "free", Last: 1}, answer{plan: "pro"}, 2)
	r.Directory.mu.Unlock()
	r.close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestADamagedFileIsAFreshStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attribution.json")
	whole := used(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	far := time.Now().Add(100 * day).UnixMicro()
	for name, text := range map[string]string{
		"empty": "", "no JSON": "<html>", "half": string(whole[:len(whole)/2]), "more": string(whole) + "{}", "a list": "[]",
		"another version": strings.Replace(string(whole), `"version":1`, `"version":2`, 1),
		"of the future":   `{"version":1,"organization_slugs":[{"name":"a","facts":[{"first":1,"last":` + itoa(far) + `}]}]}`,
		"overlap":         `{"version":1,"projects":[{"name":"a","facts":[{"first":1,"last":2,"until":9},{"first":3,"last":4,"from":5}]}]}`,
		"two open":        `{"version":1,"projects":[{"name":"a","facts":[{"first":1,"last":2},{"first":3,"last":4}]}]}`,
		"too many facts":  `{"version":1,"projects":[{"name":"a","facts":[` + strings.Repeat(`{"first":1,"last":1,"until":9},`, 8) + `{"first":1,"last":1}]}]}`,
		"no name":         `{"version":1,"projects":[{}]}`,
		"a wrong change":  `{"version":1,"changes":[{"number":0,"organization_id":"x"}]}`,
		"wrong types":     `{"version":1,"projects":{"a":1}}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newRig(t, newPlatform(), func(o *Options) { o.File = path })
		if n := len(r.projects.records) + len(r.ids.records) + len(r.slugs.records) + len(r.members) + len(r.offers) + len(r.changes); n != 0 {
			t.Errorf("%s: %d things are known", name, n)
		}
		if r.log.count("level=WARN") != 1 {
			t.Errorf("%s: the log says %s", name, r.log)
		}
		e := call(project(ref))
		for r.Stamp(e).Pending {
			time.Sleep(time.Millisecond)
		}
		r.close()
		r = newRig(t, newPlatform(), func(o *Options) { o.File = path })
		if len(r.projects.records) != 1 || r.log.String() != "" {
			t.Errorf("%s: the next file is none: %s", name, r.log)
		}
		r.close()
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 1 {
		t.Errorf("there are %v", files)
	}
}

func TestAFileThatCannotBeWrittenIsAnErrorAndTriedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	r := newRig(t, newPlatform(), func(o *Options) { o.File = filepath.Join(dir, "attribution.json") })
	r.Offered(ref, time.Now())
	if err := r.Save(); err == nil || !strings.Contains(err.Error(), "later") {
		t.Errorf("%v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Save(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(r.file); err != nil {
		t.Error(err)
	}
	r.close()
}

func TestNumbersOfChangesGrowWhenTheFileIsLost(t *testing.T) {
	r := newRig(t, newPlatform())
	defer r.close()
	other := newRig(t, newPlatform())
	defer other.close()
	for _, d := range []*Directory{r.Directory, other.Directory} {
		d.mu.Lock()
		for range 3 {
			d.changed("o", "", fact{Plan: "a", Last: 1}, answer{plan: "b"}, time.Now().UnixMicro())
		}
		d.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	before, after := r.Changes(0), other.Changes(0)
	if len(before) != 3 || len(after) != 3 || after[0].Number <= before[2].Number || before[1].Number <= before[0].Number {
		t.Errorf("%+v then %+v", before, after)
	}
}

// What was saved a moment ago is read back as it was, whatever it is.
func FuzzState(f *testing.F) {
	f.Add(used(f, filepath.Join(f.TempDir(), "attribution.json")))
	f.Add([]byte(`{"version":1,"projects":[{"name":"a","facts":[{"id":"o","first":1,"last":2}],"used":true}]}`))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		now := time.Now()
		s, err := readState(b, now.UnixMicro())
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "attribution.json")
		r := newRig(t, newPlatform(), func(o *Options) { o.File = path })
		r.Directory.mu.Lock()
		r.restore(s)
		r.dirty = true
		r.Directory.mu.Unlock()
		for _, h := range s.Projects {
			r.Stamp(call(project(h.Name)))
			r.Transferred(h.Name, now, now)
		}
		for _, h := range s.Slugs {
			r.Stamp(call(organization(h.Name)))
		}
		r.Changes(0)
		r.close()
		again, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readState(again, time.Now().UnixMicro()); err != nil {
			t.Errorf("%v: %s became %s", err, b, again)
		}
	})
}
