package otlp

import (
	"fmt"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// logsPath is where the specification has receivers take logs, below the base endpoint.
const logsPath = "/v1/logs"

// Config of a Store.
type Config struct {
	// HTTP says where requests go and how. Its URL's default path is /v1/logs.
	HTTP httpclient.Config
	// Compress is httpclient.CompressGzip, which empty is too, or CompressNone: the
	// specification has every receiver take these two.
	Compress string
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	c.HTTP = c.HTTP.WithDefaults()
	c.HTTP.DefaultPath = logsPath
	if c.Compress == "" {
		c.Compress = httpclient.CompressGzip
	}
	return c
}

// check says what is wrong with a configuration that has its defaults. No error shows
// a value that may be a credential.
func (c Config) check() (httpclient.Target, error) {
	t, err := c.HTTP.Check()
	if err != nil {
		return t, err
	}
	if c.Compress != httpclient.CompressGzip && c.Compress != httpclient.CompressNone {
		return t, fmt.Errorf("compress %q is not known: use %s or %s", c.Compress, httpclient.CompressGzip, httpclient.CompressNone)
	}
	return t, nil
}

func describe(location string) forwarder.Description {
	return forwarder.Description{Kind: "otlp", Location: location, Delivery: forwarder.DeliveryAtLeastOnce}
}

// batching is what suits the receiver.
func (c Config) batching() forwarder.Batching {
	if c.HTTP.MaxBody == 0 {
		return httpclient.Batching(forwarder.DefaultBatchBytes)
	}
	// The attributes of an entry are about as large as its JSON. Write divides what is
	// larger all the same.
	return httpclient.Batching(c.HTTP.MaxBody / 2)
}
