package audit

// The objects of the class, with the attributes that an entry can fill. A type
// is named for its object in the schema; testdata/ocsf lists all attributes.

type ocsfEvent struct {
	ActivityID   int              `json:"activity_id"`
	ActivityName string           `json:"activity_name"`
	CategoryUID  int              `json:"category_uid"`
	CategoryName string           `json:"category_name"`
	ClassUID     int              `json:"class_uid"`
	ClassName    string           `json:"class_name"`
	TypeUID      int              `json:"type_uid"`
	TypeName     string           `json:"type_name"`
	SeverityID   int              `json:"severity_id"`
	Severity     string           `json:"severity"`
	Time         int64            `json:"time"`
	StartTime    int64            `json:"start_time,omitempty"`
	EndTime      int64            `json:"end_time,omitempty"`
	Duration     *int64           `json:"duration,omitempty"`
	Count        int              `json:"count,omitempty"`
	Message      string           `json:"message,omitempty"`
	StatusID     int              `json:"status_id"`
	Status       string           `json:"status"`
	StatusCode   string           `json:"status_code,omitempty"`
	StatusDetail string           `json:"status_detail,omitempty"`
	Metadata     ocsfMetadata     `json:"metadata"`
	Actor        ocsfActor        `json:"actor"`
	API          ocsfAPI          `json:"api"`
	Source       ocsfEndpoint     `json:"src_endpoint"`
	Request      ocsfRequest      `json:"http_request,omitzero"`
	Response     ocsfResponse     `json:"http_response,omitzero"`
	Resources    []ocsfResource   `json:"resources,omitempty"`
	Trace        ocsfUID          `json:"trace,omitzero"`
	Observables  []ocsfObservable `json:"observables,omitempty"`
	Unmapped     ocsfUnmapped     `json:"unmapped"`
}

type ocsfMetadata struct {
	Version          string        `json:"version"`
	Profiles         []string      `json:"profiles,omitempty"`
	Product          ocsfProductOf `json:"product"`
	UID              string        `json:"uid"`
	Sequence         int           `json:"sequence"`
	OriginalEventUID string        `json:"original_event_uid,omitempty"`
	CorrelationUID   string        `json:"correlation_uid,omitempty"`
	EventCode        string        `json:"event_code,omitempty"`
	LogName          string        `json:"log_name"`
	LogProvider      string        `json:"log_provider"`
	LogVersion       string        `json:"log_version"`
	LoggedTime       int64         `json:"logged_time,omitempty"`
	ModifiedTime     int64         `json:"modified_time,omitempty"`
	TenantUID        string        `json:"tenant_uid,omitempty"`
	IsTruncated      bool          `json:"is_truncated,omitempty"`
	Reporter         ocsfEntity    `json:"reporter,omitzero"`
}

type ocsfProductOf struct {
	Name       string `json:"name"`
	VendorName string `json:"vendor_name"`
}

// ocsfEntity is what many objects extend: a reporter, a service.
type ocsfEntity struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// ocsfUID is any object of which an entry knows the uid alone.
type ocsfUID struct {
	UID string `json:"uid"`
}

type ocsfActor struct {
	User    ocsfUser    `json:"user,omitzero"`
	Session ocsfSession `json:"session,omitzero"`
	IDP     ocsfIDP     `json:"idp,omitzero"`
	AppUID  string      `json:"app_uid,omitempty"`
	AppName string      `json:"app_name,omitempty"`
}

type ocsfUser struct {
	UID    string `json:"uid,omitempty"`
	UIDAlt string `json:"uid_alt,omitempty"`
	Name   string `json:"name,omitempty"`
	Email  string `json:"email_addr,omitempty"`
	TypeID int    `json:"type_id"`
	Type   string `json:"type"`
}

type ocsfSession struct {
	UID           string `json:"uid,omitempty"`
	CredentialUID string `json:"credential_uid,omitempty"`
	IsMFA         *bool  `json:"is_mfa,omitempty"`
}

type ocsfIDP struct {
	UID    string `json:"uid"`
	Issuer string `json:"issuer"`
}

type ocsfAPI struct {
	Operation string          `json:"operation"`
	Service   ocsfEntity      `json:"service,omitzero"`
	Request   ocsfUID         `json:"request,omitzero"`
	Response  ocsfAPIResponse `json:"response,omitzero"`
	Token     ocsfToken       `json:"token,omitzero"`
}

type ocsfAPIResponse struct {
	Code int `json:"code"`
}

type ocsfToken struct {
	UID    string `json:"uid,omitempty"`
	TypeID int    `json:"type_id"`
	Type   string `json:"type"`
}

type ocsfEndpoint struct {
	IP          string    `json:"ip,omitempty"`
	Name        string    `json:"name,omitempty"`
	ServiceName string    `json:"svc_name,omitempty"`
	Proxy       ocsfProxy `json:"proxy_endpoint,omitzero"`
}

type ocsfProxy struct {
	IP string `json:"ip"`
}

type ocsfRequest struct {
	UID        string  `json:"uid,omitempty"`
	Method     string  `json:"http_method,omitempty"`
	URL        ocsfURL `json:"url,omitzero"`
	UserAgent  string  `json:"user_agent,omitempty"`
	BodyLength *int64  `json:"body_length,omitempty"`
}

// ocsfURL never has a query: an entry has none.
type ocsfURL struct {
	Hostname string `json:"hostname,omitempty"`
	Port     int    `json:"port,omitempty"`
	Path     string `json:"path"`
}

type ocsfResponse struct {
	Code       int    `json:"code"`
	BodyLength *int64 `json:"body_length,omitempty"`
}

// The roles of a resource.
const (
	ocsfRoleTarget  = 1
	ocsfRoleRelated = 4
)

type ocsfResource struct {
	UID    string `json:"uid,omitempty"`
	Name   string `json:"name,omitempty"`
	Type   string `json:"type,omitempty"`
	RoleID int    `json:"role_id"`
	Role   string `json:"role"`
}

// The types of what a search can start from.
const (
	ocsfObservedIP    = 2
	ocsfObservedEmail = 5
)

type ocsfObservable struct {
	Name   string `json:"name"`
	TypeID int    `json:"type_id"`
	Type   string `json:"type"`
	Value  string `json:"value"`
}

// ocsfUnmapped is what OCSF has no place for, as it stands in the entry. Action
// and Actor are the entry's own, without what was mapped: a field that they are
// given one day is here until it gets a better place.
type ocsfUnmapped struct {
	Timestamp     int64          `json:"timestamp"`
	RecordedAt    int64          `json:"recorded_at,omitempty"`
	DurationUS    int64          `json:"duration_us,omitempty"`
	Outcome       Outcome        `json:"outcome,omitempty"`
	ClientGone    bool           `json:"client_gone,omitempty"`
	ResponseBytes *int64         `json:"response_bytes,omitempty"`
	Action        Action         `json:"action,omitzero"`
	Actor         Actor          `json:"actor"`
	Target        ocsfTarget     `json:"target,omitzero"`
	Plan          string         `json:"organization_plan,omitempty"`
	Policy        Policy         `json:"policy"`
	Membership    Membership     `json:"membership,omitempty"`
	Retention     *Retention     `json:"retention,omitempty"`
	Origin        *Origin        `json:"origin,omitempty"`
	Folded        *Folded        `json:"folded,omitempty"`
	Cut           map[string]int `json:"cut,omitempty"`
}

// ocsfTarget is a Target of which any part may have been mapped.
type ocsfTarget struct {
	Type   string `json:"type,omitempty"`
	ID     string `json:"id,omitempty"`
	Parent string `json:"parent,omitempty"`
}
