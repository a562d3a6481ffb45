package attribution

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkSave is how long a full memory takes to save, how large the file is, and how
// long a Stamp beside it waits at most.
func BenchmarkSave(b *testing.B) {
	path := filepath.Join(b.TempDir(), "attribution.json")
	r := newRig(b, newPlatform(), func(o *Options) { o.File = path })
	defer r.close()
	now := time.Now().UnixMicro()
	r.Directory.mu.Lock()
	for n := range maxNames {
		id, slug := fmt.Sprintf("organization-%d", n), fmt.Sprintf("slug-of-%d", n)
		r.learn(key{kind: KindProject, name: fmt.Sprintf("abcdefghijklmn%06d", n)}, answer{id: id, slug: slug}, now)
		r.learn(key{kind: KindOrganization, name: slug}, answer{id: id, slug: slug, plan: "enterprise"}, now)
		r.members.prove(actor{byUser, fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n)}, id, now, now)
	}
	r.Directory.mu.Unlock()
	e := call()
	var longest time.Duration
	done := make(chan bool)
	stop := make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				began := time.Now()
				r.Stamp(e)
				longest = max(longest, time.Since(began))
				time.Sleep(50 * time.Microsecond)
			}
		}
	}()
	for b.Loop() {
		r.Directory.mu.Lock()
		r.dirty = true
		r.Directory.mu.Unlock()
		if err := r.Save(); err != nil {
			b.Fatal(err)
		}
	}
	close(stop)
	<-done
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/(1<<20), "MiB")
	b.ReportMetric(float64(longest.Microseconds())/1000, "ms-longest-stamp")
}

// BenchmarkLoad is how long a start takes with such a file.
func BenchmarkLoad(b *testing.B) {
	path := filepath.Join(b.TempDir(), "attribution.json")
	r := newRig(b, newPlatform(), func(o *Options) { o.File = path })
	now := time.Now().UnixMicro()
	r.Directory.mu.Lock()
	for n := range maxNames {
		id, slug := fmt.Sprintf("organization-%d", n), fmt.Sprintf("slug-of-%d", n)
		r.learn(key{kind: KindProject, name: fmt.Sprintf("abcdefghijklmn%06d", n)}, answer{id: id, slug: slug}, now)
		r.learn(key{kind: KindOrganization, name: slug}, answer{id: id, slug: slug, plan: "enterprise"}, now)
	}
	r.dirty = true
	r.Directory.mu.Unlock()
	r.close()
	for b.Loop() {
		again := newRig(b, newPlatform(), func(o *Options) { o.File = path })
		if len(again.projects.records) != maxNames {
			b.Fatal(again.log)
		}
		again.close()
	}
}
