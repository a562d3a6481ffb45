package viewer

import (
	_ "embed"
	"net/http"
)

// openAPI describes the API, in OpenAPI 3.1.
//
//go:embed openapi.json
var openAPI []byte

// serveOpenAPI answers everybody: what the API looks like is no secret.
func (v *Viewer) serveOpenAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/vnd.oai.openapi+json;version=3.1")
	_, _ = w.Write(openAPI) // after an error there is nobody to tell
	return nil
}
