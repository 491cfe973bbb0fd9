#!/bin/bash
# How fast window_funnel(), sequence_match(), sequence_count() and retention()
# are, beside ClickHouse in one process (chdb, in Node.js) and beside the same
# funnel in plain SQL with window functions.  "make bench-aggregates".
#
# The same stored events for all: one row each, in order of time, 20 a visitor,
# 16 kinds.  Each question goes over all of them, grouped by visitor; the answers must be
# equal.  Figures are the least of some runs after one to warm up, in ms: with
# one process or thread, and with two.
#
# environment, with defaults:
#   BENCH_SIZES="1000000 10000000"   events
#   BENCH_RUNS=3
#   BENCH_WORK=/var/tmp/clickstream-bench-aggregates   cluster and data
#   BENCH_CONF=     lines added to postgresql.conf
#   BENCH_BUILD=1   0: take the extension that is installed
#   PG_CONFIG=pg_config
set -eu
bench=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$bench")
sizes=${BENCH_SIZES:-1000000 10000000}
runs=${BENCH_RUNS:-3}
work=${BENCH_WORK:-/var/tmp/clickstream-bench-aggregates}
export PG_CONFIG=${PG_CONFIG:-pg_config}

questions=(funnel funnel_strict funnel_once sequence count retention plain_sql)

fail() {
	echo "bench: $*" >&2
	exit 1
}

as_server() {
	if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

clean_up() {
	[ ! -e "$work/pg/postmaster.pid" ] || as_server "$bin/pg_ctl" -D "$work/pg" -s -m immediate stop || true
	rm -rf "$work"
}

prepare() {
	"$top/test/setup.sh" packages
	"$top/test/setup.sh" clickhouse
	module=$("$top/test/setup.sh" clickhouse-module)
	bin=$("$PG_CONFIG" --bindir)
	if [ "${BENCH_BUILD:-1}" = 1 ]; then
		make -s -C "$top" all
		if [ "$(id -u)" = 0 ]; then make -s -C "$top" install; else sudo make -s -C "$top" install PG_CONFIG="$PG_CONFIG"; fi
	fi
	rm -rf "$work"
	trap clean_up EXIT
	trap 'exit 130' INT TERM HUP
	mkdir -p "$work/pg" "$work/socket"
	chmod 755 "$work"
	[ "$(id -u)" != 0 ] || chown postgres "$work/pg" "$work/socket"
	as_server "$bin/initdb" -D "$work/pg" -A trust -U postgres -E UTF8 --no-locale >"$work/initdb.log" 2>&1 || fail "$(cat "$work/initdb.log")"
	cat >>"$work/pg/postgresql.conf" <<-END
		listen_addresses = ''
		unix_socket_directories = '$work/socket'
		shared_preload_libraries = 'clickstream'
		shared_buffers = 2GB
		max_wal_size = 8GB
		fsync = off
		work_mem = 1GB
		${BENCH_CONF:-}
	END
	as_server "$bin/pg_ctl" -D "$work/pg" -l "$work/pg/server.log" -s -w start || fail "$(tail -n 20 "$work/pg/server.log")"
	sql -c 'CREATE EXTENSION clickstream'
}

sql() { PGOPTIONS='-c client_min_messages=warning' "$bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$work/socket" -U postgres -d postgres "$@"; }

load() {
	sql -v n="$1" <<-'END'
		DROP TABLE IF EXISTS event;
		CREATE TABLE event (who int NOT NULL, t timestamptz NOT NULL, what int2 NOT NULL);
		INSERT INTO event SELECT (hashint4(i) & 2147483647) % (:n / 20), '2024-06-01 00:00+00'::timestamptz + i * interval '1 second',
			(hashint8(i) / 7 & 15)::int2
		FROM generate_series(1, :n) AS i;
		VACUUM ANALYZE event;
	END
	sql -c "\\copy (SELECT who, extract(epoch FROM t)::bigint, what FROM event) TO '$work/event.csv' CSV"
}

# The question in PostgreSQL.  Within some hours or days, for a visitor's events are that far apart.
question() {
	local within=$((n / 20)) steps='what = 0, what = 1, what = 2, what = 3'
	local by_visitor="FROM event GROUP BY who"
	case $1 in
		funnel) echo "SELECT clickstream.window_funnel('$within s', NULL, t, $steps) AS a $by_visitor" ;;
		funnel_strict) echo "SELECT clickstream.window_funnel('$within s', 'strict_order', t, $steps) AS a $by_visitor" ;;
		funnel_once) echo "SELECT clickstream.window_funnel('$within s', 'strict_once', t, $steps) AS a $by_visitor" ;;
		sequence) echo "SELECT clickstream.sequence_match('(?1)(?t<=$within)(?2)', t, $steps)::int AS a $by_visitor" ;;
		count) echo "SELECT clickstream.sequence_count('(?1).*(?2)', t, $steps) AS a $by_visitor" ;;
		retention) echo "SELECT (clickstream.retention($steps))[2]::int AS a $by_visitor" ;;
		plain_sql) plain_sql "$within" ;;
	esac
}

