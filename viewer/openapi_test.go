package viewer

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/caddy-audit-log/caddy-audit-log/viewer/page"
)

func TestTheDescriptionHasEveryRouteAndParameter(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	for _, to := range routes {
		if to.page || !strings.HasPrefix(to.pattern, "GET /platform/") && to.name != "openapi" {
			continue
		}
		if !described[to.pattern] {
			t.Errorf("%s is not described", to.pattern)
		}
		delete(described, to.pattern)
	}
	for missing := range described {
		t.Errorf("%s is described, and not there", missing)
	}
	for _, name := range append([]string{page.ParamStart, page.ParamEnd, page.ParamCursor, paramLimit}, filterParams...) {
		if doc.Paths.Find(auditPath("{slug}")).Get.Parameters.GetByInAndName("query", name) == nil {
			t.Errorf("parameter %s is not described", name)
		}
	}
}

// Each answer is held against its description.
func TestEveryAnswerIsAsDescribed(t *testing.T) {
	r := newRig(t)
	e := entryOf("acme", time.Second)
	r.write(e, entryOf("acme", 2*time.Second))
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	for path, template := range map[string]string{
		auditPath("acme"): auditPath("{slug}"), auditPath("acme") + "?limit=1&status=2xx": auditPath("{slug}"), auditPath("acme") + "?limit=0": auditPath("{slug}"),
		auditPath("other"): auditPath("{slug}"), auditPath("acme") + "/counts": auditPath("{slug}") + "/counts",
		auditPath("acme") + "/entries/" + e.ID: auditPath("{slug}") + "/entries/{id}", auditPath("acme") + "/entries/x": auditPath("{slug}") + "/entries/{id}",
		"/platform/profile/audit": "/platform/profile/audit",
	} {
		resp := r.get("member:acme", path)
		text := []byte(body(t, resp))
		item := doc.Paths.Find(template)
		input := &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{
				Request: resp.Request, Route: &routers.Route{Spec: doc, Path: template, PathItem: item, Method: http.MethodGet, Operation: item.Get},
			},
			Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(text)),
			Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
		}
		if err := openapi3filter.ValidateResponse(t.Context(), input); err != nil {
			t.Errorf("%s: %s: %v\n%.300s", path, resp.Status, err, text)
		}
	}
}
