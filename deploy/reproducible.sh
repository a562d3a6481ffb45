#!/usr/bin/env bash
# Builds one target of the commit that is checked out twice, in two directories and
# with two caches, and compares. The first cache is the user's, the second an empty one:
#
#   deploy/reproducible.sh [OS/ARCH]
#
# Default: linux/amd64. It takes what a build from nothing takes, or two if
# the user has not built that target.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

target=${1:-linux/amd64}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
first=$work/first second=$work/another/and/a/longer/one
git clone --quiet --no-hardlinks "$root" "$first/src"
# Of the clone, since the checkout may go on meanwhile.
git clone --quiet --no-hardlinks "$first/src" "$second/src"
# release CLONE builds it there.
release() {
	"$1/src/deploy/release.sh" -o "$1/dist" "$target" >"$work/log" 2>&1 || {
		cat "$work/log"
		exit 1
	}
}
release "$first"
# A cache of its own, or this build would only be a copy of the first.
GOCACHE=$work/cache release "$second"
if ! diff "$first/dist/SHA256SUMS" "$second/dist/SHA256SUMS"; then
	printf 'reproducible: two builds of %s differ: compare what "go version -m" says of them\n' "$target" >&2
	exit 1
fi
printf 'two builds of %s are the same:\n' "$target"
cat "$first/dist/SHA256SUMS"
