// Package check holds the manifests of deploy/kubernetes and the file of
// deploy/compose against the types of those who read them. It is a module of its own,
// so that the program's does not need theirs:
//
//	cd deploy/check && go test ./...
package check
