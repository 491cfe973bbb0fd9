#!/bin/sh
# Chaos: a stream through everything that can happen to it, as long as wanted.
#
#   CHAOS_MINUTES=60 test/chaos/run.sh       (1)
#   CLICKSTREAM_SEED=…                       the same again
#
# Prints how many faults, events and differences there were, and appends it
# to test/chaos/out/figures.
set -eu
cd "$(dirname "$0")/../.."
out=test/chaos/out
mkdir -p "$out"
log=$(mktemp "$out/log.XXXXXX")
trap 'rm -f "$log"' EXIT
export CHAOS_MINUTES="${CHAOS_MINUTES:-1}"
export CLICKSTREAM_TAP_LIMIT=$((CHAOS_MINUTES * 60 + 1200))
{ test/check.sh tap test/chaos/chaos.pl; echo "exit code $?"; } 2>&1 | tee "$log"
{ date -u '+%Y-%m-%d %H:%M UTC'; sed -n '/seed [0-9]* *:/p; /^    [a-zA-Z].*: [0-9]*$/p' "$log"; } >>"$out/figures"
grep -q '^exit code 0$' "$log"
