package otlp

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// maxAttribute bounds the value of an attribute, in bytes. The body has it whole.
// Receivers refuse records whose attributes are too large; entries are there to be found
// by them.
const maxAttribute = 1 << 10

// maxElements bounds the elements of an attribute that is a list.
const maxElements = 16

// attributes collects those of one record. What is absent gets none.
type attributes struct {
	all []*commonpb.KeyValue
	// cut are the names of those that hold the beginning of their value only.
	cut []string
}

func (a *attributes) add(name string, value *commonpb.AnyValue) {
	a.all = append(a.all, &commonpb.KeyValue{Key: name, Value: value})
}

func (a *attributes) text(name, value string) {
	if value != "" {
		a.add(name, a.bounded(name, value))
	}
}

// bounded makes a text that protobuf and receivers take.
func (a *attributes) bounded(name, value string) *commonpb.AnyValue {
	if n := maxAttribute; len(value) > n {
		for n > maxAttribute-utf8.UTFMax && !utf8.RuneStart(value[n]) {
			n--
		}
		value = value[:n]
		a.shortened(name)
	}
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: strings.ToValidUTF8(value, "\uFFFD")}}
}

func (a *attributes) shortened(name string) {
	if !slices.Contains(a.cut, name) {
		a.cut = append(a.cut, name)
	}
}

// number has no value for absent; who calls it says whether there is one.
func (a *attributes) number(name string, value int64) {
	a.add(name, &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: value}})
}

func (a *attributes) positive(name string, value int64) {
	if value > 0 {
		a.number(name, value)
	}
}

func (a *attributes) pointed(name string, value *int64) {
	if value != nil {
		a.number(name, *value)
	}
}

func (a *attributes) flag(name string, value bool) {
	if value {
		a.add(name, &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: true}})
	}
}

func (a *attributes) texts(name string, values []string) {
	if len(values) == 0 {
		return
	}
	if len(values) > maxElements {
		values = values[:maxElements]
		a.shortened(name)
	}
	list := new(commonpb.ArrayValue)
	for _, value := range values {
		list.Values = append(list.Values, a.bounded(name, value))
	}
	a.add(name, &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: list}})
}

// entryAttributes are those that entries are found by. The names without audit. are
// OpenTelemetry's, of the version of schemaURL.
func entryAttributes(e *audit.Entry) []*commonpb.KeyValue {
	a := &attributes{all: make([]*commonpb.KeyValue, 0, 48)}
	a.text("audit.id", e.ID)
	a.number("audit.revision", int64(e.Revision))
	a.text("audit.outcome", string(e.Outcome))
	a.number("audit.schema_version", int64(e.SchemaVersion))
	if o := e.Origin; o != nil {
		a.text("audit.instance", o.Instance)
		a.number("audit.sequence", int64(o.Sequence))
	}
	a.text("audit.request_id", e.RequestID)
	a.positive("audit.duration_us", e.DurationUS)
	a.flag("audit.client_gone", e.ClientGone)
	a.positive("audit.count", int64(e.Count))
	a.text("audit.organization.id", e.OrganizationID)
	a.text("audit.organization.slug", e.OrganizationSlug)
	a.text("audit.project.ref", e.ProjectRef)
	if t := e.Target; t != nil {
		a.text("audit.target.type", t.Type)
		a.text("audit.target.id", t.ID)
		a.text("audit.target.parent", t.Parent)
	}
	a.call(e)
	a.actor(&e.Actor)
	a.text("audit.policy.rule", e.Policy.Rule)
	a.text("audit.policy.level", string(e.Policy.Level))
	a.text("audit.policy.durability", string(e.Policy.Durability))
	if r := e.Retention; r != nil {
		a.text("audit.retention.class", r.Class)
		a.positive("audit.retention.keep_until", r.KeepUntil)
		a.text("audit.retention.plan", r.Plan)
		a.flag("audit.retention.hold", r.Hold)
	}
	a.texts("audit.attributes_cut", a.cut)
	return a.all
}

// methods are those that the conventions name. All others are one value, so that a client
// cannot make as many as it likes.
var methods = []string{"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}

// call says what was called, and how it was answered.
func (a *attributes) call(e *audit.Entry) {
	a.text("audit.action.code", e.Action.Code)
	a.text("audit.action.name", e.Action.Name)
	a.text("audit.action.status_source", string(e.Action.StatusSource))
	if m := e.Action.Method; slices.Contains(methods, m) {
		a.text("http.request.method", m)
	} else if m != "" {
		a.text("http.request.method", "_OTHER")
		a.text("http.request.method_original", m)
	}
	a.text("http.route", e.Action.Route)
	a.text("url.path", e.Action.Path)
	if status := e.Action.Status; status > 0 {
		a.number("http.response.status_code", int64(status))
		if status >= 500 {
			a.text("error.type", strconv.Itoa(status))
		}
	}
	a.pointed("http.request.body.size", e.RequestBytes)
	a.pointed("http.response.body.size", e.ResponseBytes)
	host, port, err := net.SplitHostPort(e.Action.Host)
	if err != nil {
		host, port = e.Action.Host, ""
	}
	a.text("server.address", strings.Trim(host, "[]"))
	if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
		a.number("server.port", int64(n))
	}
}

// actor says who called. What nobody verified is in the body only: a reader of attributes
// must be able to trust user.id.
func (a *attributes) actor(of *audit.Actor) {
	a.text("client.address", of.IP)
	a.text("audit.client.address_source", string(of.IPSource))
	a.text("network.peer.address", of.PeerIP)
	a.text("user_agent.original", of.UserAgent)
	switch of.Verification {
	case audit.VerificationSignature, audit.VerificationIntrospection, audit.VerificationAsserted:
		a.text("user.id", of.UserID)
		a.text("user.email", of.Email)
		a.text("session.id", of.SessionID)
	}
	a.text("audit.verification", string(of.Verification))
	a.text("audit.verification_reason", string(of.VerificationReason))
	a.text("audit.actor.kind", string(of.Kind))
	a.text("audit.actor.on_behalf_of", of.OnBehalfOf)
	a.text("audit.oauth_app.id", of.OAuthAppID)
	a.text("audit.oauth_app.name", of.OAuthAppName)
	a.text("audit.token_type", string(of.TokenType))
	a.text("audit.token_hash", of.TokenHash)
	a.texts("audit.other_token_hashes", of.OtherTokenHashes)
	a.text("audit.token_alias", of.TokenAlias)
	if c := of.Certificate; c != nil {
		a.text("tls.client.subject", c.Subject)
		a.text("tls.client.issuer", c.Issuer)
		a.text("tls.client.hash.sha256", strings.ToUpper(c.SHA256))
	}
}
