package otlp

import (
	"fmt"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// The batches of this store.
const (
	// BatchEntries and BatchWait are the size of a batch while there is no backlog:
	// a request costs more than what is in it, so entries wait for others.
	BatchEntries = 250
	BatchWait    = time.Second
	// MaxBatchEntries is what batches grow to on a backlog.
	MaxBatchEntries = 1000
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
	b := forwarder.Batching{
		BatchEntries: BatchEntries, MaxBatchEntries: MaxBatchEntries,
		BatchBytes: forwarder.DefaultBatchBytes, BatchWait: BatchWait,
	}
	if c.HTTP.MaxBody > 0 {
		// The attributes of an entry are about as large as its JSON. Write divides what is
		// larger all the same.
		b.BatchBytes = min(b.BatchBytes, c.HTTP.MaxBody/2)
	}
	return b
}
