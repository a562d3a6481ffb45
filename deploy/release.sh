#!/usr/bin/env bash
# Builds a release from the commit that is checked out, so that whoever builds it
# again gets the same bytes:
#
#   deploy/release.sh [-o DIRECTORY] [OS/ARCH…]
#
# Without targets: linux and darwin on amd64 and arm64. The directory (default:
# dist) gets a program and an SBOM (CycloneDX, JSON) for each, and SHA256SUMS.
# docs/releases.md says how they are checked.
#
# Needs git, sha256sum or shasum, the Go module proxy, and the Go named below or any
# that can fetch that one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Another compiler makes other bytes. The Dockerfile has the same version.
readonly go_version=1.26.8
readonly cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

fail() {
	printf 'release: %s\n' "$*" >&2
	exit 1
}

out=dist
while getopts o: flag; do
	case $flag in
		o) out=$OPTARG ;;
		*) fail 'usage: deploy/release.sh [-o DIRECTORY] [OS/ARCH...]' ;;
	esac
done
shift $((OPTIND - 1))
targets=("$@")
((${#targets[@]})) || targets=(linux/amd64 linux/arm64 darwin/amd64 darwin/arm64)

# What is in the environment of whoever builds must not be in the program. Where Go
# gets modules from does not matter: go.sum says what they are.
export GOTOOLCHAIN=go$go_version GOFLAGS='' GOWORK=off GOEXPERIMENT='' GOFIPS140=off
export CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0
export LC_ALL=C # the order of files in SHA256SUMS
got=$(go env GOVERSION) || fail "Go $go_version is needed; install it, or any that may fetch it"
[[ $got == "go$go_version" ]] || fail "this is $got; Go $go_version is needed"

# The program says which commit it is from. That must be true.
[[ -z $(git status --porcelain) ]] || fail 'the checkout has changes or files of its own: commit them, or build in a clone'
commit=$(git rev-parse HEAD)
version=$(git describe --tags --exact-match --match 'v*' HEAD 2>/dev/null || git rev-parse --short=12 HEAD)

mkdir -p "$out"
out=$(cd "$out" && pwd)
[[ -z $(ls -A "$out") ]] || fail "$out is not empty: remove it, or name another directory"
sums=(sha256sum)
command -v sha256sum >/dev/null || sums=(shasum -a 256)

printf 'caddy-audit-log %s (%s) with Go %s\n' "$version" "$commit" "$go_version"
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
GOBIN=$tools go install -trimpath "$cyclonedx"

for target in "${targets[@]}"; do
	name=caddy-audit-log_${version}_${target/\//_}
	printf '%s\n' "$name"
	GOOS=${target%/*} GOARCH=${target#*/} go build -mod=readonly -trimpath -buildvcs=true -ldflags '-s -w' -o "$out/$name" ./cmd/caddy
	# Of what the program itself says is in it. Without a serial number and the time of
	# making, which would differ each time; the tool's own hash differs between systems.
	"$tools/cyclonedx-gomod" bin -json -noserial -notimestamp -output "$out/$name.cdx.json" "$out/$name" 2>"$tools/log" || fail "$(cat "$tools/log")"
done
(cd "$out" && "${sums[@]}" -- * >"$tools/SHA256SUMS" && mv "$tools/SHA256SUMS" .)
cat "$out/SHA256SUMS"
