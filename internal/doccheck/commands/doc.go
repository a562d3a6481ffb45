// Package commands has the tests that hold the commands of the documents against the program:
// each is run from a clean clone, in the setting that its document speaks of, or stands with a
// reason in testdata/excused.txt. That none is in neither is looked at without tags. They are run,
// as root on Linux, in a sandbox, by
//
//	go test -v -tags root,servers ./internal/doccheck/commands -transcript FILE
//
// and those of one document with -run TestDocumentedCommands/docs-s3.md. The package has no code
// of its own.
package commands
