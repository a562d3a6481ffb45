package audit

// SchemaVersion is the version of the entry's JSON. It grows when a field
// changes its meaning or goes away, not when one is added.
const SchemaVersion = 1

// Revisions of an entry. Revisions below RevisionAnswer were written by the
// sidecar before it knew the truth; a store keeps the highest one.
const (
	// RevisionPending says that the call was still open when it was written.
	RevisionPending = -1
	// RevisionUnknown says that the call reached the API and that its end was
	// not recorded, for instance because the process was killed.
	RevisionUnknown = 0
	// RevisionAnswer is written at the headers of the answer. Later ones
	// exist only if something changed afterwards.
	RevisionAnswer = 1
)

// Outcome is what became of a call.
type Outcome string

// The outcomes of an entry.
const (
	// OutcomeSuccess is a status of 2xx, 3xx or 101.
	OutcomeSuccess Outcome = "success"
	// OutcomeFailure is any other status of 4xx or 5xx.
	OutcomeFailure Outcome = "failure"
	// OutcomeDenied is 401 or 403.
	OutcomeDenied Outcome = "denied"
	// OutcomePending is a call that is still open.
	OutcomePending Outcome = "pending"
	// OutcomeUnknown is a call that may have had its effect: the process was
	// killed in flight, or the client left a changing call.
	OutcomeUnknown Outcome = "unknown"
	// OutcomeRefused is a call that the sidecar did not let through, because
	// its intent could not be made durable. The API was not called.
	OutcomeRefused Outcome = "refused"
)

// OutcomeOf is the outcome that an HTTP status stands for.
func OutcomeOf(status int) Outcome {
	switch {
	case status == 101, status >= 200 && status < 400:
		return OutcomeSuccess
	case status == 401, status == 403:
		return OutcomeDenied
	case status >= 400:
		return OutcomeFailure
	default:
		return OutcomeUnknown
	}
}

// StatusSource says where Action.Status was learned.
type StatusSource string

// The sources of a status.
const (
	// StatusWritten was written by the API or by a handler behind ours.
	StatusWritten StatusSource = "written"
	// StatusError was carried by the error that a handler returned; the
	// answer itself is written after us, by Caddy's error routes.
	StatusError StatusSource = "error"
	// StatusDefault is Caddy's 200 for a call that no handler answered.
	StatusDefault StatusSource = "default"
)

// Entry is one audited call, or an event of the sidecar itself. It is a
// superset of the reference product's current ("V2") shape.
//
// An absent field means unknown; a value is never invented. Every string that
// came from the network is bounded and valid UTF-8; what was cut is named in
// Cut.
//
// A field of it, or of what is in it, has its line in AppendTo and in Decode too. A test
// tells who forgets one.
type Entry struct {
	// ID is a UUIDv7 made when the call arrived, the same in all revisions.
	ID string `json:"id"`
	// Revision orders the states of one entry; the highest is the truth.
	Revision int `json:"revision"`
	// RequestID is the API's own X-Request-Id if it gave one, else Caddy's.
	RequestID string `json:"request_id,omitempty"`
	// TraceID is the trace of the W3C traceparent header, 32 hex digits.
	TraceID string `json:"trace_id,omitempty"`
	// Timestamp is the arrival, in microseconds since the Unix epoch.
	Timestamp int64 `json:"timestamp"`
	// RecordedAt is when this revision was made, in the same unit.
	RecordedAt int64 `json:"recorded_at,omitempty"`
	// DurationUS is the time from arrival to this revision's fact, in
	// microseconds: to the headers in revision 1, to the end in a later one.
	DurationUS int64 `json:"duration_us,omitempty"`

	// OrganizationID is the organization's own, which no renaming changes.
	OrganizationID   string `json:"organization_id,omitempty"`
	OrganizationSlug string `json:"organization_slug,omitempty"`
	// OrganizationPlan is what the API or a verified token said with the call. What was
	// asked for later is Retention.Plan.
	OrganizationPlan string `json:"organization_plan,omitempty"`
	ProjectRef       string `json:"project_ref,omitempty"`

	Action Action  `json:"action"`
	Actor  Actor   `json:"actor"`
	Target *Target `json:"target,omitempty"`

	Outcome Outcome `json:"outcome"`
	// ClientGone says that the client left before its answer was complete.
	ClientGone bool `json:"client_gone,omitempty"`
	// RequestBytes and ResponseBytes count the bodies; nil is unknown.
	RequestBytes  *int64 `json:"request_bytes,omitempty"`
	ResponseBytes *int64 `json:"response_bytes,omitempty"`

	Policy Policy `json:"policy"`
	// Membership and Retention are stamped by the forwarder, see Stamp.
	Membership Membership `json:"membership,omitempty"`
	Retention  *Retention `json:"retention,omitempty"`
	// Origin is stamped by the forwarder; an entry in the buffer has none,
	// since its sequence is where it lies.
	Origin *Origin `json:"origin,omitempty"`

	// Count is how many calls the entry stands for, where it is not one alone:
	// see Folded.
	Count int `json:"count,omitempty"`
	// Folded says which further calls the entry stands for.
	Folded *Folded `json:"folded,omitempty"`

	// Cut names each field whose value was shortened, with its original
	// length in bytes. A client cannot forge it, unlike a mark in the value.
	Cut map[string]int `json:"cut,omitempty"`

	SchemaVersion int `json:"schema_version"`
}

