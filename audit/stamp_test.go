package audit

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// stampedEntry is an entry as the forwarder gets it, and a stamp of it.
func stampedEntry() (*Entry, *Stamp) {
	e := &Entry{
		ID: "0198c0de-0000-7000-8000-000000000001", Revision: RevisionAnswer, Timestamp: 1767225600123456, ProjectRef: "abcdefghijklmnopqrst",
		Action:  Action{Code: "v1-get-project", Method: "GET", Route: "/v1/projects/{ref}", Path: "/v1/projects/abcdefghijklmnopqrst", Status: 200, StatusSource: StatusWritten},
		Actor:   Actor{TokenType: TokenJWT, Verification: VerificationSignature, UserID: "u-1"},
		Outcome: OutcomeSuccess, Policy: Policy{Rule: "default", Level: LevelMetadata, Durability: DurabilityAnswer}, SchemaVersion: SchemaVersion,
	}
	k := &Keep{Classes: []KeepClass{{Name: "enterprise", Term: Term{7, unitYears}, Plans: []string{"enterprise"}}}}
	return e, &Stamp{
		OrganizationID: "o-1", OrganizationSlug: "acme", Membership: MembershipProven, Retention: k.Retention(e, "enterprise", false),
	}
}

func TestAStampedEntryIsOneObject(t *testing.T) {
	const golden = "testdata/stamped_entry.json"
	e, s := stampedEntry()
	captured, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := s.AppendTo(bytes.Clone(captured))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(doc, captured[:len(captured)-1]) {
		t.Errorf("what was captured has changed:\n%s\n%s", captured, doc)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, doc, "", "  "); err != nil {
		t.Fatalf("%v: %s", err, doc)
	}
	pretty.WriteByte('\n')
	if *update {
		if err := os.WriteFile(golden, pretty.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pretty.Bytes(), want) {
		t.Errorf("it is now\n%s", pretty.Bytes())
	}
	// Whoever decodes it has the entry with the stamp on it.
	got, err := Decode(doc)
	if err != nil {
		t.Fatal(err)
	}
	s.On(e)
	if !reflect.DeepEqual(got, e) {
		t.Errorf("decoded %+v, want %+v", got, e)
	}
	if doc, err := (&Stamp{Pending: true}).AppendTo(bytes.Clone(captured)); err != nil || !bytes.Equal(doc, captured) {
		t.Errorf("an empty stamp makes %s, %v", doc, err)
	}
}

func TestAStampTakesNothingBack(t *testing.T) {
	e, s := stampedEntry()
	e.OrganizationID, e.OrganizationSlug = "captured", "slug"
	s.On(e)
	if e.OrganizationID != "captured" || e.OrganizationSlug != "slug" || e.Membership != MembershipProven || e.Retention.Class != "enterprise" {
		t.Errorf("%+v", e)
	}
	(&Stamp{}).On(e)
	if e.Membership != MembershipProven || e.Retention == nil {
		t.Errorf("%+v", e)
	}
}

// marked fills in every string that a value has, each with a word of its own.
func marked(v reflect.Value, path string, words map[string]string) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		marked(v.Elem(), path, words)
	case reflect.Struct:
		for i := range v.NumField() {
			marked(v.Field(i), path+"."+v.Type().Field(i).Name, words)
		}
	case reflect.String:
		word := "word" + strconv.Itoa(len(words)) + "x"
		words[word] = path
		v.SetString(word)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		marked(v.Index(0), path, words)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		marked(key, path+" (name)", words)
		marked(value, path, words)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Interface:
		word := reflect.New(reflect.TypeFor[string]()).Elem()
		marked(word, path, words)
		v.Set(word)
	case reflect.Int, reflect.Int64, reflect.Uint64:
		word := "7" + strconv.Itoa(1000+len(words)) + "7"
		n, _ := strconv.ParseInt(word, 10, 64)
		words[word] = path
		v.Set(reflect.ValueOf(n).Convert(v.Type()))
	case reflect.Bool:
		v.SetBool(true)
	}
}

