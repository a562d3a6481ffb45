// Package syntax is what the blocks of our Caddyfile have in common: sizes, durations and
// secrets as they are written there, the place of an option for an error message, and addresses
// as they may stand in one.
//
// It knows values and no option.
package syntax
