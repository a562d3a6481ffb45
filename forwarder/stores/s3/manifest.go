package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// A day's manifest lists the day's objects of one instance, and has the hash of the
// manifest before. So whoever keeps one manifest elsewhere can tell later whether any
// object until then was taken away, or one put under.
//
// A day is that in the objects' names, which this store chooses: it is closed once the
// clock has passed it, nothing is in doubt, and this store has made up its mind never to
// choose it again (Store.day). Therefore what a manifest lists is all that there will ever
// be: an entry that arrived before midnight and is written after it has the new day in
// its object's name; a clock that is set back does not bring a closed day back; and a day
// in the future, from a clock that was wrong, is closed when it is over.

const (
	// manifestPause is between two attempts.
	manifestPause = 15 * time.Minute
	// manifestTime bounds an attempt: entries wait while it lasts.
	manifestTime = 2 * time.Minute
	// maxManifest bounds a manifest, in bytes, and maxDay the objects of a day.
	maxManifest = 256 << 20
	maxDay      = 500_000
	manifestDay = "2006-01-02"
	// maxAhead is how many days a manifest may be ahead of the clock, which can have been
	// set back since. More would let whoever may write to the bucket drive the days ahead.
	maxAhead = 31
)

// Manifest is what a day's manifest has.
type Manifest struct {
	Kind     string `json:"kind"`
	Version  int    `json:"version"`
	Instance string `json:"instance"`
	Day      string `json:"day"`
	// Objects are by name. Their Name is below the store's prefix.
	Objects []ManifestObject `json:"objects"`
	// Void are names that are taken by empty objects, so that an upload that was given up
	// could not arrive any more.
	Void []string `json:"void,omitempty"`
	// Entries are those of all objects.
	Entries int64 `json:"entries"`
	// Previous is the manifest before. The first has none.
	Previous *ManifestLink `json:"previous,omitempty"`
}

