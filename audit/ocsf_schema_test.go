package audit

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// ocsfTable is the class and its objects as the schema's repository defines
// them: see the source, tag and commit in the file. Only objects that an entry
// can fill are in it; an attribute of any other is refused.
type ocsfTable struct {
	Tag     string                     `json:"tag"`
	Types   map[string]ocsfType        `json:"types"`
	Class   ocsfTableObject            `json:"class"`
	Objects map[string]ocsfTableObject `json:"objects"`
}

type ocsfType struct {
	Regex  string `json:"regex"`
	MaxLen int    `json:"max_len"`
	Range  []int  `json:"range"`
	Base   string `json:"base"`
}

type ocsfTableObject struct {
	Attributes  map[string]ocsfAttribute `json:"attributes"`
	Constraints struct {
		AtLeastOne []string `json:"at_least_one"`
	} `json:"constraints"`
}

type ocsfAttribute struct {
	Type        string            `json:"type"`
	Array       bool              `json:"array"`
	Requirement string            `json:"requirement"`
	Profile     string            `json:"profile"`
	Deprecated  bool              `json:"deprecated"`
	Enum        map[string]string `json:"enum"`
}

var ocsfSchema = sync.OnceValue(func() *ocsfTable {
	b, err := os.ReadFile("testdata/ocsf/api_activity-" + OCSFVersion + ".json")
	if err != nil {
		panic(err)
	}
	t := new(ocsfTable)
	if err := json.Unmarshal(b, t); err != nil {
		panic(err)
	}
	return t
})

// validate says everything that is wrong with an event.
func (t *ocsfTable) validate(doc []byte) (faults []string) {
	d := json.NewDecoder(strings.NewReader(string(doc)))
	d.UseNumber()
	var event map[string]any
	if err := d.Decode(&event); err != nil {
		return []string{err.Error()}
	}
	profiles := []string{}
	if m, ok := event["metadata"].(map[string]any); ok {
		if m["version"] != t.Tag {
			faults = append(faults, fmt.Sprintf("metadata.version is %v", m["version"]))
		}
		list, _ := m["profiles"].([]any)
		for _, p := range list {
			profiles = append(profiles, fmt.Sprint(p))
		}
	}
	if want := fmt.Sprintf("%v%02v", event["class_uid"], event["activity_id"]); fmt.Sprint(event["type_uid"]) != want {
		faults = append(faults, fmt.Sprintf("type_uid is %v and not %s", event["type_uid"], want))
	}
	return append(faults, t.object("", event, t.Class, profiles)...)
}

func (t *ocsfTable) object(at string, o map[string]any, is ocsfTableObject, profiles []string) (faults []string) {
	for _, name := range slices.Sorted(maps.Keys(is.Attributes)) {
		a := is.Attributes[name]
		_, has := o[name]
		if a.Requirement == "required" && !has && (a.Profile == "" || slices.Contains(profiles, a.Profile)) {
			faults = append(faults, at+name+" is required")
		}
	}
	if any := is.Constraints.AtLeastOne; any != nil && !slices.ContainsFunc(any, func(name string) bool { _, has := o[name]; return has }) {
		faults = append(faults, fmt.Sprintf("%s has none of %v", at, any))
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		a, known := is.Attributes[name]
		switch {
		case !known:
			faults = append(faults, at+name+" is no attribute")
			continue
		case a.Deprecated:
			faults = append(faults, at+name+" is deprecated")
		case a.Profile != "" && !slices.Contains(profiles, a.Profile):
			faults = append(faults, at+name+" belongs to a profile that metadata.profiles does not name")
		}
		values := []any{o[name]}
		if a.Array {
			list, ok := o[name].([]any)
			if !ok || len(list) == 0 {
				faults = append(faults, at+name+" is no list, or empty")
			}
			values = list
		}
		for _, v := range values {
			faults = append(faults, t.value(at+name, v, a, profiles)...)
			if sibling := ocsfSibling(name); a.Enum != nil && sibling != "" && o[sibling] != nil {
				if caption := a.Enum[fmt.Sprint(v)]; fmt.Sprint(v) != "99" && o[sibling] != caption {
					faults = append(faults, fmt.Sprintf("%s%s is %v, and the caption of %v is %s", at, sibling, o[sibling], v, caption))
				}
			} else if fmt.Sprint(v) == "99" && sibling != "" {
				faults = append(faults, at+name+" is 99 and nothing says what that is")
			}
		}
	}
	return faults
}

