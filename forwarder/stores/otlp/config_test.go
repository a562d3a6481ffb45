package otlp

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
		"https://collector.example.com:4318":                  "https://collector.example.com:4318/v1/logs",
		"https://collector.example.com:4318/":                 "https://collector.example.com:4318/v1/logs",
		"HTTPS://Collector.example.com:443":                   "https://collector.example.com/v1/logs",
		"https://collector.example.com/v1/logs":               "https://collector.example.com/v1/logs",
		"https://gateway.example.com/otlp/v1/logs":            "https://gateway.example.com/otlp/v1/logs",
		"https://gateway.example.com/otlp":                    "https://gateway.example.com/otlp",
		"https://gateway.example.com?tenant=1":                "https://gateway.example.com/v1/logs",
		"https://{env.U}:{env.P}@gateway.example.com":         "https://gateway.example.com/v1/logs",
		"https://gateway.example.com/{env.TENANT}/v1/logs":    "https://gateway.example.com/{env.TENANT}/v1/logs",
		"http://127.0.0.1:4318":                               "http://127.0.0.1:4318/v1/logs",
		"http://[::1]:4318/v1/logs?api_key={file./run/key}":   "http://[::1]:4318/v1/logs",
		"https://collector.example.com:4318/v1/logs/{env.ID}": "https://collector.example.com:4318/v1/logs/{env.ID}",
	} {
		s, err := Open(config(url), nil)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		want := forwarder.Description{Kind: "otlp", Location: want, Delivery: forwarder.DeliveryAtLeastOnce}
		if diff := cmp.Diff(want, s.Describe()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
		s.Close()
	}
}

func TestAConfigurationThatCannotBeMeantIsRefusedWithACure(t *testing.T) {
	const url = "https://collector.example.com:4318"
	for name, c := range map[string]struct {
		change func(*Config)
		cure   []string
	}{
		"no URL":         {func(c *Config) { c.HTTP.URL = "" }, []string{"empty", "https://"}},
		"gRPC":           {func(c *Config) { c.HTTP.URL = "grpc://collector.example.com:4317" }, []string{"https://"}},
		"a password":     {func(c *Config) { c.HTTP.URL = "https://me:planted@collector.example.com" }, []string{"placeholder"}},
		"not encrypted":  {func(c *Config) { c.HTTP.URL = "http://collector.example.com:4318" }, []string{"https://", "insecure"}},
		"a compression":  {func(c *Config) { c.Compress = "zstd" }, []string{"gzip", "none"}},
		"a timeout":      {func(c *Config) { c.HTTP.Timeout = time.Hour }, []string{"10m"}},
		"a body":         {func(c *Config) { c.HTTP.MaxBody = 1 }, []string{"65536"}},
		"a header's key": {func(c *Config) { c.HTTP.Headers = []httpclient.Header{{Name: "dd-api-key", Value: "planted"}} }, []string{"placeholder"}},
		"a header of HTTP": {
			func(c *Config) { c.HTTP.Headers = []httpclient.Header{{Name: "Content-Type", Value: "x"}} },
			[]string{"take it out"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			of := config(url)
			c.change(&of)
			_, err := Open(of, nil)
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
	want.BatchBytes = 1 << 19
	if diff := cmp.Diff(want, Config{HTTP: httpclient.Config{MaxBody: 1 << 20}}.batching()); diff != "" {
		t.Errorf("with a bound (-want +got):\n%s", diff)
	}
}
