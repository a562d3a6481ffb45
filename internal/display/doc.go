// Package display is how a person at a terminal is shown something: text that cannot drive the
// terminal, whatever came from the network, times in words, and entries as a table.
//
// It knows entries, and neither stores nor servers.
package display