// ocsfSibling is the attribute that names an enumerated one, and empty for any
// other attribute.
func ocsfSibling(name string) string {
	if name == "activity_id" {
		return "activity_name"
	}
	if stem, ok := strings.CutSuffix(name, "_id"); ok {
		return stem
	}
	return ""
}

func (t *ocsfTable) value(at string, v any, a ocsfAttribute, profiles []string) []string {
	wrong := func() []string { return []string{fmt.Sprintf("%s: %v (%T) is no %s", at, v, v, a.Type)} }
	if a.Enum != nil {
		if _, ok := a.Enum[fmt.Sprint(v)]; !ok {
			return []string{fmt.Sprintf("%s: %v is not in the enum", at, v)}
		}
	}
	if a.Type == "object" { // unmapped: anything
		if _, ok := v.(map[string]any); !ok {
			return wrong()
		}
		return nil
	}
	typ, ok := t.Types[a.Type]
	if !ok {
		is, ok := t.Objects[a.Type]
		o, isObject := v.(map[string]any)
		if !ok || !isObject {
			return wrong()
		}
		return t.object(at+".", o, is, profiles)
	}
	base := typ.Base
	if base == "" {
		base = a.Type
	}
	switch base {
	case "boolean_t":
		if _, ok := v.(bool); !ok {
			return wrong()
		}
	case "integer_t", "long_t":
		n, ok := v.(json.Number)
		if !ok {
			return wrong()
		}
		i, err := n.Int64()
		if err != nil || len(typ.Range) == 2 && (i < int64(typ.Range[0]) || i > int64(typ.Range[1])) {
			return wrong()
		}
	case "string_t":
		s, ok := v.(string)
		if !ok || s == "" || typ.MaxLen > 0 && len(s) > typ.MaxLen || typ.Regex != "" && !ocsfMatches(typ.Regex, s) {
			return wrong()
		}
	default:
		return wrong()
	}
	return nil
}

// ocsfMatches remembers what is an address: that pattern takes long.
func ocsfMatches(pattern, text string) bool {
	re, ok := ocsfRegexps.Load(pattern)
	if !ok {
		re, _ = ocsfRegexps.LoadOrStore(pattern, regexp.MustCompile(pattern))
	}
	if len(pattern) < 500 {
		return re.(*regexp.Regexp).MatchString(text)
	}
	is, ok := ocsfAddresses.Load(text)
	if !ok {
		is, _ = ocsfAddresses.LoadOrStore(text, re.(*regexp.Regexp).MatchString(text))
	}
	return is.(bool)
}

var ocsfRegexps, ocsfAddresses sync.Map

