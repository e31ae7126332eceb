#!/usr/bin/env bash
# Take up new items, and publish: for cron, or the systemd timer beside this file.
#
#   15 * * * * /opt/coldstart/coldstart-hourly.sh >>/var/log/coldstart.log 2>&1
set -euo pipefail

export COLDSTART_WORKSPACE="${COLDSTART_WORKSPACE:-/srv/shop/shop.workspace}"
MANIFEST="${1:-/srv/shop/items.jsonl}"
COLDSTART="${COLDSTART:-/opt/coldstart/.venv/bin/coldstart}"

# 1: too many items failed, all others are served. 3: the machine; the next hour goes on from there.
code=0
"$COLDSTART" run --manifest "$MANIFEST" || code=$?
if [ "$code" -ne 0 ]; then
  echo "$(date --iso-8601=seconds) exit code $code"
  "$COLDSTART" status --failed || true
fi
exit "$code"
