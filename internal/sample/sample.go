// Package sample makes up what a platform's organizations do: for the demo, for benchmarks
// and for tests of pages. Nobody in it exists.
package sample

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// Options say how much there is. The same ones give the same entries.
type Options struct {
	// Organizations is how many there are. A few of them do most of what is done.
	Organizations int
	// Entries is how many there are of all together.
	Entries int
	// Until is when the newest one arrived, and Span over how much time they arrived.
	Until time.Time
	Span  time.Duration
	// Seed makes others.
	Seed uint64
}

// Organization is one of the sample's.
type Organization struct{ ID, Slug, Name, Plan string }

// OrganizationOf is the nth organization, from 0, which is Acme, the busiest.
func OrganizationOf(n int) Organization {
	name := "Acme"
	if n > 0 {
		name = adjectives[n%len(adjectives)] + " " + nouns[n/len(adjectives)%len(nouns)]
		if rest := n / (len(adjectives) * len(nouns)); rest > 0 {
			name += fmt.Sprintf(" %d", rest+1)
		}
	}
	plan := []string{"team", "free", "pro", "team", "free", "pro", "enterprise", "free"}[n%8]
	return Organization{ID: fmt.Sprintf("b2f7c1a0-5d3e-4a11-9c00-%012d", n+1), Slug: strings.ReplaceAll(strings.ToLower(name), " ", "-"), Name: name, Plan: plan}
}

var (
	adjectives = []string{"Amber", "Brave", "Calm", "Deep", "Early", "Fair", "Grand", "Happy", "Iron", "Jolly", "Keen", "Light", "Merry", "Noble", "Open", "Plain", "Quiet", "Rapid", "Solid", "Tidy"}
	nouns      = []string{"Anchor", "Bridge", "Cedar", "Delta", "Ember", "Forge", "Garden", "Harbor", "Island", "Junction", "Kite", "Lantern", "Meadow", "North", "Orchard", "Pixel", "Quarry", "River", "Summit", "Tower", "Union", "Valley", "Window", "Yard", "Zenith", "Basket", "Candle", "Dune", "Engine", "Feather", "Grove", "Hill", "Inlet", "Jacket", "Kernel", "Ledger", "Mill", "Nest", "Oak", "Paper", "Quill", "Ridge", "Stone", "Thread", "Urn", "Vessel", "Well", "Axis", "Bolt", "Cove"}
	people     = []string{"ada", "ben", "cleo", "dan", "eva", "finn", "gina", "hugo", "ida", "jan", "kai", "lena", "max", "nora", "otto", "pia", "quinn", "rosa", "sam", "tess"}
	agents     = []string{
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/142.0 Safari/537.36", "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
		"platform-cli/2.58.5", "terraform-provider/1.6.0", "curl/8.16.0", "github-actions/deploy",
	}
)

// doing is something that is done, so often beside others.
type doing struct {
	weight       int
	method, path string
	usual        int // status
}

// doings have {slug}, {ref} and {name} for what they are done to.
var doings = []doing{
	{220, "GET", "/v1/projects", 200},
	{160, "GET", "/v1/projects/{ref}", 200},
	{120, "GET", "/v1/projects/{ref}/functions", 200},
	{90, "GET", "/v1/organizations/{slug}/members", 200},
	{80, "GET", "/v1/projects/{ref}/api-keys", 200},
	{70, "POST", "/v1/projects/{ref}/database/query", 201},
	{45, "PATCH", "/v1/projects/{ref}/functions/{name}", 200},
	{40, "GET", "/v1/projects/{ref}/secrets", 200},
	{35, "POST", "/v1/projects/{ref}/functions/deploy", 201},
	{25, "POST", "/v1/projects/{ref}/secrets", 201},
	{20, "PATCH", "/v1/projects/{ref}/config/auth", 200},
	{18, "GET", "/v1/projects/{ref}/upgrade/status", 404},
	{15, "POST", "/v1/projects/{ref}/branches", 201},
	{12, "DELETE", "/v1/projects/{ref}/functions/{name}", 200},
	{10, "DELETE", "/v1/projects/{ref}/secrets", 200},
	{8, "PUT", "/v1/projects/{ref}/config/database/postgres", 200},
	{6, "POST", "/v1/projects/{ref}/network-restrictions/apply", 201},
	{5, "POST", "/v1/projects/{ref}/pause", 200},
	{4, "POST", "/v1/projects", 201},
	{2, "DELETE", "/v1/projects/{ref}", 200},
}

