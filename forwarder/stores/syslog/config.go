package syslogstore

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/tlsfiles"
)

// The defaults of Config, and its bounds.
const (
	// DefaultFacility is that of an audit log, 13.
	DefaultFacility = "audit"
	// DefaultAppName is the APP-NAME of each message.
	DefaultAppName = "caddy-audit-log"
	// DefaultEnterprise is the enterprise number that RFC 5612 reserves for examples.
	DefaultEnterprise = "32473"
	// DefaultTimeout is what the receiver has to take one batch.
	DefaultTimeout = 10 * time.Second
	// MaxTimeout is the longest that may be configured.
	MaxTimeout = 10 * time.Minute
	// DefaultResend is how long what was written is kept.
	DefaultResend = 30 * time.Second
	// MaxResend is the longest that may be configured.
	MaxResend = 10 * time.Minute
	// NoResend is a Config.Resend by which nothing is written again.
	NoResend = time.Duration(-1)
	// DefaultMaxMessage is what RFC 5425 says that a receiver should take, in bytes. It is
	// also all that rsyslog takes whole unless it is told otherwise.
	DefaultMaxMessage = 8 << 10
	// NoMaxMessage is a Config.MaxMessage that refuses nothing.
	NoMaxMessage = -1
	// MinMaxMessage is the least Config.MaxMessage, in bytes: what each receiver must
	// take according to RFC 5425.
	MinMaxMessage = 2048
	// maxKept bounds what is kept, in bytes; one batch that is larger is kept all the same.
	maxKept = 32 << 20
	// probation is how long a new connection must live before anything that was written
	// on it counts as written: a receiver that does not take our certificate, or what we
	// write, says so after it has let us write.
	probation = time.Second
)

// The lengths that RFC 5424 allows.
const (
	maxHostname = 255
	maxAppName  = 48
	maxProcID   = 128
	maxMsgID    = 32
	maxSDName   = 32
)

// Config of a Store.
type Config struct {
	// URL of the receiver: tls://HOST[:6514], tcp://HOST:PORT or unix:///PATH, a stream
	// socket. There is no default.
	URL string
	// Facility of each message, by name or as a number from 0 to 23. Empty is
	// DefaultFacility.
	Facility string
	// Hostname is the HOSTNAME of each message. Empty is that of the system.
	Hostname string
	// AppName is the APP-NAME of each message. Empty is DefaultAppName.
	AppName string
	// Enterprise is the private enterprise number in the name of the structured data,
	// audit@NUMBER. Empty is DefaultEnterprise.
	Enterprise string
	// Timeout is what the receiver has to take one batch, and what connecting may take.
	// Zero is DefaultTimeout.
	Timeout time.Duration
	// Resend is how long what was written is kept, up to 32 MiB of it, to be written
	// again if the connection breaks. Zero is DefaultResend, negative nothing.
	Resend time.Duration
	// MaxMessage is the largest message that the receiver takes whole, in bytes and
	// without the count in front of it. An entry whose message is larger is refused. Zero
	// is DefaultMaxMessage, negative no bound.
	MaxMessage int
	TLS        TLS
	// Insecure allows tcp:// to a host that is not this one.
	Insecure bool

	// probation is that of a connection. Zero is the constant.
	probation time.Duration
	// closeTime is that of Close. Zero is the constant.
	closeTime time.Duration
	// dial makes a connection. Nil is the system's.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// wrote is told of each connection how many messages were written again on it. Nil
	// tells nobody.
	wrote func(local string, again int)
}

// TLS names files, in PEM. They are read for each connection.
type TLS = tlsfiles.Files

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	if c.Facility == "" {
		c.Facility = DefaultFacility
	}
	if c.AppName == "" {
		c.AppName = DefaultAppName
	}
	if c.Enterprise == "" {
		c.Enterprise = DefaultEnterprise
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Resend == 0 {
		c.Resend = DefaultResend
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = DefaultMaxMessage
	}
	if c.closeTime == 0 {
		c.closeTime = closeTime
	}
	if c.probation == 0 {
		c.probation = probation
	}
	return c
}

// enterpriseForm is a number, perhaps with further ones below it.
var enterpriseForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*$`)

// check says what is wrong with a configuration that has its defaults.
func (c Config) check() (target, error) {
	t, err := parseTarget(c.URL)
	if err != nil {
		return target{}, err
	}
	if !t.encrypted() && !t.local() && !c.Insecure {
		return target{}, fmt.Errorf("%s is not encrypted: write tls://, or the option insecure if the network may see every entry", t.location())
	}
	if _, err := parseFacility(c.Facility); err != nil {
		return target{}, err
	}
	if c.Hostname != "" && clean(c.Hostname, maxHostname) != c.Hostname {
		return target{}, fmt.Errorf("hostname %q is not a name that a message can have: use up to %d printable ASCII characters without a space", c.Hostname, maxHostname)
	}
	if clean(c.AppName, maxAppName) != c.AppName {
		return target{}, fmt.Errorf("app_name %q is not a name that a message can have: use up to %d printable ASCII characters without a space", c.AppName, maxAppName)
	}
	if !enterpriseForm.MatchString(c.Enterprise) || len(sdName(c.Enterprise)) > maxSDName {
		return target{}, fmt.Errorf("enterprise %q is not a private enterprise number: write digits, as in %s", c.Enterprise, DefaultEnterprise)
	}
	if c.Timeout < 0 || c.Timeout > MaxTimeout {
		return target{}, fmt.Errorf("timeout %s is out of range: use one up to %s", c.Timeout, MaxTimeout)
	}
	if c.Resend > MaxResend {
		return target{}, fmt.Errorf("resend %s is out of range: use one up to %s", c.Resend, MaxResend)
	}
	if c.MaxMessage >= 0 && c.MaxMessage < MinMaxMessage {
		return target{}, fmt.Errorf("max_message is %d bytes: use %d or more, which every receiver takes", c.MaxMessage, MinMaxMessage)
	}
	if err := c.TLS.Check(); err != nil {
		return target{}, err
	}
	if c.TLS != (TLS{}) && !t.encrypted() {
		return target{}, fmt.Errorf("%s has no TLS: write tls://, or take the tls options out", t.location())
	}
	return t, nil
}

// facilities are by number. The names are those of RFC 5424's table as rsyslog has them.
var facilities = []string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock",
	"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

func parseFacility(s string) (int, error) {
	for n, name := range facilities {
		if s == name || s == strconv.Itoa(n) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("facility %q is not known: use a number from 0 to 23 or one of %s", s, strings.Join(facilities, ", "))
}

// format is how messages look. The configuration has been checked.
func (c Config) format() format {
	facility, _ := parseFacility(c.Facility)
	hostname := c.Hostname
	if hostname == "" {
		hostname, _ = os.Hostname() // without one it is unknown
	}
	return format{facility: facility, hostname: orNil(clean(hostname, maxHostname)), appName: c.AppName, sdName: sdName(c.Enterprise)}
}

func (c Config) describe(t target) forwarder.Description {
	return forwarder.Description{Kind: "syslog", Location: t.location(), Delivery: forwarder.DeliveryUnacknowledged}
}
