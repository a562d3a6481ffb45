package audit

import (
	"bytes"
	"encoding/json"
)

// Born fills in the target that the call made, from the JSON body of its answer:
// path leads to the target's id; see Operation.Born. It reports whether it was
// found.
func (e *Entry) Born(p *Platform, path string, body []byte) bool {
	if e.Target == nil || e.Target.ID != "" {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var at any
	if d.Decode(&at) != nil {
		return false
	}
	names, _, err := parsePath(path)
	if err != nil {
		return false
	}
	for _, name := range names {
		object, _ := at.(map[string]any)
		if at = object[name.text]; name.each {
			return false // of several none is the one that was made
		}
	}
	var id string
	switch v := at.(type) {
	case string:
		id = v
	case json.Number:
		id = v.String()
	}
	if id == "" {
		return false
	}
	e.Target.ID = recorder{e, p}.text("target.id", id)
	if e.Target.Type == typeProject && e.ProjectRef == "" {
		e.ProjectRef = e.Target.ID
	}
	return true
}
