#!/usr/bin/env bash
# Builds one target of the commit that is checked out twice, in two directories and
# with two caches, and compares:
#
#   deploy/reproducible.sh [OS/ARCH]
#
# Default: linux/amd64. It takes what two builds from nothing take.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

target=${1:-linux/amd64}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
first=$work/first second=$work/another/and/a/longer/one
git clone --quiet --no-hardlinks "$root" "$first/src"
# Of the clone, since the checkout may go on meanwhile.
git clone --quiet --no-hardlinks "$first/src" "$second/src"
for n in "$first" "$second"; do
	# A cache of its own, or the second build would only be a copy of the first.
	GOCACHE=$n/cache "$n/src/deploy/release.sh" -o "$n/dist" "$target" >"$work/log" 2>&1 || {
		cat "$work/log"
		exit 1
	}
	rm -rf "$n/cache"
done
if ! diff "$first/dist/SHA256SUMS" "$second/dist/SHA256SUMS"; then
	printf 'reproducible: two builds of %s differ: compare what "go version -m" says of them\n' "$target" >&2
	exit 1
fi
printf 'two builds of %s are the same:\n' "$target"
cat "$first/dist/SHA256SUMS"
