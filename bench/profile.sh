#!/bin/bash
# Where the worker's time goes in live traffic: a small, repeatable run
# for pairs of before and after, on a machine that others use too.
#
#   bench/profile.sh [perf | time | instructions | lookups]
#
#   perf    where the worker's time goes, by perf (the default): shares, which
#           a loaded machine changes less than times
#   time    the worker's CPU time an event
#   instructions
#           how many instructions of the worker an event takes, and how often one
#           misses a cache of 1 MB, and where, by callgrind: the same on any
#           machine, but blind to what was announced to the processor, and to
#           the kernel
#   lookups how many instructions a lookup adds to an event, by callgrind; needs
#           neither warm-up nor worker
#
# Events of generate.c at 6,000 a second of event time come through the local
# topic, a second of them in one transaction, the next when that is committed:
# so each batch is one second.  Before, the worker reads BENCH_WARM events to
# have some hundred thousand sessions open; that cluster is kept in
# BENCH_WORK (BENCH_FRESH=1 makes it anew) and measured in copies.  No broker
# takes part, the local topic's own part is counted.
#
# environment, with defaults:
#   BENCH_WORK=/var/tmp/clickstream-profile   BENCH_WARM=1200000
#   BENCH_BATCHES=60 (instructions: 20, lookups: 10)  BENCH_FRESH=
set -eu
bench=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$bench")
mode=${1:-perf}
work=${BENCH_WORK:-/var/tmp/clickstream-profile}
warm=${BENCH_WARM:-1200000}
rate=6000
case $mode in
	perf | time) batches=${BENCH_BATCHES:-60} ;;
	instructions) batches=${BENCH_BATCHES:-20} ;;
	lookups) batches=${BENCH_BATCHES:-10} ;;
	*) echo "profile.sh: no such mode: $mode" >&2 && exit 2 ;;
esac
out=$bench/out
postmaster=

account=$(id -un)
[ "$(id -u)" != 0 ] || account=postgres

as_server() {
	if [ "$account" = "$(id -un)" ]; then "$@"; else runuser -u "$account" -- "$@"; fi
}

cleanup() {
	status=$?
	trap - EXIT INT TERM
	stop_cluster immediate
	rm -rf "$work/run"
	exit "$status"
}

# A copy of the server to install into, as test/check.sh has it.
prepare() {
	mkdir -p "$work/server" "$out"
	[ -d "$work/server/usr" ] || tar -C / -cf - $(for d in bindir pkglibdir sharedir; do pg_config --$d; done |
		sort -u | sed 's,^/,,') | tar -C "$work/server" -xf -
	bin=$work/server$(pg_config --bindir)
	make -s -C "$top" all bench-tools
	make -s -C "$top" install DESTDIR="$work/server" >/dev/null
	chmod a+rx "$work"
	chmod -R a+rX "$work/server"
}

start_cluster() { # DATA [WRAPPER...]
	data=$1
	shift
	as_server "$@" "$bin/postgres" -D "$data" >>"$work/server.log" 2>&1 &
	until as_server "$bin/pg_isready" -q -h "$work" -p 5499; do
		kill -0 $! # else the server's log says why
		sleep 0.5
	done
	postmaster=$(head -n 1 "$data/postmaster.pid")
}

stop_cluster() {
	[ -n "$postmaster" ] || return 0
	as_server "$bin/pg_ctl" -D "$data" -s -w -t 600 -m "$1" stop || true
	postmaster=
}

ask() { as_server psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -p 5499 -U postgres -d postgres -c "$1"; }

# The batch of events numbered (FROM, TO]; the last one by produce(), which wakes the worker.
feed() {
	ask "INSERT INTO clickstream.local_message (stream_id, partition, message_offset, message_key, payload, message_timestamp)
		SELECT 1, partition, n_in_partition, key, payload, ts FROM staged WHERE n > $1 AND n < $2 ORDER BY n;
		UPDATE clickstream.local_partition p SET next_offset = s.next
			FROM (SELECT partition, max(n_in_partition) + 1 AS next FROM staged WHERE n > $1 AND n < $2 GROUP BY 1) s
			WHERE p.partition = s.partition;
		SELECT clickstream.produce('web', payload, key, partition, ts) FROM staged WHERE n = $2" >/dev/null
	until [ "$(ask 'SELECT sum(next_offset) FROM clickstream.partition')" = "$2" ]; do sleep 0.1; done
}

