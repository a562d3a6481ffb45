package s3

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/tlsfiles"
)

// The defaults and bounds of Config.
const (
	// DefaultTimeout is what one request may take.
	DefaultTimeout = time.Minute
	// MaxTimeout is the longest that may be configured.
	MaxTimeout = 10 * time.Minute
	// BatchEntries and BatchWait are what an object waits for while there is no backlog:
	// each costs a request, and is kept for years.
	BatchEntries = 5000
	BatchWait    = 10 * time.Second
	// MaxTerm is the longest term of a lock.
	MaxTerm = 100 * 366 * 24 * time.Hour
)

// The modes of a lock.
const (
	LockCompliance = "compliance"
	LockGovernance = "governance"
)

// The ways in which a server encrypts what it keeps.
const (
	EncryptionAES256 = "aes256"
	EncryptionKMS    = "kms"
)

// The ways in which a bucket is addressed.
const (
	AddressingPath    = "path"
	AddressingVirtual = "virtual"
)

// Where keys come from.
const (
	CredentialsEnv = "env"
	CredentialsIAM = "iam"
)

const (
	envAccessKey    = "{env.AWS_ACCESS_KEY_ID}"
	envSecretKey    = "{env.AWS_SECRET_ACCESS_KEY}"
	envSessionToken = "{env.AWS_SESSION_TOKEN}"
)

// Lock says how long nobody can delete what is written.
type Lock struct {
	// Mode is LockCompliance or LockGovernance; empty is no lock.
	Mode string
	// Term is how long from the writing on. Zero is for as long as the entries are kept,
	// which their retention says, and at least minLock.
	Term time.Duration
}

// Config of a Store.
type Config struct {
	// URL is https://ENDPOINT/BUCKET[/PREFIX], or s3://BUCKET[/PREFIX] for that of AWS in
	// Region.
	URL string
	// Region is what requests are signed for. Empty is that in the host of an endpoint of
	// AWS, and else us-east-1.
	Region string
	// AccessKey, SecretKey and SessionToken are placeholders. Empty are AWS's variables
	// in the environment.
	AccessKey, SecretKey, SessionToken string
	// Credentials is CredentialsEnv, which empty is too, or CredentialsIAM.
	Credentials string
	Lock        Lock
	LegalHold   bool
	// Encryption is EncryptionAES256, EncryptionKMS with KMSKey, or empty for what the
	// bucket does by itself.
	Encryption, KMSKey string
	StorageClass       string
	// Addressing is AddressingPath or AddressingVirtual. Empty is virtual for AWS.
	Addressing string
	// Create makes the bucket if there is none.
	Create bool
	// Timeout of one request. Zero is DefaultTimeout.
	Timeout time.Duration
	TLS     TLS
	// Insecure allows http:// to a host that is not this one.
	Insecure bool
	// Resolve returns what one placeholder stands for, and else an error that does not
	// show it. Nil knows none.
	Resolve func(placeholder string) (string, error)
}

// TLS names files, in PEM. They are read when the store is opened, a client's
// certificate for each connection.
type TLS = tlsfiles.Files

