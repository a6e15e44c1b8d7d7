#!/bin/sh
# Builds the gateway of an earlier version, for tests of falling back to it. Prints where the program is.
#
#   previous.sh [REF]
#
# Without REF it is the newest tag; without a tag the first version whose store has format 3, as that of today, with all protocols. What is built is kept
# in target/previous, its sources are not.
set -eu
cd "$(dirname "$0")/../.."
ref=${1:-$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || echo fc90668)}
commit=$(git rev-parse --short=12 "$ref^{commit}")
folder=${CARGO_TARGET_DIR:-$PWD/target}/previous
binary=$folder/headgate-$commit
if [ ! -x "$binary" ]; then
    mkdir -p "$folder"
    # Two may build at a time.
    source=$(mktemp -d "$folder/source.XXXXXX")
    trap 'git worktree remove --force "$source" >/dev/null 2>&1; rm -rf "$source"' EXIT
    git worktree add --quiet --force --detach "$source" "$commit" >&2
    (
        cd "$source"
        CARGO_TARGET_DIR=$folder/build CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=none cargo build --quiet -p headgate >&2
    )
    cp "$folder/build/debug/headgate" "$binary.new"
    mv "$binary.new" "$binary"
fi
echo "$binary"
