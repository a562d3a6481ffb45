package httpstore

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
)

func TestTheLocationIsWhereEntriesGoAndNothingElse(t *testing.T) {
	for url, want := range map[string]string{
		"https://siem.example.com":                                    "https://siem.example.com/",
		"https://siem.example.com/":                                   "https://siem.example.com/",
		"HTTPS://SIEM.example.com:443/In":                             "https://siem.example.com/In",
		"https://siem.example.com:8443/in?index=main":                 "https://siem.example.com:8443/in",
		"https://siem.example.com?key={env.KEY}":                      "https://siem.example.com/",
		"https://{env.U}:{file./run/p@ss:word}@siem.example.com/in":   "https://siem.example.com/in",
		"https://{env.TOKEN}@siem.example.com/in":                     "https://siem.example.com/in",
		"https://siem.example.com/{file./run/a?b#c}/in?x={file./d#e}": "https://siem.example.com/{file./run/a?b#c}/in",
		"https://siem.example.com/services/{env.PATH}":                "https://siem.example.com/services/{env.PATH}",
		"http://localhost:80/in":                                      "http://localhost/in",
		"http://127.0.0.1:9000/in":                                    "http://127.0.0.1:9000/in",
		"http://127.9.9.9/in":                                         "http://127.9.9.9/in",
		"http://[::1]:9000/in":                                        "http://[::1]:9000/in",
	} {
		s, err := Open(Config{URL: url}, nil)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		want := forwarder.Description{Kind: "http", Location: want, Delivery: forwarder.DeliveryAtLeastOnce}
		if diff := cmp.Diff(want, s.Describe()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
		s.Close()
	}
}

func TestAConfigurationThatCannotBeMeantIsRefusedWithACure(t *testing.T) {
	const url = "https://siem.example.com/in"
	for name, c := range map[string]struct {
		config Config
		cure   []string
	}{
		"no URL":                    {Config{}, []string{"empty", "https://"}},
		"no scheme":                 {Config{URL: "siem.example.com/planted"}, []string{"https://"}},
		"another scheme":            {Config{URL: "ftp://planted@siem.example.com"}, []string{"https://"}},
		"all from a placeholder":    {Config{URL: "{env.URL}"}, []string{"{$NAME}"}},
		"a host from a placeholder": {Config{URL: "https://{env.HOST}/in"}, []string{"{$NAME}"}},
		"no host":                   {Config{URL: "https:///planted"}, []string{"host"}},
		"a host that is none":       {Config{URL: "https://a b/planted"}, []string{"host"}},
		"a port that is none":       {Config{URL: "https://siem.example.com:planted/"}, []string{"host"}},
		"a fragment":                {Config{URL: url + "#planted"}, []string{"fragment"}},
		"a path that is none":       {Config{URL: url + "/%zz-planted"}, []string{"escape"}},
		"a password":                {Config{URL: "https://me:planted@siem.example.com/in"}, []string{"placeholder"}},
		"a user":                    {Config{URL: "https://planted@siem.example.com/in"}, []string{"placeholder"}},
		"half a password":           {Config{URL: "https://{env.U}:planted{env.P}@siem.example.com/in"}, []string{"placeholder"}},
		"a key in the query":        {Config{URL: url + "?x=1&api_key=planted"}, []string{"api_key", "placeholder"}},
		"a variable of a request":   {Config{URL: url + "?x={http.request.uuid}"}, []string{"{http.", "{env.NAME}"}},
		"not encrypted":             {Config{URL: "http://siem.example.com/in"}, []string{"https://", "insecure"}},
		"not encrypted, by address": {Config{URL: "http://10.0.0.1/in"}, []string{"https://", "insecure"}},
		"a host like localhost":     {Config{URL: "http://localhost.example.com/in"}, []string{"https://", "insecure"}},
		"a method":                  {Config{URL: url, Method: "GET"}, []string{"POST"}},
		"an encoding":               {Config{URL: url, Encoding: "xml"}, []string{"ndjson"}},
		"a compression":             {Config{URL: url, Compress: "br"}, []string{"zstd"}},
		"a timeout":                 {Config{URL: url, Timeout: time.Hour}, []string{"10m"}},
		"a body":                    {Config{URL: url, MaxBody: 1}, []string{"65536"}},
		"a status of both":          {Config{URL: url, Success: Statuses{{200, 499}}}, []string{"400"}},
		"a secret":                  {Config{URL: url, Secrets: []string{"whsec_planted"}}, []string{"placeholder"}},
		"a header's name":           {Config{URL: url, Headers: []httpclient.Header{{Name: "X Y", Value: "z"}}}, []string{"letters"}},
		"a header of ours":          {Config{URL: url, Headers: []httpclient.Header{{Name: "webhook-ID", Value: "z"}}}, []string{"take it out"}},
		"a header of HTTP":          {Config{URL: url, Headers: []httpclient.Header{{Name: "host", Value: "z"}}}, []string{"take it out"}},
		"a header's break":          {Config{URL: url, Headers: []httpclient.Header{{Name: "X-Y", Value: "planted\r\nX-Z: 1"}}}, []string{"control character"}},
		"a header's token":          {Config{URL: url, Headers: []httpclient.Header{{Name: "X-Splunk-Token", Value: "planted"}}}, []string{"placeholder"}},
		"a header's key":            {Config{URL: url, Headers: []httpclient.Header{{Name: "dd-api-key", Value: "planted"}}}, []string{"placeholder"}},
		"authorization":             {Config{URL: url, Headers: []httpclient.Header{{Name: "Authorization", Value: "Splunk planted"}}}, []string{"placeholder"}},
		"a bearer elsewhere":        {Config{URL: url, Headers: []httpclient.Header{{Name: "X-Forward", Value: "bearer planted"}}}, []string{"placeholder"}},
		"another placeholder":       {Config{URL: url, Headers: []httpclient.Header{{Name: "Authorization", Value: "{http.request.header.Authorization}"}}}, []string{"{env.NAME}"}},
		"half a client certificate": {Config{URL: url, TLS: httpclient.TLS{Certificate: "c.pem"}}, []string{"two files"}},
		"TLS without TLS":           {Config{URL: "http://127.0.0.1/", TLS: httpclient.TLS{CA: "c.pem"}}, []string{"https://"}},
		"a proxy's password":        {Config{URL: url, Proxy: "http://u:planted@proxy.example.com"}, []string{"proxy", "placeholder"}},
		"a proxy's scheme":          {Config{URL: url, Proxy: "proxy.example.com:3128"}, []string{"proxy", "http://", "socks5://"}},
		"not encrypted, by a proxy": {Config{URL: "http://127.0.0.1/", Proxy: "http://proxy.example.com:3128"}, []string{"https://", "insecure"}},
		"a proxy's path":            {Config{URL: url, Proxy: "http://proxy.example.com/x"}, []string{"proxy", "path"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(c.config, nil)
			clienttest.Mentions(t, err, c.cure...)
			if err != nil && strings.Contains(err.Error(), "planted") {
				t.Errorf("the error shows what may be a credential: %v", err)
			}
		})
	}
}

func TestBatchesSuitAReceiver(t *testing.T) {
	want := forwarder.Batching{BatchEntries: 250, MaxBatchEntries: 1000, BatchBytes: 4 << 20, BatchWait: time.Second}
	if diff := cmp.Diff(want, Config{}.batching()); diff != "" {
		t.Errorf("batching (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, Config{MaxBody: 64 << 20}.batching()); diff != "" {
		t.Errorf("with a high bound (-want +got):\n%s", diff)
	}
	if got := (Config{MaxBody: 1 << 20}).batching().BatchBytes; got > 1<<20 || got < 1<<20-2000 {
		t.Errorf("with a low bound: %d bytes", got)
	}
}

func TestStatusesAreReadStrictly(t *testing.T) {
	got, err := ParseStatuses("200-299", "409", "204")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Statuses{{200, 299}, {409, 409}, {204, 204}}, got); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	for _, text := range []string{"", "-", "2xx", "199", "600", "1000", "0200", "+200", "-200", "299-200", "200-", "-299", "200-299-300", "200 - 299", "２００"} {
		if s, err := ParseStatuses(text); err == nil {
			t.Errorf("%q is %v", text, s)
		} else {
			clienttest.Mentions(t, err, "200-299")
		}
	}
}
