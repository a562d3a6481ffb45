package audit

import "testing"

func TestATargetIsReadByAPathAsCapturesAre(t *testing.T) {
	const body = `{"id":7,"data":{"ref.x":"abc","list":[{"id":"l"}]},"empty":"","object":{}}`
	for path, want := range map[string]string{
		"id": "7", `data.ref\.x`: "abc", "data.ref.x": "", "data.list.*.id": "", "empty": "", "object": "", "missing.id": "", "": "", "a..b": "",
	} {
		e := &Entry{Target: &Target{Type: "thing"}}
		if found := e.Born(nil, path, []byte(body)); e.Target.ID != want || found != (want != "") {
			t.Errorf("%q: %q, %v", path, e.Target.ID, found)
		}
	}
	for _, e := range []*Entry{{}, {Target: &Target{ID: "known"}}} {
		if e.Born(nil, "id", []byte(body)) || e.Target != nil && e.Target.ID != "known" {
			t.Errorf("%+v", e.Target)
		}
	}
}
