// Package fake is what stand-ins for the product share, with which tests show
// that a whole run notices a product that breaks its promise.
package fake

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/oracle"
	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// Record is an entry, or something else that is written as JSON.
type Record map[string]any

// Describe makes the entry of a call; it finds its kind by trying them all.
func Describe(r *http.Request) Record {
	id := r.Header.Get(oracle.HeaderID)
	e := Record{"id": fmt.Sprintf("entry-%s", id), "timestamp": time.Now().UnixMicro()}
	for _, k := range append([]oracle.Kind{oracle.ReadKind}, oracle.Kinds...) {
		if k.Method == r.Method && k.Path(id) == r.URL.Path {
			e["action"] = Record{"method": k.Method, "route": k.Template}
			e["target"] = Record{"type": k.Target, "id": id}
			e["project_ref"] = k.Project(id)
		}
	}
	return e
}

// Finish adds how the call ended.
func (e Record) Finish(status int) {
	action, _ := e["action"].(Record)
	action["status"], e["revision"], e["outcome"] = status, 1, rig.OutcomeOf(status)
}

// Forward asks the API.
func Forward(r *http.Request) (int, http.Header, []byte) {
	body, _ := io.ReadAll(r.Body)
	out, err := http.NewRequest(r.Method, "http://"+os.Getenv("PLATFORM_API")+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return 502, nil, nil
	}
	out.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(out)
	if err != nil {
		return 502, nil, nil
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, answer
}

// Answer lets an answer go.
func Answer(w http.ResponseWriter, status int, head http.Header, body []byte) {
	for k := range head {
		w.Header().Set(k, head.Get(k))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).Flush()
}

// Socket is where the admin endpoint is to be.
func Socket() string {
	path, _, _ := strings.Cut(strings.TrimPrefix(os.Getenv("ADMIN_LISTEN"), "unix/"), "|")
	return path
}

// Admin serves the admin endpoint.
func Admin(h http.Handler) (*http.Server, error) {
	if err := os.RemoveAll(Socket()); err != nil { // a killed process left it
		return nil, err
	}
	l, err := net.Listen("unix", Socket())
	if err != nil {
		return nil, err
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: h}
	go func() { _ = srv.Serve(l) }() // returns when it is closed
	return srv, nil
}