func (c Config) withDefaults() Config {
	if c.Credentials == "" {
		c.Credentials = CredentialsEnv
	}
	if c.AccessKey == "" && c.SecretKey == "" && c.SessionToken == "" && c.Credentials == CredentialsEnv {
		c.AccessKey, c.SecretKey, c.SessionToken = envAccessKey, envSecretKey, envSessionToken
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Resolve == nil {
		c.Resolve = func(placeholder string) (string, error) {
			return "", fmt.Errorf("nothing replaces the placeholder %s here", placeholder)
		}
	}
	return c
}

// target is where the objects go.
type target struct {
	scheme, host   string
	bucket, prefix string
	region         string
}

// awsHost is an endpoint of AWS for a region.
var awsHost = regexp.MustCompile(`^s3[.-](?:fips[.-]|dualstack\.)?(?:([a-z0-9-]+)\.)?amazonaws\.com(?:\.cn)?$`)

func (t target) aws() bool { return awsHost.MatchString(t.host) }

// location is the same however the URL was written.
func (t target) location() string {
	s := t.scheme + "://" + t.host + "/" + t.bucket
	if t.prefix != "" {
		s += "/" + t.prefix
	}
	return s
}

var (
	bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixForm = regexp.MustCompile(`^[A-Za-z0-9!_.*'()=-]+(/[A-Za-z0-9!_.*'()=-]+)*$`)
	regionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,63}$`)
	classForm  = regexp.MustCompile(`^[A-Z0-9_-]{1,64}$`)
	kmsForm    = regexp.MustCompile(`^[\x21-\x7e]{1,1000}$`)
)

// maxPrefix leaves room for the rest of a name, of which a server takes 1024 bytes.
const maxPrefix = 256

// parseTarget takes a URL apart. Its errors show no more of it than its host, since what
// stands in the wrong place may be a credential.
func parseTarget(s, region string) (t target, err error) {
	const form = "write it as in https://s3.example.com/BUCKET/PREFIX or s3://BUCKET/PREFIX; in a Caddyfile {$NAME} can stand for a part of it"
	u, err := url.Parse(s)
	switch {
	case s == "":
		return t, errors.New("the URL is empty: " + form)
	case err != nil || u.Opaque != "":
		return t, errors.New("the URL cannot be read: " + form)
	case u.User != nil:
		return t, errors.New("the URL has a user: take it out, and give keys by the options access_key and secret_key")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return t, errors.New("the URL has a query or a fragment: take it out, and give options in the store's block")
	case region != "" && !regionForm.MatchString(region):
		return t, fmt.Errorf("region %q is not one: write it as in eu-central-1", region)
	}
	path := strings.Trim(u.Path, "/")
	switch u.Scheme {
	case "s3":
		region = strings.ToLower(region) // it is a part of the host
		if region == "" {
			return t, errors.New("s3:// needs the option region, as in: region eu-central-1; or name the endpoint, as in https://s3.eu-central-1.amazonaws.com/BUCKET")
		}
		if u.Port() != "" {
			return t, errors.New("s3:// names a bucket, and a bucket has no port: for a server of your own write https://HOST:PORT/BUCKET")
		}
		t.scheme, t.host, t.region, t.bucket, t.prefix = "https", "s3."+region+".amazonaws.com", region, u.Host, path
		if strings.HasPrefix(region, "cn-") {
			t.host += ".cn"
		}
	case "https", "http":
		t.scheme, t.host, t.region = u.Scheme, strings.ToLower(u.Host), region
		t.bucket, t.prefix, _ = strings.Cut(path, "/")
		port := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]
		t.host = strings.TrimSuffix(strings.TrimSuffix(t.host, port), ":")
		if t.region == "" {
			t.region = "us-east-1"
			if m := awsHost.FindStringSubmatch(t.host); m != nil && m[1] != "" {
				t.region = m[1]
			}
		}
		if u.Hostname() == "" {
			return t, errors.New("the URL has no host: " + form)
		}
	default:
		return t, errors.New("the URL does not begin with https:// or s3://: " + form)
	}
	t.prefix = strings.Trim(t.prefix, "/")
	switch {
	case !bucketForm.MatchString(t.bucket) || strings.Contains(t.bucket, ".."):
		return t, fmt.Errorf("the URL of %s names no bucket: behind the host comes its name, 3 to 63 small letters, digits, dots and hyphens", t.host)
	case t.prefix != "" && !prefixForm.MatchString(t.prefix) || len(t.prefix) > maxPrefix || hasDots(t.prefix):
		return t, fmt.Errorf("the prefix behind bucket %s: it is up to %d letters, digits and !_.*'()=- with slashes between", t.bucket, maxPrefix)
	}
	return t, nil
}

func hasDots(prefix string) bool {
	return slices.ContainsFunc(strings.Split(prefix, "/"), func(part string) bool { return part == "." || part == ".." })
}

// loopback reports whether the endpoint is this machine.
func (t target) loopback() bool {
	name := t.host
	if h, _, err := net.SplitHostPort(t.host); err == nil {
		name = h
	}
	ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return name == "localhost" || err == nil && ip.IsLoopback()
}

// check says what is wrong with a configuration that has its defaults. No error shows a
// value that may be a credential.
func (c Config) check() (target, error) {
	t, err := parseTarget(c.URL, c.Region)
	if err != nil {
		return t, err
	}
	switch {
	case t.scheme == "http" && !t.loopback() && !c.Insecure:
		return t, fmt.Errorf("%s is not encrypted: write https://, or the option insecure if the network may see every entry", t.location())
	case c.TLS != (TLS{}) && t.scheme == "http":
		return t, fmt.Errorf("%s has no TLS: write https://, or take the tls options out", t.location())
	case c.TLS.Check() != nil:
		return t, c.TLS.Check()
	case c.Credentials != CredentialsEnv && c.Credentials != CredentialsIAM:
		return t, fmt.Errorf("credentials %q is not known: use %s or %s", c.Credentials, CredentialsEnv, CredentialsIAM)
	case c.Credentials == CredentialsIAM && (c.AccessKey != "" || c.SecretKey != "" || c.SessionToken != ""):
		return t, errors.New("there are keys, and credentials iam as well: take one of them out")
	case c.Credentials == CredentialsEnv && (c.AccessKey == "" || c.SecretKey == ""):
		return t, errors.New("access_key and secret_key go together: give both, or neither for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment")
	case c.Timeout < 0 || c.Timeout > MaxTimeout:
		return t, fmt.Errorf("timeout %s is out of range: use one up to %s", c.Timeout, MaxTimeout)
	case c.Addressing != "" && c.Addressing != AddressingPath && c.Addressing != AddressingVirtual:
		return t, fmt.Errorf("addressing %q is not known: use %s or %s", c.Addressing, AddressingPath, AddressingVirtual)
	case c.StorageClass != "" && !classForm.MatchString(c.StorageClass):
		return t, fmt.Errorf("storage_class %q is not one: write it as in STANDARD_IA", c.StorageClass)
	}
	if err := c.checkKept(); err != nil {
		return t, err
	}
	return t, nil
}

// checkKept looks at how objects are kept.
func (c Config) checkKept() error {
	switch c.Lock.Mode {
	case "":
		if c.Lock.Term != 0 {
			return errors.New("lock has no mode: write it as in: lock compliance 400d")
		}
	case LockCompliance, LockGovernance:
		if c.Lock.Term < 0 || c.Lock.Term > MaxTerm {
			return fmt.Errorf("lock %s %s is out of range: give a term above zero and up to 100 years, as in: lock compliance 400d, or none for as long as the entries are kept", c.Lock.Mode, c.Lock.Term)
		}
	default:
		return fmt.Errorf("lock %q is not known: use %s or %s", c.Lock.Mode, LockCompliance, LockGovernance)
	}
	switch c.Encryption {
	case "", EncryptionAES256:
		if c.KMSKey != "" {
			return errors.New("there is a KMS key and no encryption kms: write it as in: encryption kms KEYID")
		}
	case EncryptionKMS:
		if !kmsForm.MatchString(c.KMSKey) {
			return errors.New("encryption kms needs the key's id or ARN, as in: encryption kms arn:aws:kms:eu-central-1:123456789012:key/ID")
		}
	case "sse-c", "ssec", "c", "customer":
		return errors.New("encryption with a customer's key (SSE-C) is not offered: whoever reads the archive in ten years would need the key of today, and a key that is lost is an archive that is lost; use aes256 or kms KEYID")
	default:
		return fmt.Errorf("encryption %q is not known: use %s or %s KEYID", c.Encryption, EncryptionAES256, EncryptionKMS)
	}
	return nil
}

func (c Config) describe(t target) forwarder.Description {
	return forwarder.Description{Kind: "s3", Location: t.location(), Delivery: forwarder.DeliveryAtLeastOnce}
}

// batching makes objects that are not tiny.
func (c Config) batching() forwarder.Batching {
	return forwarder.Batching{
		BatchEntries: BatchEntries, MaxBatchEntries: BatchEntries,
		BatchBytes: forwarder.DefaultBatchBytes, BatchWait: BatchWait,
	}
}