# The funnel without us: of each step the latest start with which it was reached, row by row.
plain_sql() {
	local w="OVER (PARTITION BY who ORDER BY t)" inner="event" k
	inner="(SELECT who, t, what, max(t) FILTER (WHERE what = 0) $w AS s0 FROM event) AS e"
	for k in 1 2 3; do
		inner="(SELECT *, max(s$((k - 1))) FILTER (WHERE what = $k AND t - s$((k - 1)) <= '$1 s') $w AS s$k FROM $inner) AS e"
	done
	echo "SELECT (max(s0) IS NOT NULL)::int + (max(s1) IS NOT NULL)::int + (max(s2) IS NOT NULL)::int + (max(s3) IS NOT NULL)::int AS a FROM $inner GROUP BY who"
}

# ms and answer of a question: the least of the runs.
ask_postgres() {
	local settings="SET jit = off; SET max_parallel_workers_per_gather = $(($2 - 1)); SET parallel_leader_participation = on;" i
	{
		echo "$settings"
		echo '\timing on'
		for ((i = 0; i <= runs; i++)); do
			echo "SELECT string_agg(a || ':' || n, ' ' ORDER BY a) FROM (SELECT a, count(*) AS n FROM ($(question "$1")) AS q GROUP BY a) AS s;"
		done
	} | sql -A -t | awk '/^Time:/ { if (seen++ && (!least || $2 < least)) least = $2; next } NF { answer = $0 } END { printf "%.0f\t%s\n", least, answer }'
}

report() {
	local q one two ours theirs
	node "$bench/aggregates.js" "$module" "$work/event.csv" "$runs" "$((n / 20))" >"$work/clickhouse"
	printf '%s events: ms with one process or thread, and with two\n' "$n"
	printf '%-15s %10s %10s   %10s %10s   %s\n' question PostgreSQL ClickHouse PostgreSQL ClickHouse ratio
	for q in "${questions[@]}"; do
		one=$(ask_postgres "$q" 1)
		two=$(ask_postgres "$q" 2)
		ours=${one#*$'\t'}
		[ "$ours" = "${two#*$'\t'}" ] || fail "$q: other answers in parallel"
		theirs=$(awk -F '\t' -v q="${q/plain_sql/funnel}" '$1 == q { print $4 }' "$work/clickhouse")
		[ "$ours" = "$theirs" ] || fail "$q: $ours, but ClickHouse says $theirs"
		awk -F '\t' -v q="${q/plain_sql/funnel}" -v name="$q" -v one="${one%%$'\t'*}" -v two="${two%%$'\t'*}" '$1 == q {
			printf "%-15s %10d %10d   %10d %10d   %.1f, %.1f\n", name, one, $2, two, $3, one / $2, two / $3 }' "$work/clickhouse"
	done
	echo
}

prepare
for n in $sizes; do
	load "$n"
	report
done
