package otlp

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
)

const unread = "what a receiver has taken is its own: this store neither reads nor changes it"

// declared are the cases that no store of this kind has.
var declared = map[string]string{
	"a pruned entry does not come back":                                 unread,
	"a redacted text does not come back":                                unread,
	"Read yields each entry once, in its highest revision and in order": unread,
	"each field of a query narrows":                                     unread,
	"a reader that stops halfway delays no write":                       unread,
	"Received and Missing are what arrived":                             unread,
	"Highest is the highest sequence that was taken":                    unread,
}

// The receiver is one of this test's own, with every fault. The real Collector is in
// collector_test.go.
func TestTheStoreKeepsItsContractWithAReceiverOfTheTest(t *testing.T) {
	t.Run("HTTP/1.1, gzip, refuses by 400", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) *storetest.Target {
			return contractTarget(t, false, httpclient.CompressGzip, receive(t))
		},
			storetest.Options{NotApplicable: declared})
	})
	t.Run("HTTP/2, not compressed, refuses in a success", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) *storetest.Target {
			how := receive(t)
			how.Refuse = func(w http.ResponseWriter, req *http.Request) {
				answers(http.StatusOK, mediaProtobuf, response(t, 1, fmt.Sprint("not with these: ", req.Header)))(w, req)
			}
			return contractTarget(t, true, httpclient.CompressNone, how)
		}, storetest.Options{NotApplicable: declared})
	})
}

func contractTarget(t testing.TB, encrypted bool, compress string, how clienttest.Receive) *storetest.Target {
	const user, password, token = "planted-contract-user", "planted-contract-password", "planted-contract-token"
	t.Setenv("OTLP_CONTRACT_USER", user)
	t.Setenv("OTLP_CONTRACT_PASSWORD", password)
	t.Setenv("OTLP_CONTRACT_TOKEN", token)
	m := &Module{
		Options: httpclient.Options{
			Proxy:   httpclient.ProxyNone,
			Headers: []httpclient.Header{{Name: "X-Token", Value: "{env.OTLP_CONTRACT_TOKEN}"}},
		},
		Compress: compress,
	}
	var a *certtest.Authority
	scheme := "http"
	if encrypted {
		a = certtest.NewAuthority(t)
		scheme, m.TLS.CA = "https", certtest.Save(t, filepath.Join(t.TempDir(), "ca.pem"), a.PEM())
	}
	e := clienttest.NewEndpoint(t, how, a)
	m.URL = scheme + "://{env.OTLP_CONTRACT_USER}:{env.OTLP_CONTRACT_PASSWORD}@" + e.Address
	provision(t, m)
	return &storetest.Target{
		Opener:      m,
		Credentials: []string{user, password, token, base64.StdEncoding.EncodeToString([]byte(user + ":" + password))},
		Documents:   e.Documents, Refuse: e.Refuse, Break: e.Break, Slow: e.Slow, Cut: e.Cut,
	}
}

// receive is a receiver as the specification has it, but that it says too much.
func receive(t testing.TB) clienttest.Receive {
	return clienttest.Receive{
		Take: func(w http.ResponseWriter, req *http.Request, body []byte) ([][]byte, bool) {
			m, err := decode(req.Header, body)
			if err != nil || req.URL.Path != logsPath || req.Method != http.MethodPost {
				t.Errorf("%s %s: %v", req.Method, req.URL, err)
				answers(http.StatusInternalServerError, mediaProtobuf, statusOf(13, "what is this?"))(w, req)
				return nil, false
			}
			return documents(m), true
		},
		Refuse: func(w http.ResponseWriter, req *http.Request) {
			answers(http.StatusBadRequest, mediaProtobuf, statusOf(3, fmt.Sprint("not with these: ", req.Header)))(w, req)
		},
		Accept: answers(http.StatusOK, mediaProtobuf, nil),
	}
}