// ocsfSamples are values that a field of an entry can have, with those that a
// mapping could trip over. The paths are those of the entry's JSON.
var ocsfSamples = map[string][]string{
	"revision":                  {"-1", "0", "1", "2", "3", "40"},
	"outcome":                   {"success", "failure", "denied", "pending", "unknown", "refused", "", "odd"},
	"action.code":               {"", "v1-create-a-project", "PauseController_pauseProject", "listThings", "audit.gap", "…", "_Controller_", "bulk-bulk-"},
	"action.method":             {"", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"},
	"action.path":               {"", "/", "/v1/projects/abc", "*", "/a?b"},
	"action.host":               {"", "api.example.com", "api.example.com:8443", "[::1]:80", "::1", "::1:80", ":80", "h:", "h:99999", "[::1]", "[::1]80", "[x:1"},
	"action.status":             {"0", "101", "200", "204", "302", "401", "403", "404", "429", "500", "503", "-5", "123456"},
	"action.status_source":      {"", "written", "error", "default"},
	"actor.token_type":          {"jwt", "v0", "v1", "scoped_pat", "oauth", "app", "partner", "anon", "service_role", "publishable", "secret", "basic", "none", "unknown", "ours", ""},
	"actor.verification":        {"signature", "introspection", "asserted", "accepted", "none", ""},
	"actor.verification_reason": {"", "expired"},
	"actor.kind":                {"", "person", "service", "anonymous", "robot"},
	"actor.user_id":             {"", "8f6f6f6c-2222-4a6e-9f2e-000000000001", "u"},
	"actor.email":               {"", "ada@example.com", "a@b", "ä@example.com", "@example.com", "a@@example.com", "a@ex_ample.com", "a@.com", "a b@c.de", "a@c."},
	"actor.ip":                  {"", "203.0.113.9", "2001:db8::1", "::ffff:10.0.0.1", "::", "fe80::1%eth0", "fe80::1%a\nb", "unix", "999.1.1.1", strings.Repeat("1", 300)},
	"actor.peer_ip":             {"", "10.0.0.1", "2001:db8:0:1:1:1:1:1", "@"},
	"actor.ip_source":           {"", "peer", "forwarded"},
	"actor.aal":                 {"", "aal1", "aal2", "aal3", "aal9"},
	"target.type":               {"project", "organization", "function", ""},
	"target.id":                 {"", "abc", "acme"},
	"organization_slug":         {"", "acme"},
	"organization_id":           {"", "acme", "12"},
	"project_ref":               {"", "abc", "other"},
	"policy.rule":               {"default", "sidecar", "@writes"},
	"schema_version":            {"1", "0"},
	"folded.network":            {"203.0.113.0/24"},
	"timestamp":                 {"1767225600000000", "1767225600123456", "0", "-7", "9223372036854775807", "-9223372036854775808"},
	"recorded_at":               {"1767225600200000", "0", "9223372036854775807", "-9223372036854775808"},
	"duration_us":               {"0", "1", "999", "1500", "123456789", "-1", "9223372036854775807"},
	"request_bytes":             {"0", "12", "9223372036854775807"},
	"count":                     {"0", "1", "812"},
	"origin.sequence":           {"1", "18446744073709551615"},
	"actor.session_id":          {"", "s-1"},
	"actor.oauth_app_id":        {"", "app-1"},
	"actor.oauth_app_name":      {"", "App"},
	"actor.token_hash":          {"", "d2c0", "k:d2c0"},
	"actor.jwt_subject":         {"", "u", "sub"},
	"actor.jwt_issuer":          {"", "https://auth.example.com"},
	"actor.claimed.email":       {"", "claimed@example.com"},
	"request_id":                {"", "11111111-1111-4111-8111-111111111111"},
	"trace_id":                  {"", "4bf92f3577b34da6a3ce929d0e0e4736"},
	"retention.keep_until":      {"0", "1767225600000000"},
	"actor.certificate.sha256":  {"", "00ff"},
	"actor.user_agent":          {"", "cli/1 \"quoted\" <b> \u2028 \U0001f512"},
	"action.name":               {"", "Create project", "Создать \U0001f512 & <b>"},
	"actor.certificate.issuer":  {"", "CN=ca"},
	"actor.asserted_user_id":    {"", "other"},
	"response_bytes":            {"0", "34"},
	"actor.on_behalf_of":        {"", "someone"},
	"actor.claimed.sub":         {"", "claimed"},
	"retention.class":           {"default", "unattributed"},
	"policy.level":              {"metadata", "request"},
	"policy.durability":         {"strict", "answer"},
	"actor.other_token_hashes":  {"aa", "bb"},
	"action.route":              {"", "/v1/projects/{ref}"},
	"actor.certificate.subject": {"", "CN=client"},
	"actor.certificate.serial":  {"", "0f"},
	"actor.token_scope":         {"", "all"},
	"actor.token_alias":         {"", "sbp_b1"},
	"actor.jwt_role":            {"", "authenticated"},
	"actor.certificate.names":   {"spiffe://x"},
	"actor.amr":                 {"password", "totp"},
	"target.parent":             {"", "abc"},
	"origin.instance":           {"0198c0de-0000-7000-8000-00000000beef"},
	"actor.claimed.session_id":  {"", "cs"},
	"id":                        {"0198c0de-0000-7000-8000-000000000001"},
}

// ocsfRandom fills an entry with samples, leaving out what can be absent every
// now and then.
func ocsfRandom(r *rand.Rand) *Entry {
	e := new(Entry)
	ocsfFill(r, reflect.ValueOf(e).Elem(), "")
	e.ID = ocsfSamples["id"][0]
	return e
}

func ocsfFill(r *rand.Rand, v reflect.Value, path string) {
	text := func() string {
		if samples, ok := ocsfSamples[path]; ok {
			return samples[r.IntN(len(samples))]
		}
		return strconv.Itoa(r.IntN(1000))
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			ocsfFill(r, v.Field(i), joinPath(path, name))
		}
	case reflect.Pointer:
		if r.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			ocsfFill(r, v.Elem(), path)
		}
	case reflect.String:
		v.SetString(text())
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text(), 10, 64)
		if err != nil {
			panic(err)
		}
		v.SetInt(n)
	case reflect.Uint64:
		n, err := strconv.ParseUint(text(), 10, 64)
		if err != nil {
			panic(err)
		}
		v.SetUint(n)
	case reflect.Slice:
		for range r.IntN(3) {
			item := reflect.New(v.Type().Elem()).Elem()
			ocsfFill(r, item, path)
			v.Set(reflect.Append(v, item))
		}
	case reflect.Map:
		if r.IntN(2) == 0 {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(4) {
			item := reflect.New(v.Type().Elem()).Elem()
			ocsfFill(r, item, path+"[]")
			v.SetMapIndex(reflect.ValueOf("k"+strconv.Itoa(r.IntN(100))), item)
		}
	case reflect.Interface:
		values := []any{"text", 12.5, true, nil, json.Number("12345678901234567890"), map[string]any{"a": []any{"b", 1.0}}}
		if value := values[r.IntN(len(values))]; value != nil {
			v.Set(reflect.ValueOf(value))
		}
	default:
		panic("the entry has a field of a new kind: " + path)
	}
}

