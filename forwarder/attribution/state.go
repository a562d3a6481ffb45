package attribution

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/durable"
)

const (
	// stateVersion is that of the file. Another one is learned anew.
	stateVersion = 1
	// maxState bounds what is read of the file, in bytes.
	maxState = 256 << 20
	// chunk is how many records are looked at under the lock at once.
	chunk = 1000
)

// state is the file: JSON, in which times are microseconds since the Unix epoch.
type state struct {
	Version  int              `json:"version"`
	Projects []savedHistory   `json:"projects"`
	IDs      []savedHistory   `json:"organization_ids"`
	Slugs    []savedHistory   `json:"organization_slugs"`
	Members  []savedProof     `json:"members"`
	Offers   map[string]int64 `json:"offers"`
	Changes  []Change         `json:"changes"`
	Number   uint64           `json:"number"`
}

type savedHistory struct {
	Name  string `json:"name"`
	Facts []fact `json:"facts,omitempty"`
	Since int64  `json:"since,omitempty"`
	None  int64  `json:"none,omitempty"`
	Used  bool   `json:"used,omitempty"`
}

type savedProof struct {
	Kind         string `json:"kind"`
	Name         string `json:"name"`
	Organization string `json:"organization"`
	First        int64  `json:"first"`
	Last         int64  `json:"last"`
}

// Save writes the file, if there is one and it is not what it should be. A kill forgets
// what came after the last one. The file is there whole or not at all.
func (d *Directory) Save() error {
	d.saving.Lock()
	defer d.saving.Unlock()
	d.mu.Lock()
	d.settleMoves()
	if d.file == "" || !d.dirty {
		d.mu.Unlock()
		return nil
	}
	d.dirty = false
	s := d.state()
	projects, ids, slugs := d.projects.all(), d.ids.all(), d.slugs.all()
	d.mu.Unlock()
	s.Projects, s.IDs, s.Slugs = d.copied(projects), d.copied(ids), d.copied(slugs)
	if err := durable.WriteFile(d.file, func(w io.Writer) error { return json.NewEncoder(w).Encode(&s) }); err != nil {
		d.mu.Lock()
		d.dirty = true
		d.mu.Unlock()
		return fmt.Errorf("saving whose projects are: %w", err)
	}
	return nil
}

// state is all but the tables. It is called with the lock held.
func (d *Directory) state() state {
	now := time.Now()
	d.forgetChanges(now)
	s := state{Version: stateVersion, Offers: map[string]int64{}, Number: d.number}
	s.Changes = append(s.Changes, d.changes...)
	maps.Copy(s.Offers, d.offers)
	s.Members = make([]savedProof, 0, len(d.members))
	for p, at := range d.members {
		if now.UnixMicro()-at.last <= 2*provenFor {
			s.Members = append(s.Members, savedProof{p.who.kind, p.who.name, p.organization, at.first, at.last})
		}
	}
	return s
}

// copied copies records a few at a time, so that nobody waits long for the lock.
func (d *Directory) copied(records []*record) []savedHistory {
	saved := make([]savedHistory, 0, len(records))
	for i := 0; i < len(records); i += chunk {
		d.mu.Lock()
		for _, r := range records[i:min(i+chunk, len(records))] {
			saved = append(saved, savedHistory{r.name, append([]fact(nil), r.facts...), r.since, r.none, r.used})
		}
		d.mu.Unlock()
	}
	return saved
}

// load reads the file. After an error nothing of it is known.
func (d *Directory) load() error {
	if d.file == "" {
		return nil
	}
	f, err := os.Open(d.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return err
	}
	s, err := readState(b, time.Now().UnixMicro())
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.restore(s)
	return nil
}

// readState reads a file. It refuses what no Directory can have written: a harmed file
// would give calls to others than they belong to.
func readState(b []byte, now int64) (*state, error) {
	if len(b) > maxState {
		return nil, fmt.Errorf("it has more than %d MiB", maxState>>20)
	}
	s := new(state)
	j := json.NewDecoder(bytes.NewReader(b))
	if err := j.Decode(s); err != nil {
		return nil, errors.New("it is no JSON, or not that of such a file")
	}
	if j.Decode(new(any)) != io.EOF {
		return nil, errors.New("something follows its end")
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("it is of version %d, and this program knows %d", s.Version, stateVersion)
	}
	if len(s.Projects) > maxNames || len(s.IDs) > maxNames || len(s.Slugs) > maxNames ||
		len(s.Members) > maxProven || len(s.Offers) > maxOffers || len(s.Changes) > maxChanges {
		return nil, errors.New("it has more than it can have")
	}
	// A clock that was put back makes what was learned one of the future. It would be
	// believed for too long.
	latest := now + time.Minute.Microseconds()
	for _, list := range [][]savedHistory{s.Projects, s.IDs, s.Slugs} {
		for i := range list {
			if err := list[i].check(latest); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range s.Members {
		if p.Kind == "" || p.Name == "" || p.Organization == "" || p.First > p.Last || p.Last > latest || p.First < 0 {
			return nil, errors.New("a member's proof makes no sense")
		}
	}
	for project, since := range s.Offers {
		if project == "" || since < 0 || since > latest {
			return nil, errors.New("an offer makes no sense")
		}
	}
	last := uint64(0)
	for _, c := range s.Changes {
		if c.Number <= last || c.From.After(c.To) || c.OrganizationID == "" && c.OrganizationSlug == "" {
			return nil, errors.New("a change makes no sense")
		}
		last = c.Number
	}
	if s.Number < last {
		return nil, errors.New("its number of changes makes no sense")
	}
	return s, nil
}

func (h *savedHistory) check(latest int64) error {
	if h.Name == "" || !isValue(h.Name) || len(h.Facts) > maxFacts || h.Since < 0 || h.Since > latest || h.None < 0 || h.None > latest {
		return errors.New("a name's history makes no sense")
	}
	before := int64(0)
	for i := range h.Facts {
		f := &h.Facts[i]
		if f.From < before || f.First < 0 || f.First > f.Last || f.Last > latest || f.Until > latest ||
			f.Until != 0 && f.Until <= f.From || f.Until == 0 && i+1 < len(h.Facts) ||
			!isValue(f.ID) || !isValue(f.Slug) || !isValue(f.Plan) {
			return errors.New("a fact makes no sense")
		}
		before = f.Until
	}
	return nil
}

// restore takes what the file says. It is called with the lock held, once.
func (d *Directory) restore(s *state) {
	for _, of := range []struct {
		t    *table
		list []savedHistory
	}{{d.projects, s.Projects}, {d.ids, s.IDs}, {d.slugs, s.Slugs}} {
		for _, h := range of.list {
			r := of.t.make(h.Name)
			r.history = history{facts: h.Facts, since: h.Since, none: h.None, used: h.Used}
			if f := r.open(); f != nil && r.used {
				d.plan(r, f.Last+d.set.ttl+1, of.t == d.ids)
			}
		}
	}
	for _, p := range s.Members {
		d.members[pair{actor{p.Kind, p.Name}, p.Organization}] = proof{p.First, p.Last}
	}
	maps.Copy(d.offers, s.Offers)
	d.changes, d.number = s.Changes, s.Number
}