var functions = []string{"hello-world", "send-invoice", "on-sign-up", "nightly-report", "resize-image", "webhook"}

// Entries yields them with what is stamped on each, oldest first. Each is the caller's.
func Entries(o Options) iter.Seq2[*audit.Entry, *audit.Stamp] {
	return func(yield func(*audit.Entry, *audit.Stamp) bool) {
		rng := rand.New(rand.NewPCG(o.Seed, 71)) //nolint:gosec // no secret depends on it
		s := &sampler{o: o, rng: rng, deriver: &audit.Deriver{Platform: audit.Supabase(), Key: new(audit.TokenKey)}}
		for _, d := range doings {
			s.weights += d.weight
		}
		for _, at := range s.times() {
			if e, stamp := s.entry(at); !yield(e, stamp) {
				return
			}
		}
	}
}

type sampler struct {
	o       Options
	rng     *rand.Rand
	deriver *audit.Deriver
	weights int
}

// times are more by day than by night, and fewer at weekends.
func (s *sampler) times() []time.Time {
	times := make([]time.Time, 0, s.o.Entries)
	for len(times) < s.o.Entries {
		at := s.o.Until.Add(-time.Duration(s.rng.Float64() * float64(s.o.Span)))
		hour := float64(at.UTC().Hour()) + float64(at.Minute())/60
		fromNoon := (hour - 14) / 4.5
		busy := 0.25 + 0.75*math.Exp(-fromNoon*fromNoon)
		if day := at.UTC().Weekday(); day == time.Saturday || day == time.Sunday {
			busy *= 0.4
		}
		if s.rng.Float64() < busy {
			times = append(times, at.Truncate(time.Microsecond))
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

func (s *sampler) entry(at time.Time) (*audit.Entry, *audit.Stamp) {
	// The nth organization does about 1/n^1.2 of what the first one does.
	n := int(math.Pow(s.rng.Float64(), 4) * float64(s.o.Organizations))
	organization := OrganizationOf(n)
	d := s.doing()
	ref := refOf(n, s.rng.IntN(1+n%3+1))
	path := strings.NewReplacer("{slug}", organization.Slug, "{ref}", ref, "{name}", functions[s.rng.IntN(len(functions))]).Replace(d.path)
	e, _ := s.deriver.Intent(&audit.Call{Arrived: at, Method: d.method, Path: path, Host: "api.example.com", Bytes: -1})
	e.ID = s.id(at)
	e.RequestID = s.id(at)
	status := d.usual
	switch s.rng.IntN(40) {
	case 0:
		status = 403
	case 1:
		status = []int{400, 404, 422, 429, 500, 503}[s.rng.IntN(6)]
	}
	e.Revision, e.Action.Status, e.Action.StatusSource, e.Outcome = audit.RevisionAnswer, status, audit.StatusWritten, audit.OutcomeOf(status)
	e.DurationUS = int64(8_000 + 60_000*s.rng.ExpFloat64())
	e.RecordedAt = e.Timestamp + e.DurationUS
	e.Policy.ConfigHash = "5b1c0de5a3f1e9aa"
	stamp := &audit.Stamp{Membership: audit.MembershipProven, Retention: &audit.Retention{Class: audit.ClassDefault, Plan: organization.Plan}}
	if status == 403 && s.rng.IntN(2) == 0 {
		s.stranger(e)
		stamp.Membership = audit.MembershipUnproven
	} else {
		s.member(e, n)
	}
	stamp.Retention.KeepUntil = audit.Days(400).KeepMicros(e.Timestamp)
	stamp.OrganizationID = organization.ID
	if e.OrganizationSlug == "" {
		stamp.OrganizationSlug = organization.Slug
	}
	return e, stamp
}

func (s *sampler) doing() doing {
	at := s.rng.IntN(s.weights)
	for _, d := range doings {
		if at -= d.weight; at < 0 {
			return d
		}
	}
	return doings[0]
}

// EmailOf is the address of one of an organization's people, of whom there are two or more.
func EmailOf(organization, k int) string {
	return people[(organization+k)%len(people)] + "@" + OrganizationOf(organization).Slug + ".example"
}

// member makes one of an organization's people, or one of their programs, the actor.
func (s *sampler) member(e *audit.Entry, n int) {
	k := s.rng.IntN(2 + n%9)
	a := &e.Actor
	*a = audit.Actor{
		TokenType: audit.TokenJWT, Verification: audit.VerificationSignature, Kind: audit.ActorPerson,
		UserID: fmt.Sprintf("5f0e7c11-8a2b-4c3d-a%03x-%012d", n%4096, k+1), Email: EmailOf(n, k),
		IP: netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + (n*7+k*3)%200)}).String(), IPSource: audit.IPForwarded, PeerIP: "10.0.0.7",
		UserAgent: agents[(n+k)%2], SessionID: fmt.Sprintf("c0ffee00-%04x-4000-8000-%012d", n%65536, k+1), AAL: "aal1", JWTRole: "authenticated",
		JWTIssuer: "https://auth.example.com",
	}
	a.JWTSubject = a.UserID
	switch s.rng.IntN(4) {
	case 0:
		a.TokenType, a.Verification, a.TokenAlias = audit.TokenV1, audit.VerificationIntrospection, fmt.Sprintf("sbp_%06x…", n*31+k)
		a.SessionID, a.AAL, a.JWTRole, a.JWTIssuer, a.JWTSubject = "", "", "", "", ""
		a.UserAgent = agents[2+s.rng.IntN(len(agents)-2)]
	case 1:
		if s.rng.IntN(3) == 0 {
			*a = audit.Actor{
				TokenType: audit.TokenOAuth, Verification: audit.VerificationIntrospection, Kind: audit.ActorService, OAuthAppID: "7d3f9a52-1c2e-4b0a-9e6d-000000000001",
				OAuthAppName: "Deploy Bot", IP: "198.51.100.24", IPSource: audit.IPForwarded, PeerIP: "10.0.0.7", UserAgent: "deploy-bot/3.1",
			}
		}
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", n, k, a.TokenType))
	a.TokenHash = hex.EncodeToString(sum[:])
}

// stranger makes somebody the actor of whom nothing is known.
func (s *sampler) stranger(e *audit.Entry) {
	e.Actor = audit.Actor{
		TokenType: audit.TokenV1, Verification: audit.VerificationNone, TokenAlias: "sbp_zz…", TokenHash: strings.Repeat("0", 64),
		IP: netip.AddrFrom4([4]byte{192, 0, 2, byte(s.rng.IntN(250) + 1)}).String(), IPSource: audit.IPForwarded, PeerIP: "10.0.0.7", UserAgent: "python-requests/2.32",
	}
}

// refOf is a project of an organization, in the platform's form.
func refOf(organization, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "project %d of %d", n, organization))
	ref := make([]byte, 20)
	for i := range ref {
		ref[i] = 'a' + sum[i]%26
	}
	return string(ref)
}

// id is a UUIDv7 of a time.
func (s *sampler) id(at time.Time) string {
	ms := at.UnixMilli()
	return fmt.Sprintf("%08x-%04x-7%03x-%04x-%012x", uint32(ms>>16), uint16(ms), s.rng.IntN(1<<12), 0x8000|s.rng.IntN(1<<14), s.rng.Int64N(1<<48))
}
