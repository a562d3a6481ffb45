// Package commands has the tests that hold the commands of the documents against the program:
// each is run from a clean clone, in the setting that its document speaks of, or stands with a
// reason in testdata/excused.txt. It has no code of its own.
package commands