func TestEveryOCSFEventConformsToTheSchema(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 6003))
	seen := map[string]bool{}
	for i := range 1000 {
		e := ocsfRandom(r)
		if i%8 == 0 {
			e.Policy.Rule, e.Action.Method = "sidecar", ""
		}
		doc, err := OCSF(e)
		if err != nil {
			t.Fatal(err)
		}
		if faults := ocsfSchema().validate(doc); faults != nil {
			native, _ := e.Encode()
			t.Fatalf("%s\n%s\n%s", strings.Join(faults, "\n"), native, doc)
		}
		seen[fmt.Sprintf("%s of %v", e.Outcome, e.IsEvent())] = true
	}
	if len(seen) < 2*len(ocsfSamples["outcome"]) {
		t.Errorf("the samples do not have every outcome, of calls and of events: %v", seen)
	}
}

func TestTheOCSFSchemaTableSeesWhatIsWrong(t *testing.T) {
	good, err := OCSF(ocsfExample())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string]any){
		"actor is required":                    func(v map[string]any) { delete(v, "actor") },
		"actor. has none of":                   func(v map[string]any) { v["actor"] = map[string]any{} },
		"src_endpoint. has none of":            func(v map[string]any) { v["src_endpoint"] = map[string]any{} },
		"metadata.product is required":         func(v map[string]any) { delete(v["metadata"].(map[string]any), "product") },
		"surprise is no attribute":             func(v map[string]any) { v["surprise"] = 1 },
		"api.surprise is no attribute":         func(v map[string]any) { v["api"].(map[string]any)["surprise"] = 1 },
		"actor.invoked_by is deprecated":       func(v map[string]any) { v["actor"].(map[string]any)["invoked_by"] = "x" },
		"is not in the enum":                   func(v map[string]any) { v["severity_id"] = 7 },
		"type_uid is":                          func(v map[string]any) { v["type_uid"] = 600300 },
		"trace belongs to a profile":           func(v map[string]any) { delete(v["metadata"].(map[string]any), "profiles") },
		"status_code: 3 (json.Number)":         func(v map[string]any) { v["status_code"] = 3 },
		"resources is no list":                 func(v map[string]any) { v["resources"] = map[string]any{} },
		"is no ip_t":                           func(v map[string]any) { v["src_endpoint"] = map[string]any{"ip": "nowhere"} },
		"status is Fine":                       func(v map[string]any) { v["status"] = "Fine" },
		"status_id is 99 and nothing says":     func(v map[string]any) { v["status_id"] = 99; delete(v, "status") },
		"metadata.version is 1.0.0":            func(v map[string]any) { v["metadata"].(map[string]any)["version"] = "1.0.0" },
		"http_request.url.port: 65536":         func(v map[string]any) { v["http_request"].(map[string]any)["url"].(map[string]any)["port"] = 65536 },
		"time: 1.5 (json.Number) is no timest": func(v map[string]any) { v["time"] = 1.5 },
	} {
		var v map[string]any
		if err := json.Unmarshal(good, &v); err != nil {
			t.Fatal(err)
		}
		change(v)
		bad, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if faults := strings.Join(ocsfSchema().validate(bad), "\n"); !strings.Contains(faults, name) {
			t.Errorf("want %q, got: %s", name, faults)
		}
	}
}
