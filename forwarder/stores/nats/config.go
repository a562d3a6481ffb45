package natsstore

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/placeholder"
)

// The defaults of Config, and its bounds.
const (
	// DefaultStream is what the names of streams begin with.
	DefaultStream = "AUDIT"
	// DefaultSubject is what subjects begin with.
	DefaultSubject = "audit"
	// DefaultReplicas is how many servers of a cluster a stream lies on.
	DefaultReplicas = 3
	// MaxReplicas is the most that a server takes.
	MaxReplicas = 5
	// DefaultDuplicateWindow is how long a stream knows what it has. The server keeps an
	// id in memory for each message of that time.
	DefaultDuplicateWindow = 2 * time.Hour
	// DefaultTimeout is what the acknowledgement of a message may take, and the answer to
	// a question about a stream.
	DefaultTimeout = 10 * time.Second
	// MaxTimeout is the longest that may be configured.
	MaxTimeout = 10 * time.Minute
	// maxServers bounds the list of servers.
	maxServers = 64
	// maxName bounds the configured parts of names and subjects, in bytes.
	maxName = 64
)

// Config of a Store. What may be a credential is a placeholder, {env.NAME} or
// {file.PATH}. All but NKey are read again each time that the store connects, so that
// one that was renewed is found.
type Config struct {
	// Servers are the URLs of a cluster's servers, nats:// or tls://. The first one's host
	// is what the destination is known by. User and password in them are placeholders, and
	// are shown to every server of the list. No other server is connected to, even if a
	// server names some.
	Servers []string
	// Stream is what the names of streams begin with: a stream is called STREAM_CLASS.
	// Empty is DefaultStream.
	Stream string
	// Subject is what subjects begin with: an entry's is SUBJECT.CLASS.INSTANCE. Empty is
	// DefaultSubject.
	Subject string
	// Domain is the JetStream domain of the streams. Empty is that of the server.
	Domain string
	// Replicas of a stream that is created. Zero is DefaultReplicas.
	Replicas int
	// NoCreate says that streams that are missing are an error and not created.
	NoCreate bool
	// MaxAge is how long a stream that is created keeps messages, by class; that of the
	// class "" is for all others. Zero is for ever.
	MaxAge map[string]time.Duration
	// MaxBytes bounds a stream that is created: beyond it the stream takes nothing more.
	// Zero is no bound but the account's.
	MaxBytes int64
	// DuplicateWindow of a stream that is created. Zero is DefaultDuplicateWindow, or
	// MaxAge if that is less.
	DuplicateWindow time.Duration
	// DenyDelete and DenyPurge of a stream that is created let nobody take messages out of
	// it. They cannot be taken back.
	DenyDelete, DenyPurge bool
	// Timeout of one acknowledgement. Zero is DefaultTimeout.
	Timeout time.Duration
	// Credentials is the name of a file with a user's JWT and seed.
	Credentials string
	// NKey is a placeholder for the seed of an nkey, {file.PATH}. Which key it is, is read
	// in Open.
	NKey string
	// User and Password are placeholders.
	User, Password string
	// Token is a placeholder.
	Token string
	TLS   TLS
	// Insecure allows servers that are not on this host without TLS.
	Insecure bool
	// Resolve returns what one placeholder stands for, and else an error that does
	// not show it. Nil knows none.
	Resolve func(placeholder string) (string, error)
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	if c.Stream == "" {
		c.Stream = DefaultStream
	}
	if c.Subject == "" {
		c.Subject = DefaultSubject
	}
	if c.Replicas == 0 {
		c.Replicas = DefaultReplicas
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

// check says what is wrong with a configuration that has its defaults, and returns its
// servers. User, Password and Token of the URLs move into the configuration. No error
// shows a value that may be a credential.
func (c *Config) check() ([]server, error) {
	servers, err := c.checkServers()
	if err != nil {
		return nil, err
	}
	if err := c.checkNames(); err != nil {
		return nil, err
	}
	if c.Replicas < 1 || c.Replicas > MaxReplicas {
		return nil, fmt.Errorf("replicas %d is out of range: use 1 to %d", c.Replicas, MaxReplicas)
	}
	if c.MaxBytes < 0 {
		return nil, fmt.Errorf("max_bytes %d is out of range: use a size above zero, or none", c.MaxBytes)
	}
	for _, class := range slices.Sorted(maps.Keys(c.MaxAge)) {
		if age := c.MaxAge[class]; age < time.Hour {
			return nil, fmt.Errorf("max_age %s is shorter than an hour, and what is older is gone: use a longer one", age)
		}
	}
	if c.DuplicateWindow != 0 && c.DuplicateWindow < time.Second {
		return nil, fmt.Errorf("duplicate_window %s is out of range: use a second or more", c.DuplicateWindow)
	}
	if c.Timeout < 0 || c.Timeout > MaxTimeout {
		return nil, fmt.Errorf("timeout %s is out of range: use one up to %s", c.Timeout, MaxTimeout)
	}
	return servers, c.checkCredentials()
}

func (c *Config) checkServers() ([]server, error) {
	if len(c.Servers) == 0 || len(c.Servers) > maxServers {
		return nil, fmt.Errorf("there are %d URLs of servers: name 1 to %d, as in nats://nats-1.example.com:4222", len(c.Servers), maxServers)
	}
	var servers []server
	for _, text := range c.Servers {
		s, err := parseServer(text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(servers, func(other server) bool { return other.host == s.host }) {
			return nil, fmt.Errorf("server %s is named twice: take one out", s.host)
		}
		if err := c.adopt(s); err != nil {
			return nil, err
		}
		if c.TLS != (TLS{}) {
			s.tls = true
		}
		if !s.tls && !s.loopback() && !c.Insecure {
			return nil, fmt.Errorf("nats://%s is not encrypted: write tls://, or the option insecure if the network may see every entry", s.host)
		}
		servers = append(servers, s)
	}
	for _, s := range servers {
		if s.tls != servers[0].tls {
			return nil, fmt.Errorf("tls:// and nats:// are mixed: write one of them for all servers, %s too", s.host)
		}
	}
	return servers, nil
}

// adopt takes the user of a URL into the configuration, which has one for all servers.
func (c *Config) adopt(s server) error {
	if s.user == "" {
		return nil
	}
	user, password, token := s.user, s.password, ""
	if password == "" { // as NATS reads it
		user, token = "", s.user
	}
	if c.User == user && c.Password == password && c.Token == token {
		return nil
	}
	if c.User != "" || c.Password != "" || c.Token != "" {
		return errors.New("there are several users: name one, in a URL or by the option user or token, which is for all servers")
	}
	c.User, c.Password, c.Token = user, password, token
	return nil
}

func (c *Config) checkNames() error {
	if !isToken(c.Stream) {
		return fmt.Errorf("stream %q is not a name: use letters, digits, - and _, up to %d", c.Stream, maxName)
	}
	if c.Domain != "" && !isToken(c.Domain) {
		return fmt.Errorf("domain %q is not a name: use letters, digits, - and _, up to %d", c.Domain, maxName)
	}
	for token := range strings.SplitSeq(c.Subject, ".") {
		if !isToken(token) || len(c.Subject) > maxName || strings.HasPrefix(c.Subject, "_INBOX") {
			return fmt.Errorf("subject %q cannot be the beginning of a subject: use letters, digits, - and _, with dots between them, up to %d", c.Subject, maxName)
		}
	}
	return nil
}

func (c *Config) checkCredentials() error {
	ways := 0
	for _, way := range []string{c.Credentials, c.NKey, c.User, c.Token} {
		if way != "" {
			ways++
		}
	}
	if ways > 1 {
		return errors.New("there are several ways to sign in: keep one of credentials, nkey, user and token")
	}
	if (c.User == "") != (c.Password == "") {
		return errors.New("a user has no password, or the other way: name both")
	}
	for option, value := range map[string]string{"nkey": c.NKey, "user": c.User, "password": c.Password, "token": c.Token} {
		if value != "" && !placeholder.Is(value) {
			return fmt.Errorf("%s is written out: give it by a placeholder, as in {env.AUDIT_NATS} or {file./run/secrets/nats}", option)
		}
	}
	if c.NKey != "" && fileOf(c.NKey) == "" {
		return errors.New("nkey is not a file: give its seed by {file.PATH}")
	}
	return c.TLS.Check()
}

// fileOf is the file that a placeholder stands for, if it is one.
func fileOf(placeholder string) string {
	if name, ok := strings.CutPrefix(placeholder, "{file."); ok {
		return strings.TrimSuffix(name, "}")
	}
	return ""
}

// maxAge is how long the stream of a class keeps messages; zero is for ever.
func (c *Config) maxAge(class string) time.Duration {
	if age, ok := c.MaxAge[class]; ok {
		return age
	}
	return c.MaxAge[""]
}

// window is the duplicate window of the stream of a class, which no server takes if it
// is longer than what the stream keeps.
func (c *Config) window(class string) time.Duration {
	window := c.DuplicateWindow
	if window == 0 {
		window = DefaultDuplicateWindow
	}
	if age := c.maxAge(class); age > 0 {
		window = min(window, age)
	}
	return window
}

// describe names the first server, so that others can be added and taken out, and what
// streams are called.
func (c *Config) describe(servers []server) forwarder.Description {
	location := "nats://" + servers[0].host + "/"
	if c.Domain != "" {
		location += c.Domain + "/"
	}
	return forwarder.Description{Kind: "nats", Location: location + c.Stream, Delivery: forwarder.DeliveryAtLeastOnce}
}

// isToken reports whether a text can be a part of a stream's name and of a subject, as
// it is.
func isToken(s string) bool {
	return s != "" && len(s) <= maxName && strings.IndexFunc(s, func(r rune) bool { return r > math.MaxInt8 || !isPlain(byte(r)) }) < 0
}
