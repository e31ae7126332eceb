#!/usr/bin/env bash
# Ends with 2 where more than a hundredth of the items failed in a stage, or the workspace cannot be read: for Nagios, or
# any monitor that goes by exit codes. Needs jq.
set -euo pipefail

COLDSTART="${COLDSTART:-/opt/coldstart/.venv/bin/coldstart}"
WORKSPACE="${1:-/srv/shop/shop.workspace}"

found="$("$COLDSTART" status --workspace "$WORKSPACE" --json)" || { jq -r .error.message <<<"$found"; exit 2; }
jq -r '.stages[] | .balance as $b
  | ([$b.fresh, $b.failed, $b.filtered, $b.duplicate, $b.pending] | add) as $items
  | select($b.failed > 0.01 * $items) | "\(.stage): \($b.failed) of \($items) failed"' <<<"$found" | {
  if read -r line; then echo "$line"; exit 2; fi
  echo "ok"
}
