#!/bin/bash
# Runs what README.md tells its readers to type.
#
#   test/readme.sh [README.md]
#
# Each ```sql block below a line "<!-- runnable -->" is given to psql, in
# order, in a database made for this and dropped afterwards; where the block
# is followed by "<!-- output -->" and a ```text block, psql must print just
# that.  The server is found by the usual environment (PGHOST, PGPORT, PGUSER):
# clickstream is installed and preloaded there, the user is a superuser.
#
# Where the README says localhost:9092 an embedded broker stands in (or
# CLICKSTREAM_BROKERS, if set), with the topics that the documents read: newer
# ones make none that are asked for.
# CLICKSTREAM_DATABASE names the database (clickstream_readme).
#
# A ```sql block without the mark is an error: what is shown is what was run.
set -u
cd "$(dirname "$0")/.." || exit 2
readme=${1:-README.md}
database=${CLICKSTREAM_DATABASE:-clickstream_readme}
export PGTZ=UTC PGOPTIONS='-c client_min_messages=warning' LC_ALL=C.UTF-8
work=$(mktemp -d) || exit 2
broker_pid=

sql() { psql -X -q -v ON_ERROR_STOP=1 "$@"; }

# The broker ends by itself when this shell does; asking is quicker.
clean_up() {
	sql -d postgres -c "DROP DATABASE IF EXISTS $database" >/dev/null
	[ -z "$broker_pid" ] || kill "$broker_pid"
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

fail() {
	echo "readme: $*" >&2
	exit 1
}

# Blocks as files block.NNN.sql with block.NNN.line, and block.NNN.out where
# the README says what comes.
extract() {
	awk -v dir="$work" '
		/^```sql/ && !marked { printf "%d: a sql block without the mark\n", FNR >"/dev/stderr"; wrong = 1 }
		/^```sql/ && marked  { n++; file = sprintf("%s/block.%03d.sql", dir, n); printf "" >file
							   print FNR >sprintf("%s/block.%03d.line", dir, n); next }
		/^```text/ && shown	 { file = sprintf("%s/block.%03d.out", dir, n); printf "" >file; next }
		/^```/				 { if (file) close(file); file = "" }
		file				 { print >file; next }
		NF					 { marked = /^<!-- runnable -->$/; shown = /^<!-- output -->$/ }
		END					 { exit wrong || !n }' "$readme"
}

start_broker() {
	[ -z "${CLICKSTREAM_BROKERS:-}" ] || return 0
	[ -x demo/bin/clickstream-broker ] || fail 'demo/bin/clickstream-broker is missing; make demo-tools builds it'
	demo/bin/clickstream-broker --topic clickstream-events:4 --topic users-cdc:1 --ready-file "$work/broker" >"$work/broker.log" 2>&1 </dev/null &
	broker_pid=$!
	until [ -s "$work/broker" ]; do
		kill -0 "$broker_pid" 2>/dev/null || fail "the broker does not start: $(cat "$work/broker.log")"
		sleep 0.1
	done
	CLICKSTREAM_BROKERS=$(cat "$work/broker")
}

# psql sets blanks at the ends of lines, which no editor keeps.
tidy() { sed -e 's/[[:blank:]]*$//' -e '/^$/d' "$1"; }

run_block() {
	local block=$1 line
	line=$readme:$(cat "$block.line")
	# A reader's machine has nothing else to do, this one may have.
	sed -i -e "s/localhost:9092/$CLICKSTREAM_BROKERS/g" -e "/wait_for(/s/'1 minute'/'5 minutes'/" "$block.sql"
	sql -d "$database" -f "$block.sql" >"$block.result" 2>&1 ||
		fail "$line: this fails:"$'\n'"$(cat "$block.sql" "$block.result")"
	[ ! -e "$block.out" ] || diff -u --label "$line" --label psql <(tidy "$block.out") <(tidy "$block.result") ||
		fail "$line: psql prints something else"
}

extract || fail "$readme: no blocks to run, or some without mark"
start_broker
sql -d postgres -c "DROP DATABASE IF EXISTS $database" -c "CREATE DATABASE $database" || exit 1
n=0
for block in "$work"/block.*.sql; do
	run_block "${block%.sql}"
	n=$((n + 1))
done
echo "readme: $n blocks ran"
