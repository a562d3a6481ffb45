package s3

import (
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// credentials is where the keys come from. They are asked for before each request, so
// that rotated ones are used at once.
func (c Config) credentials(known *secrets, transport http.RoundTripper) credentials.Provider {
	if c.Credentials == CredentialsIAM {
		return &concealing{known: known, Provider: &credentials.IAM{Client: &http.Client{Transport: &bounded{next: transport}, Timeout: c.Timeout}}}
	}
	return &concealing{known: known, Provider: &placed{c}, always: true}
}

// credentialError is that there are none. Its text shows none.
type credentialError struct{ text string }

func (e *credentialError) Error() string { return e.text }

// concealing notes what must not be shown.
type concealing struct {
	credentials.Provider
	known  *secrets
	always bool
}

// IsExpired implements credentials.Provider.
func (p *concealing) IsExpired() bool { return p.always || p.Provider.IsExpired() }

// Retrieve implements credentials.Provider.
func (p *concealing) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext implements credentials.Provider.
func (p *concealing) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	v, err := p.Provider.RetrieveWithCredContext(cc)
	if err != nil {
		if _, ours := err.(*credentialError); !ours { //nolint:errorlint // it is returned as it is
			err = &credentialError{"asking for credentials: " + p.known.clean(err.Error()) +
				": check that this machine, pod or task has a role, or give access_key and secret_key"}
		}
		return v, err
	}
	for _, secret := range []string{v.AccessKeyID, v.SecretAccessKey, v.SessionToken} {
		p.known.add(secret)
	}
	return v, nil
}

// placed are keys that placeholders stand for.
type placed struct{ c Config }

// IsExpired implements credentials.Provider.
func (*placed) IsExpired() bool { return true }

// Retrieve implements credentials.Provider.
func (p *placed) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext implements credentials.Provider.
func (p *placed) RetrieveWithCredContext(*credentials.CredContext) (v credentials.Value, err error) {
	v.SignerType = credentials.SignatureV4
	if v.AccessKeyID, err = p.read("access_key", p.c.AccessKey); err != nil {
		return v, err
	}
	if v.SecretAccessKey, err = p.read("secret_key", p.c.SecretKey); err != nil {
		return v, err
	}
	if p.c.SessionToken != envSessionToken || os.Getenv("AWS_SESSION_TOKEN") != "" {
		if p.c.SessionToken != "" {
			v.SessionToken, err = p.read("session_token", p.c.SessionToken)
		}
	}
	return v, err
}

func (p *placed) read(option, placeholder string) (string, error) {
	value, err := p.c.Resolve(placeholder)
	value = strings.TrimSpace(value) // a secret's file often ends with a line break
	if err == nil && value == "" {
		err = fmt.Errorf("%s is empty", placeholder)
	}
	if err != nil {
		return "", &credentialError{fmt.Sprintf("its option %s: %v: set it, or name another by the options access_key and secret_key, or say credentials iam", option, err)}
	}
	return value, nil
}