// Folded is what the calls have in common that an entry stands for beside its
// own: reads that were answered alike and came too fast, from callers of one
// network whose credentials the API has not accepted lately.
type Folded struct {
	// Network is theirs, as in 203.0.113.0/24.
	Network string `json:"network"`
	// Until is when the counting ends, in microseconds since the Unix epoch. An
	// entry whose RecordedAt is before that and that has no further revision was
	// cut short: then Count is the least that there were.
	Until int64 `json:"until"`
}

// Action is what was done.
type Action struct {
	// Code is the operation's id in the API's description.
	Code string `json:"code,omitempty"`
	// Name is for people, in the reference product's style.
	Name string `json:"name,omitempty"`
	// Method is that of the request line; an event of the sidecar has none.
	Method string `json:"method,omitempty"`
	// Route is the template, as in /v1/projects/{ref}.
	Route string `json:"route,omitempty"`
	// Path is the path as it arrived, without its query, with credentials
	// in it redacted.
	Path         string       `json:"path,omitempty"`
	Host         string       `json:"host,omitempty"`
	Status       int          `json:"status,omitempty"`
	StatusSource StatusSource `json:"status_source,omitempty"`
	// Params are the values of the template's parameters.
	Params   map[string]string `json:"params,omitempty"`
	Metadata map[string]any    `json:"metadata,omitempty"`
}

// Actor is who did it. Only fields outside Claimed were verified, and
// Verification says how.
type Actor struct {
	TokenType TokenType `json:"token_type"`
	// TokenHash identifies the credential without being it. See HashToken.
	TokenHash string `json:"token_hash,omitempty"`
	// OtherTokenHashes identify the first few credentials that the call presented
	// beside that one, for instance an API key beside a session.
	OtherTokenHashes []string `json:"other_token_hashes,omitempty"`
	// TokenAlias is the credential's public prefix and its first characters.
	TokenAlias   string       `json:"token_alias,omitempty"`
	TokenScope   string       `json:"token_scope,omitempty"`
	Verification Verification `json:"verification"`
	// VerificationReason says why the credential was not verified, or what is
	// odd about it. Where neither an issuer nor a service to ask is configured
	// it is absent, but for ReasonSeveralCredentials.
	VerificationReason Reason `json:"verification_reason,omitempty"`

	// Kind tells people, services and anonymous sign-ins apart. Only a verified
	// actor has one.
	Kind         ActorKind `json:"kind,omitempty"`
	UserID       string    `json:"user_id,omitempty"`
	Email        string    `json:"email,omitempty"`
	IP           string    `json:"ip,omitempty"`
	IPSource     IPSource  `json:"ip_source,omitempty"`
	PeerIP       string    `json:"peer_ip,omitempty"`
	SessionID    string    `json:"session_id,omitempty"`
	AAL          string    `json:"aal,omitempty"`
	AMR          []string  `json:"amr,omitempty"`
	JWTRole      string    `json:"jwt_role,omitempty"`
	JWTIssuer    string    `json:"jwt_issuer,omitempty"`
	JWTSubject   string    `json:"jwt_subject,omitempty"`
	OAuthAppID   string    `json:"oauth_app_id,omitempty"`
	OAuthAppName string    `json:"oauth_app_name,omitempty"`
	UserAgent    string    `json:"user_agent,omitempty"`
	// OnBehalfOf is whose rights the actor used, where a token says that one
	// acts for another (RFC 8693): the token's own subject.
	OnBehalfOf string `json:"on_behalf_of,omitempty"`
	// Certificate is the client's own, where Caddy verified one.
	Certificate *Certificate `json:"certificate,omitempty"`

	// AssertedUserID is whom the API named, where the credential proves another
	// user.
	AssertedUserID string `json:"asserted_user_id,omitempty"`

	// Claimed is what the credential says about itself and nobody checked.
	Claimed *Claimed `json:"claimed,omitempty"`
}