make_cluster() { # DATA
	rm -rf "$1"
	mkdir "$1"
	[ "$(id -u)" != 0 ] || chown "$account" "$work" "$1"
	as_server "$bin/initdb" -D "$1" -A trust -U postgres -E UTF8 --locale=C.UTF-8 >/dev/null
	cat >>"$1/postgresql.conf" <<-END
		listen_addresses = ''
		port = 5499
		unix_socket_directories = '$work'
		shared_preload_libraries = 'clickstream'
		shared_buffers = 512MB
		max_wal_size = 4GB
		autovacuum = off
		clickstream.state_memory = '2GB'
	END
}

make_warm() {
	total=$((warm + 70 * rate))
	make_cluster "$work/warm"
	start_cluster "$work/warm"
	ask "CREATE EXTENSION clickstream;
		SELECT clickstream.quickstart('web', target_schema => 'web', start => false);
		SELECT clickstream.alter_stream('web', idle_timeout => '1 day'); -- else a pause shows all that is open
		CREATE TABLE events (n bigint GENERATED ALWAYS AS IDENTITY, key text, payload text)"
	"$bench/bin/generate" "$total" 42 $rate 5000000 |
		ask "COPY events (key, payload) FROM STDIN (FORMAT csv, DELIMITER E'\t', QUOTE E'\x01')"
	ask "CREATE TABLE staged AS SELECT n, partition, key, payload, ts,
			row_number() OVER (PARTITION BY partition ORDER BY n) - 1 AS n_in_partition
		FROM (SELECT *, abs(hashtext(key) % 8) AS partition, (payload::json->>'event_time')::timestamptz AS ts FROM events) e;
		CREATE INDEX ON staged (n);
		DROP TABLE events;
		INSERT INTO clickstream.local_partition (stream_id, partition) SELECT 1, generate_series(1, 7);
		SELECT clickstream.start('web')" >/dev/null
	feed 0 "$warm"
	ask "CHECKPOINT"
	stop_cluster fast
	touch "$work/warm/ready"
}

worker() { ask "SELECT pid FROM clickstream.stat_stream"; }

