#!/bin/sh
# "make check-clickhouse": random questions to window_funnel(), sequence_match(),
# sequence_count() and retention(), and to a ClickHouse that runs inside Node.js;
# the answers must be equal.  From a fresh machine, and again.  It fetches half
# a gigabyte, and so is not part of "make check", which has some of the answers:
# sql/800_clickhouse.sql.
#
#   CLICKSTREAM_SEED     of the questions (42)
#   CLICKSTREAM_SETS     of events, each of another shape (30)
#   CLICKSTREAM_GROUPS   in each set (1000); each is asked 24 funnels, one for each combination
#                        of modes, and 40 patterns
set -eu
cd "$(dirname "$0")/../.."

test/setup.sh packages
test/setup.sh clickhouse

# The tests run as user postgres, who cannot read all that root can.
work=$(mktemp -d /tmp/clickstream-clickhouse.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
chmod 755 "$work"
seed=${CLICKSTREAM_SEED:-42}
echo "seed $seed"
node test/clickhouse/answers.js "$(test/setup.sh clickhouse-module)" "$seed" "${CLICKSTREAM_SETS:-30}" "${CLICKSTREAM_GROUPS:-1000}" 20 >"$work/answers.tsv"
CLICKSTREAM_CLICKHOUSE=$work/answers.tsv test/check.sh tap test/clickhouse/compare.pl
