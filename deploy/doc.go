// Package deploy is how caddy-audit-log is installed, scaled and released: a unit for
// systemd, an image, manifests for Kubernetes, a Compose file, and the script that
// makes a release. docs/deployment.md and docs/releases.md say how they are used.
//
// Its Go is tests: that the commands, options, variables and ports in these files are
// those of the program, and that it runs as they run it. Those that need root, Debian's
// packages systemd, bubblewrap and seccomp, or minutes, are behind the build tag root.
// What holds the manifests against the types of Kubernetes and Compose is a module of its
// own, in check.
package deploy