// An attempt shows nothing of who, from where, with what and which values: whatever
// field an entry is given one day stays out until somebody lets it in here.
func TestAnAttemptShowsNothingOfWho(t *testing.T) {
	allowed := map[string]bool{}
	for _, path := range []string{
		".ID", ".Revision", ".Timestamp", ".RecordedAt", ".OrganizationID", ".OrganizationSlug", ".ProjectRef", ".Outcome", ".Count",
		".Action.Code", ".Action.Name", ".Action.Method", ".Action.Route", ".Action.Status", ".Action.StatusSource", ".Target.Type",
		".Policy.Rule", ".Policy.Level", ".Policy.Durability", ".Policy.ConfigHash", ".Retention.Class", ".Retention.KeepUntil",
		".Retention.Plan", ".SchemaVersion",
	} {
		allowed[path] = true
	}
	e, words := new(Entry), map[string]string{}
	marked(reflect.ValueOf(e).Elem(), "", words)
	if len(words) < 80 {
		t.Fatalf("only %d fields are marked", len(words))
	}
	e.Membership = MembershipUnproven
	b, err := e.Attempt().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for word, path := range words {
		if path == ".Membership" {
			continue
		}
		if shown := strings.Contains(string(b), word); shown != allowed[path] {
			t.Errorf("%s: shown %t\n%s", path, shown, b)
		}
	}
	for _, m := range []Membership{MembershipProven, ""} {
		if e.Membership = m; e.Attempt() != e {
			t.Errorf("%q is not shown whole", m)
		}
	}
}

func TestOfTwoStampsTheOneThatKeepsLongerCounts(t *testing.T) {
	short, long, forever := &Retention{Class: "short", KeepUntil: 10}, &Retention{Class: "long", KeepUntil: 20, Plan: "team"}, &Retention{Class: "forever"}
	again := &Retention{Class: "again", KeepUntil: 20}
	for name, c := range map[string]struct{ old, newer, want *Stamp }{
		"none":                             {nil, nil, nil},
		"nothing newer":                    {&Stamp{Retention: short}, nil, &Stamp{Retention: short}},
		"nothing older":                    {nil, &Stamp{Retention: short}, &Stamp{Retention: short}},
		"a longer one":                     {&Stamp{Retention: short}, &Stamp{Retention: long}, &Stamp{Retention: long}},
		"a shorter one":                    {&Stamp{Retention: long}, &Stamp{Retention: short}, &Stamp{Retention: long}},
		"forever":                          {&Stamp{Retention: forever}, &Stamp{Retention: long}, &Stamp{Retention: forever}},
		"equally long":                     {&Stamp{Retention: long}, &Stamp{Retention: again}, &Stamp{Retention: again}},
		"without one":                      {&Stamp{Retention: long}, &Stamp{OrganizationID: "o"}, &Stamp{Retention: long, OrganizationID: "o"}},
		"an organization that is known":    {&Stamp{OrganizationID: "o"}, &Stamp{OrganizationID: "p", OrganizationSlug: "q"}, &Stamp{OrganizationID: "o"}},
		"an organization's other name":     {&Stamp{OrganizationID: "o"}, &Stamp{OrganizationID: "o", OrganizationSlug: "q"}, &Stamp{OrganizationID: "o", OrganizationSlug: "q"}},
		"proven stays":                     {&Stamp{Membership: MembershipProven}, &Stamp{Membership: MembershipUnproven}, &Stamp{Membership: MembershipProven}},
		"unproven does not":                {&Stamp{Membership: MembershipUnproven}, &Stamp{Membership: MembershipProven}, &Stamp{Membership: MembershipProven}},
		"an answer ends what was pending":  {&Stamp{Pending: true, Retention: short}, &Stamp{Retention: long}, &Stamp{Retention: long}},
		"what is pending again is pending": {&Stamp{Retention: long}, &Stamp{Pending: true}, &Stamp{Pending: true, Retention: long}},
	} {
		if got := c.old.Merge(c.newer); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
