#!/usr/bin/env bash
# Take up new items, and publish: for cron, or the systemd timer beside this file.
#
#   15 * * * * /opt/coldstart/coldstart-hourly.sh >>/var/log/coldstart.log 2>&1
set -euo pipefail

export COLDSTART_WORKSPACE="${COLDSTART_WORKSPACE:-/srv/shop/shop.workspace}"
MANIFEST="${1:-/srv/shop/items.jsonl}"
COLDSTART="${COLDSTART:-/opt/coldstart/.venv/bin/coldstart}"

# 1: some items failed, all others are served. 3: the machine; the next hour goes on where this one stopped.
code=0
"$COLDSTART" run --manifest "$MANIFEST" --json >/tmp/coldstart-run.json || code=$?

case "$code" in
  0) ;;
  1) echo "items failed, or a fault in what was given:"; "$COLDSTART" status --failed || true ;;
  *) echo "the run ended with exit code $code" ;;
esac
exit "$code"
