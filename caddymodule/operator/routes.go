package operator

// The admin routes. All but pass, resolve and hold only read.
const (
	PassPath       = "/audit_log/pass"
	QuarantinePath = "/audit_log/quarantine"
	ResolvePath    = "/audit_log/quarantine/resolve"

	RetentionPath = "/audit_log/retention"
	HoldPath      = "/audit_log/retention/hold"
	VerifyPath    = "/audit_log/verify"

	StatusPath = "/audit_log/status"
	ExportPath = "/audit_log/export"
	TailPath   = "/audit_log/tail"
	SearchPath = "/audit_log/search"

	// MaxTail bounds how many entries a tail begins with.
	MaxTail = 1000
)
