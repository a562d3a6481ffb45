package syntax

import (
	"errors"
	"regexp"
)

// placeholderForm is what a secret may be.
var placeholderForm = regexp.MustCompile(`^\{(env|file)\.[^{}]+\}$`)

// IsPlaceholder reports whether a text is one placeholder of the environment or of a file.
func IsPlaceholder(s string) bool { return placeholderForm.MatchString(s) }

// CheckSecret takes a placeholder, and nothing that could be the secret itself, which it never
// repeats.
func CheckSecret(placeholder string) error {
	if IsPlaceholder(placeholder) {
		return nil
	}
	return errors.New("the secret stands in the configuration, which is printed and saved: " +
		"put it into the environment or a file, and write secret {env.JWT_SECRET} or secret {file./path/to/it}")
}
