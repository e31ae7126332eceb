#!/usr/bin/env bash
# Copy a workspace while nobody writes to it. The lock file is the one that writers take, so that a run in progress is
# waited for, and one that begins meanwhile fails, since the workspace is being written.
#
#   coldstart-backup.sh /srv/shop/shop.workspace /backup/shop.workspace
set -euo pipefail

WORKSPACE="${1:?give the folder of the workspace}"
TARGET="${2:?give the folder of the copy}"

exec 9>>"$WORKSPACE/.coldstart.lock"
flock --timeout 3600 9

# The earlier copy stays until the new one is whole.
rm -rf "$TARGET.new"
cp --archive "$WORKSPACE" "$TARGET.new"
rm -f "$TARGET.new/.coldstart.lock" "$TARGET.new/.coldstart.writer"
rm -rf "$TARGET.old"
if [ -e "$TARGET" ]; then mv "$TARGET" "$TARGET.old"; fi
mv "$TARGET.new" "$TARGET"
rm -rf "$TARGET.old"
