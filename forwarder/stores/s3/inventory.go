package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// inventory is what a listing shows of each instance's days, to be held against their
// manifests. A day takes the same little memory however many objects it has.
type inventory map[instanceDay]hash.Hash

type instanceDay struct {
	instance string
	day      time.Time
}

// add takes in an object. They come by name, as they stand in a manifest.
func (i inventory) add(o object) {
	of := instanceDay{o.instance, o.day}
	if i[of] == nil {
		i[of] = sha256.New()
	}
	addName(i[of], entriesDir+o.name())
}

func addName(h hash.Hash, name string) { _, _ = h.Write([]byte(name + "\n")) } // it never fails

// same reports whether a manifest lists just what was listed.
func (i inventory) same(m *Manifest, day time.Time) bool {
	want := sha256.New()
	for _, o := range m.Objects {
		addName(want, o.Name)
	}
	have := i[instanceDay{m.Instance, day}]
	if have == nil {
		have = sha256.New()
	}
	return string(have.Sum(nil)) == string(want.Sum(nil))
}

// holdAgainstManifests tells of objects that a manifest lists and that are not there, as
// those behind a delete marker, of those that it does not list, and of manifests that are
// missing themselves. Days that are not over have none. What the query leaves out by its
// beginning is left out here too, since no object is of a day before its entries arrived.
func (s *Store) holdAgainstManifests(ctx context.Context, q forwarder.Query, listed inventory, damaged func(string, error)) error {
	dir := s.key(manifestsDir)
	var from time.Time
	if !q.From.IsZero() {
		from = dayOf(q.From)
	}
	before := map[string]ManifestLink{} // of each instance, the one before
	for i, err := range s.bucket.list(ctx, dir, "") {
		if err != nil {
			return err
		}
		of, day, ok := parseManifestName(strings.TrimPrefix(i.key, dir))
		if !ok {
			damaged(quote(i.key), errors.New("its name is none that this store gives"))
			continue
		}
		if day.Before(from) {
			continue
		}
		content, err := readSmall(ctx, s.bucket, i.key, maxManifest)
		if errors.Is(err, errNotFound) {
			continue // a lifecycle rule was quicker
		}
		if err != nil {
			return err
		}
		m := new(Manifest)
		if err := json.Unmarshal(content, m); err != nil || m.Instance != of || m.Day != day.Format(manifestDay) {
			damaged(quote(i.key), errors.New("it is not the manifest that its name says"))
			delete(before, of)
			continue
		}
		if last, is := before[of]; is && (m.Previous == nil || *m.Previous != last) {
			damaged(quote(i.key), fmt.Errorf("the manifest before it is not that of %s which is there: one is missing, or was exchanged", last.Day))
		}
		sum := sha256.Sum256(content)
		before[of] = ManifestLink{m.Day, hex.EncodeToString(sum[:])}
		if listed.same(m, day) {
			continue
		}
		if err := s.compare(ctx, m, day); err != nil {
			if ctx.Err() != nil {
				return err
			}
			damaged(quote(i.key), err)
		}
	}
	return nil
}

// compare says how what is there differs from what a manifest lists.
func (s *Store) compare(ctx context.Context, m *Manifest, day time.Time) error {
	missing := map[string]bool{}
	for _, o := range m.Objects {
		missing[o.Name] = true
	}
	classes := map[string]bool{}
	for name := range missing {
		if o, ok := parseName(strings.TrimPrefix(name, entriesDir)); ok {
			classes[o.class] = true
		}
	}
	for class, err := range s.bucket.prefixes(ctx, s.key(entriesDir)) {
		if err != nil {
			return err
		}
		if name, ok := unescape(strings.TrimSuffix(strings.TrimPrefix(class, s.key(entriesDir)), "/")); ok {
			classes[name] = true
		}
	}
	var foreign []string
	for class := range classes {
		dir := s.key(entriesDir + escape(class) + "/" + escape(m.Instance) + "/" + day.Format(dayForm) + "/")
		for i, err := range s.bucket.list(ctx, dir, "") {
			if err != nil {
				return err
			}
			name := entriesDir + strings.TrimPrefix(i.key, s.key(entriesDir))
			switch o, ok := parseName(strings.TrimPrefix(name, entriesDir)); {
			case !ok || o.instance != m.Instance || i.size == 0:
			case missing[name]:
				delete(missing, name)
			default:
				foreign = append(foreign, name)
			}
		}
	}
	var said []string
	if len(missing) > 0 {
		said = append(said, fmt.Sprintf("%d of the %d objects that it lists are not there, such as %s: they have expired, were taken away, or a delete marker hides them",
			len(missing), len(m.Objects), quote(anyOf(missing))))
	}
	if len(foreign) > 0 {
		said = append(said, fmt.Sprintf("%d objects are there that it does not list, such as %s: they were put there later", len(foreign), quote(foreign[0])))
	}
	if len(said) == 0 {
		return nil // they came since the listing
	}
	return errors.New(strings.Join(said, "; "))
}

// anyOf is the first by name.
func anyOf(names map[string]bool) (first string) {
	for name := range names {
		if first == "" || name < first {
			first = name
		}
	}
	return first
}

// parseManifestName reads a name below manifestsDir.
func parseManifestName(s string) (instance string, day time.Time, ok bool) {
	escaped, file, _ := strings.Cut(s, "/")
	instance, ok = unescape(escaped)
	day, err := time.Parse(manifestDay, strings.TrimSuffix(file, ".json"))
	return instance, day, ok && err == nil && manifestsDir+s == manifestName(instance, day)
}
