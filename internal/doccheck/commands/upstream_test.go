//go:build unix

package commands

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// person is the credential of somebody whom the API knows, and who is a member of acme.
const person = "sbp_0123456789abcdef0123456789abcdef01234567"

// api is the stand-in for the API behind, where the shipped Caddyfile looks for it.
func api(t *testing.T) {
	serve(t, "127.0.0.1:9000", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Header.Get("Authorization") != "Bearer "+person:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/v1/organizations/acme":
			fmt.Fprint(w, `{"id":"acme","slug":"acme","name":"Acme","plan":"enterprise"}`)
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{}`)
		default:
			fmt.Fprint(w, `{}`)
		}
	})
}

// siem takes entries, but for those in whose path is "refused-by-the-siem": these it finds at
// fault until it is mended.
func siem(t *testing.T, address string) (mended func(bool)) {
	var takesAll atomic.Bool
	serve(t, address, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); !takesAll.Load() && strings.Contains(string(body), "refused-by-the-siem") {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	})
	return takesAll.Store
}

func serve(t *testing.T, address string, handler http.HandlerFunc) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}
