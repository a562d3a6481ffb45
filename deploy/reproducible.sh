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
for n in first another/and/a/longer/one; do
	git clone --quiet --no-hardlinks "$root" "$work/$n/src"
	# A cache of its own, or the second build would only be a copy of the first.
	GOCACHE=$work/$n/cache "$work/$n/src/deploy/release.sh" -o "$work/$n/dist" "$target" >"$work/log" 2>&1 || {
		cat "$work/log"
		exit 1
	}
	chmod -R u+w "$work/$n/cache"
	rm -rf "$work/$n/cache"
done
if ! diff "$work/first/dist/SHA256SUMS" "$work/another/and/a/longer/one/dist/SHA256SUMS"; then
	printf 'reproducible: two builds of %s differ: compare what "go version -m" says of them\n' "$target" >&2
	exit 1
fi
printf 'two builds of %s are the same:\n' "$target"
cat "$work/first/dist/SHA256SUMS"