worker_ticks() { awk '{ sub(/^.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }

run_batches() { # FROM COUNT
	for i in $(seq "$2"); do
		feed $((warm + ($1 + i - 1) * rate)) $((warm + ($1 + i) * rate))
	done
}

# A stream of one window and as many batches, whose events are of USERS users in each batch.
make_stream() { # NAME USERS GROUP_BY
	ask "SELECT clickstream.create_stream('$1', watermark_delay => '0', idle_timeout => '1 day')" >/dev/null
	[ "$1" = none ] || ask "SELECT clickstream.create_lookup('profile', stream => '$1', key => 'user_id')" >/dev/null
	ask "SELECT clickstream.create_window('of_$1', stream => '$1', size => '1 minute', group_by => '$3', measures => 'count(*) AS events');
		SELECT count(clickstream.produce('$1', json_build_object('event_time', to_char('2024-06-01'::timestamp + i / $rate * interval '1 second', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
			'user_id', 'u' || (i % $2 + i / $rate * 1000), 'event_type', 'page_view', 'page_url', '/product/' || i % 1000, 'device_type', (ARRAY['desktop', 'mobile', 'tablet'])[1 + i % 3],
			'browser', 'Firefox', 'country', 'DE', 'utm_source', 'mail', 'event_properties', json_build_object('n', i))::text))
		FROM generate_series(0, $batches * $rate - 1) AS i" >/dev/null
}

# Instructions an event of a stream, all its batches together; the process opens it and plans, too.
count_stream() { # NAME
	pid=$(printf '%s;\n' 'SELECT pg_backend_pid()' "SET clickstream.batch_messages = $rate" "CALL clickstream.process('$1')" |
		as_server psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -p 5499 -U postgres -d postgres)
	until [ -s "$work/callgrind.$pid" ]; do sleep 0.1; done
	callgrind_annotate --inclusive=yes "$work/callgrind.$pid" >"$out/lookups-$1.txt" 2>/dev/null
	awk -v name="$1" -v n=$((batches * rate)) '$1 == "totals:" { printf "%-10s %6.0f instructions an event\n", name, $2 / n }' "$work/callgrind.$pid"
}

measure_lookups() {
	make_cluster "$work/run"
	start_cluster "$work/run"
	ask "CREATE EXTENSION clickstream;
		CREATE TABLE profile (user_id text PRIMARY KEY, plan_type text, signup_date date, company_name text);
		INSERT INTO profile SELECT 'u' || i, (ARRAY['free', 'pro', 'team'])[1 + i % 3], date '2024-05-01' - i % 1000, 'Company ' || i / 10 FROM generate_series(0, 99999) AS i;
		ANALYZE profile"
	make_stream none $rate device_type
	make_stream each $rate profile.plan_type   # each event of a batch another user
	make_stream tenth $((rate / 10)) profile.plan_type
	make_stream few 60 profile.plan_type
	ask "VACUUM ANALYZE"
	stop_cluster fast
	rm -f "$work"/callgrind.*
	start_cluster "$work/run" valgrind -q --tool=callgrind --collect-atstart=no --toggle-collect=cs_engine_batch \
		--callgrind-out-file="$work/callgrind.%p"
	for stream in none each tenth few; do count_stream "$stream"; done
	stop_cluster fast
}

measure() {
	if [ -n "${BENCH_FRESH:-}" ] || [ ! -f "$work/warm/ready" ]; then
		make_warm
	fi
	rm -rf "$work/run"
	as_server cp -a "$work/warm" "$work/run"
	case $mode in
		perf | time)
			start_cluster "$work/run"
			until pid=$(worker) && [ -n "$pid" ]; do sleep 0.5; done
			run_batches 0 5
			before=$(worker_ticks "$pid")
			if [ "$mode" = perf ]; then
				perf record -q -F 2999 -g -p "$pid" -o "$work/perf.data" &
				profiler=$!
			fi
			run_batches 5 "$batches"
			echo "an event: $(awk -v t=$(($(worker_ticks "$pid") - before)) -v n=$((batches * rate)) \
				'BEGIN { printf "%.2f", t * 1e4 / n }') us of the worker"
			if [ "$mode" = perf ]; then
				kill -INT "$profiler"
				wait "$profiler" || true
				perf report -i "$work/perf.data" --stdio --no-children -g none 2>/dev/null >"$out/profile-self.txt"
				perf report -i "$work/perf.data" --stdio --children -g none 2>/dev/null >"$out/profile-inclusive.txt"
			fi
			;;
		instructions)
			rm -f "$work"/callgrind.*
			start_cluster "$work/run" valgrind -q --tool=callgrind --collect-atstart=no \
				--cache-sim=yes --LL=1048576,16,64 --toggle-collect=cs_engine_batch --callgrind-out-file="$work/callgrind.%p"
			until pid=$(worker) && [ -n "$pid" ]; do sleep 0.5; done
			run_batches 0 5
			as_server callgrind_control -z "$pid" >/dev/null
			run_batches 5 "$batches"
			as_server callgrind_control -d "$pid" >/dev/null
			callgrind_annotate --inclusive=no "$work/callgrind.$pid.1" >"$out/instructions-self.txt"
			callgrind_annotate --inclusive=yes "$work/callgrind.$pid.1" >"$out/instructions-inclusive.txt"
			awk -v n=$((batches * rate)) '$1 == "events:" { for (i = 2; i <= NF; i++) name[i] = $i }
				$1 == "totals:" { for (i = 2; i <= NF; i++) total[name[i]] = $i }
				END { printf "an event: %.0f instructions of the worker, %.1f misses in reading, %.1f in writing\n",
					total["Ir"] / n, total["DLmr"] / n, total["DLmw"] / n }' "$work/callgrind.$pid.1"
			;;
	esac
	stop_cluster immediate
}

trap cleanup EXIT
trap 'exit 130' INT TERM
prepare
if [ "$mode" = lookups ]; then measure_lookups; else measure; fi
