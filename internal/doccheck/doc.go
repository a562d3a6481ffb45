// Package doccheck has the tests that hold the documentation against the repository: that
// its links lead somewhere, that every log line is in docs/logs.md, and that the tests exist
// that docs/threat-model.md names. It has no code of its own.
package doccheck