// ManifestObject is one object.
type ManifestObject struct {
	Name    string `json:"name"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Entries int    `json:"entries"`
	// Size is that of the object, in bytes.
	Size int64 `json:"size"`
	// SHA256 is that of the entries, uncompressed.
	SHA256 string `json:"sha256"`
}

// ManifestLink names a manifest.
type ManifestLink struct {
	Day string `json:"day"`
	// SHA256 is that of the manifest's bytes.
	SHA256 string `json:"sha256"`
}

func manifestName(of string, day time.Time) string {
	return manifestsDir + escape(of) + "/" + day.Format(manifestDay) + ".json"
}

// closedThrough is the last day of an instance that has a manifest, zero if none has.
func (s *Store) closedThrough(ctx context.Context, of string) (time.Time, error) {
	k := s.known[of]
	if k.closedKnown {
		return k.closed, nil
	}
	dir := s.key(manifestsDir + escape(of) + "/")
	for i, err := range s.bucket.list(ctx, dir, "") {
		if err != nil {
			return time.Time{}, err
		}
		day, err := time.Parse(manifestDay, strings.TrimSuffix(strings.TrimPrefix(i.key, dir), ".json"))
		if err != nil || !day.After(k.closed) {
			continue
		}
		if day.After(s.now().AddDate(0, 0, maxAhead)) {
			s.log.Warn("a manifest of a day that is far ahead is ignored: this machine's clock is wrong, or it is not this store's", "object", i.key)
			continue
		}
		k.closed = day
	}
	k.closedKnown = true
	return k.closed, nil
}

// keepManifests makes the manifests that are due of the batch's instances. That fails
// without harm: it is tried again later.
func (s *Store) keepManifests(ctx context.Context, batch []forwarder.Record) {
	if s.inDoubt != nil {
		return
	}
	now, last := s.now(), ""
	for _, r := range batch {
		of := instance(r)
		k := s.known[of]
		if of == last || k == nil {
			continue
		}
		last = of
		if !k.checked.IsZero() && dayOf(now).Equal(dayOf(k.checked)) && now.Before(k.retry) {
			continue
		}
		k.checked, k.retry = now, now.Add(24*time.Hour)
		bounded, cancel := context.WithTimeout(ctx, manifestTime)
		err := s.keepManifest(bounded, of, now)
		cancel()
		if err != nil {
			k.retry = now.Add(manifestPause)
		}
		switch {
		case err != nil && !k.failing:
			s.log.Warn("a day's manifest could not be written; it is tried again", "instance", of, "error", err)
		case err == nil && k.failing:
			s.log.Info("manifests can be written again", "instance", of)
		}
		k.failing = err != nil
	}
}

func (s *Store) keepManifest(ctx context.Context, of string, now time.Time) error {
	k := s.known[of]
	closed, err := s.closedThrough(ctx, of)
	if err != nil {
		return err
	}
	from := time.Time{}
	if !closed.IsZero() {
		from = closed.AddDate(0, 0, 1)
	}
	var previous *ManifestLink
	var days []time.Time
	byDay := map[time.Time][]listed{}
	n := 0
	for o, err := range s.objects(ctx, k, of, from) {
		if err != nil {
			return err
		}
		if o.day.Before(from) || !o.day.Before(dayOf(now)) {
			continue
		}
		if n++; n > maxDay {
			return fmt.Errorf("there are more than %d objects that no manifest has", maxDay)
		}
		if byDay[o.day] == nil {
			days = append(days, o.day)
		}
		byDay[o.day] = append(byDay[o.day], o)
	}
	slices.SortFunc(days, time.Time.Compare)
	for _, day := range days {
		if previous == nil && !closed.IsZero() {
			if previous, err = s.link(ctx, of, closed); err != nil {
				return err
			}
		}
		if err := s.noteClosed(day); err != nil {
			return err
		}
		m, err := json.Marshal(s.manifest(of, day, byDay[day], previous))
		if err != nil {
			return err
		}
		m = append(m, '\n')
		sum := sha256.Sum256(m)
		name := manifestName(of, day)
		err = s.create(ctx, name, m, map[string]string{"sha256": hex.EncodeToString(sum[:])}, s.kept)
		previous = &ManifestLink{day.Format(manifestDay), hex.EncodeToString(sum[:])}
		if errors.Is(err, errExists) {
			previous, err = s.link(ctx, of, day) // this store's, whose answer was lost
		}
		if err != nil {
			return err
		}
		k.closed = day
	}
	return nil
}

func (s *Store) manifest(of string, day time.Time, all []listed, previous *ManifestLink) Manifest {
	m := Manifest{Kind: "caddy-audit-log manifest", Version: 1, Instance: of, Day: day.Format(manifestDay), Objects: []ManifestObject{}, Previous: previous}
	slices.SortFunc(all, func(a, b listed) int { return strings.Compare(a.name(), b.name()) })
	for _, o := range all {
		name := entriesDir + o.name()
		if o.size == 0 {
			m.Void = append(m.Void, name)
			continue
		}
		m.Objects = append(m.Objects, ManifestObject{name, o.first, o.last, o.entries, o.size, o.sum})
		m.Entries += int64(o.entries)
	}
	return m
}

// link hashes a manifest that is there.
func (s *Store) link(ctx context.Context, of string, day time.Time) (*ManifestLink, error) {
	b, err := readSmall(ctx, s.bucket, s.key(manifestName(of, day)), maxManifest)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return &ManifestLink{day.Format(manifestDay), hex.EncodeToString(sum[:])}, nil
}

// readSmall reads an object into memory.
func readSmall(ctx context.Context, b bucket, key string, limit int64) ([]byte, error) {
	body, err := b.get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("reading object %q: %w", key, err)
	}
	defer body.Close()
	content, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading object %q: %w", key, err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("reading object %q: it is larger than %d bytes, so it is not this store's", key, limit)
	}
	return content, nil
}
