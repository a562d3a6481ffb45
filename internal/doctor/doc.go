// Package doctor is what `caddy audit doctor` does without Caddy: it judges the machine that a
// buffer is on (its disk, how fast that syncs, the clock, who can get at files), bounds each
// look and each question by a time, and writes the report, for people and as JSON.
//
// A look is a Check, and what it finds are Diagnoses: what was seen, how bad that is, and how it
// is mended. What there is to look at in a configuration or in a running server is for the
// command to know, in package commands, which makes checks of it. This package may import
// neither Caddy nor any room that does. Nothing that it looks at is changed; a diagnosis never
// holds a secret.
package doctor