// Claimed holds unverified claims. A reader must not take them for facts.
type Claimed struct {
	Subject   string `json:"sub,omitempty"`
	Email     string `json:"email,omitempty"`
	SessionID string `json:"session_id,omitempty"`
	Role      string `json:"role,omitempty"`
	Issuer    string `json:"iss,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	AAL       string `json:"aal,omitempty"`
	// Project is the project that a legacy API key says it belongs to. It is
	// not about who acts, so it stands here for a verified key too. Email
	// stands here for a verified token whose issuer says that it is unverified.
	Project string `json:"ref,omitempty"`
	// Username is the user name of Basic credentials, where the site says that
	// it is one.
	Username string `json:"username,omitempty"`
}

// ActorKind is what kind of actor a verified credential belongs to.
type ActorKind string

// The kinds of actors.
const (
	// ActorPerson signed in as themselves.
	ActorPerson ActorKind = "person"
	// ActorService is a program with credentials of its own. It has no UserID:
	// OAuthAppID and JWTSubject say which one.
	ActorService ActorKind = "service"
	// ActorAnonymous signed in without saying who they are: UserID is the
	// issuer's number for them.
	ActorAnonymous ActorKind = "anonymous"
)

// Certificate is a client certificate whose chain Caddy verified.
type Certificate struct {
	// Subject and Issuer are distinguished names in the form of RFC 2253.
	Subject string `json:"subject,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	// Serial is its number, in hex.
	Serial string `json:"serial,omitempty"`
	// Names are its first alternative names: URIs, email addresses, hosts.
	Names []string `json:"names,omitempty"`
	// SHA256 is the hash of the whole certificate, in hex.
	SHA256 string `json:"sha256,omitempty"`
}

// IPSource says how Actor.IP was learned.
type IPSource string

// The sources of a client's address.
const (
	// IPPeer is the socket's peer.
	IPPeer IPSource = "peer"
	// IPForwarded was given in a header by a proxy that the configuration
	// trusts.
	IPForwarded IPSource = "forwarded"
)

// Verification says why the actor is believed. Only signature, introspection
// and asserted fill UserID and Email.
type Verification string

// The kinds of verification.
const (
	// VerificationSignature means that we checked the credential's signature
	// against the keys of a configured issuer.
	VerificationSignature Verification = "signature"
	// VerificationIntrospection means that a configured service told us whose
	// the credential is, when asked about it or with it.
	VerificationIntrospection Verification = "introspection"
	// VerificationAsserted means that the API named the actor in an answer
	// header that the configuration trusts.
	VerificationAsserted Verification = "asserted"
	// VerificationAccepted means that the API let the credential do an operation
	// whose description requires one. Whose it is nobody said.
	VerificationAccepted Verification = "accepted"
	// VerificationNone means that nobody checked the credential.
	VerificationNone Verification = "none"
)

// Target is what it was done to.
type Target struct {
	// Type is the kind of thing: project, organization, edge_function, …
	Type string `json:"type"`
	// ID is empty when the call names none, as in a list or a creation.
	ID string `json:"id,omitempty"`
	// Parent is the ID of what the target belongs to: a function's project.
	Parent string `json:"parent,omitempty"`
}

// Level is how much of a call is recorded.
type Level string

// The levels.
const (
	// LevelNone records nothing; the call is counted as excluded.
	LevelNone Level = "none"
	// LevelMetadata records everything but bodies, queries and headers.
	LevelMetadata Level = "metadata"
	// LevelRequest also records what the allow-lists of the site and of the
	// operation name of the request, and LevelRequestResponse of the answer's
	// body too. Neither ever records all of a body.
	LevelRequest         Level = "request"
	LevelRequestResponse Level = "request_response"
)

// Durability is what a call waits for.
type Durability string

// The durabilities.
const (
	// DurabilityStrict syncs the intent before the API is called and the
	// outcome before the answer leaves.
	DurabilityStrict Durability = "strict"
	// DurabilityAnswer syncs the outcome before the answer leaves.
	DurabilityAnswer Durability = "answer"
	// DurabilityRelaxed waits for nothing: any death of the process can lose
	// what is queued.
	DurabilityRelaxed Durability = "relaxed"
)

// Policy says which rule chose how the call was recorded.
type Policy struct {
	Rule       string     `json:"rule"`
	Level      Level      `json:"level"`
	Durability Durability `json:"durability"`
	// ConfigHash identifies the configuration of audit_log at the site.
	ConfigHash string `json:"config_hash,omitempty"`
}

// Retention is stamped by the forwarder; it is never part of what was
// captured.
type Retention struct {
	// Class is the retention class, see Keep.
	Class string `json:"class"`
	// KeepUntil is until when the entry is kept at least, in microseconds since the Unix
	// epoch; zero is forever.
	KeepUntil int64 `json:"keep_until,omitempty"`
	// Plan is the organization's when the call was made, as far as that is known.
	Plan string `json:"plan,omitempty"`
	// Hold says that a hold selects the entry when it is read: it is not deleted, whatever
	// KeepUntil says.
	Hold bool `json:"hold,omitempty"`
}

// Origin is which buffer an entry came from and which number it had there.
// Numbers are gapless from 1, so that a reader can see what is missing.
type Origin struct {
	Instance string `json:"instance"`
	Sequence uint64 `json:"sequence"`
}
