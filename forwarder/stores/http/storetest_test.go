package httpstore

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
)

func TestTheStoreKeepsItsContract(t *testing.T) {
	const unread = "what a receiver has taken is its own: this store neither reads nor changes it"
	o := storetest.Options{NotApplicable: map[string]string{
		"a pruned entry does not come back":                                 unread,
		"a redacted text does not come back":                                unread,
		"Read yields each entry once, in its highest revision and in order": unread,
		"each field of a query narrows":                                     unread,
		"a reader that stops halfway delays no write":                       unread,
		"Received and Missing are what arrived":                             unread,
		"Highest is the highest sequence that was taken":                    unread,
	}}
	t.Run("HTTP/1.1, NDJSON, gzip", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) *storetest.Target {
			return contractTarget(t, false, EncodingNDJSON, httpclient.CompressGzip)
		}, o)
	})
	t.Run("HTTP/2, JSON, zstd", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) *storetest.Target {
			return contractTarget(t, true, EncodingJSON, httpclient.CompressZstd)
		}, o)
	})
}

func contractTarget(t testing.TB, encrypted bool, encoding, compress string) *storetest.Target {
	const user, password, token = "planted-contract-user", "planted-contract-password", "planted-contract-token"
	secret := secretOf("c")
	t.Setenv("HTTP_CONTRACT_USER", user)
	t.Setenv("HTTP_CONTRACT_PASSWORD", password)
	t.Setenv("HTTP_CONTRACT_TOKEN", token)
	t.Setenv("HTTP_CONTRACT_SECRET", secret)
	m := &Module{
		Options: httpclient.Options{
			Proxy:   httpclient.ProxyNone,
			Headers: []httpclient.Header{{Name: "X-Token", Value: "{env.HTTP_CONTRACT_TOKEN}"}},
		},
		Encoding: encoding, Compress: compress, Secrets: []string{"{env.HTTP_CONTRACT_SECRET}"},
	}
	var a *certtest.Authority
	scheme := "http"
	if encrypted {
		a = certtest.NewAuthority(t)
		scheme, m.TLS.CA = "https", certtest.Save(t, filepath.Join(t.TempDir(), "ca.pem"), a.PEM())
	}
	e := clienttest.NewEndpoint(t, clienttest.Receive{
		Take: func(w http.ResponseWriter, req *http.Request, body []byte) ([][]byte, bool) {
			docs, err := received{req, body}.documents(t)
			switch {
			case err != nil:
				http.Error(w, err.Error(), http.StatusBadRequest)
			case !verifies(secret, req.Header, body):
				http.Error(w, "signature", http.StatusUnauthorized)
			default:
				return docs, true
			}
			return nil, false
		},
		Refuse: func(w http.ResponseWriter, req *http.Request) {
			http.Error(w, everything(req), http.StatusUnprocessableEntity)
		},
	}, a)
	m.URL = scheme + "://{env.HTTP_CONTRACT_USER}:{env.HTTP_CONTRACT_PASSWORD}@" + e.Address + "/in"
	provision(t, m)
	return &storetest.Target{
		Opener: m,
		Credentials: []string{
			user, password, token, secret, strings.TrimPrefix(secret, "whsec_"), base64.StdEncoding.EncodeToString([]byte(user + ":" + password)),
		},
		Documents: e.Documents, Refuse: e.Refuse, Break: e.Break, Slow: e.Slow, Cut: e.Cut,
	}
}

// documents takes a body apart as a receiver does.
func (r received) documents(t testing.TB) (docs [][]byte, err error) {
	plain := r.plain(t)
	if r.Header.Get("Content-Type") == "application/x-ndjson" {
		for line := range bytes.Lines(plain) {
			docs = append(docs, bytes.TrimSuffix(line, []byte("\n")))
		}
		return docs, nil
	}
	d := json.NewDecoder(bytes.NewReader(plain))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	for d.More() {
		var doc json.RawMessage
		if err := d.Decode(&doc); err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("there is more behind the array")
	}
	return docs, nil
}
