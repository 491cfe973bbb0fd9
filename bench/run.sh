#!/bin/sh
# How fast it is: "make bench".
#
# Loads a Kafka topic with generated events (see generate.c), then runs the
# pipeline of quickstart() over it on one core and reports what an event
# costs, beside a pass that only fetches and parses (yardstick.cpp).
#
#   catchup    the topic is there; one worker reads it to its end.  Figures are
#              of the steady part: what follows the first BENCH_WARM_SECONDS of
#              event time, when sessions close as fast as they open.
#   sessions   catch-up with sessions only
#   readers    sessions, while BENCH_READERS others ask for all that is open, again and again, on the broker's core
#   cheap      catch-up with two tables of few rows only (traffic_by_source, funnel_step_counts)
#   eventlog   catch-up with every event kept as a row, too
#   definitions   catch-up with BENCH_DEFINITIONS windows alike, each of pages by minute
#   cores      catch-up on one core, then on both with BENCH_HELPERS decode workers, then on both with the tables in two streams:
#              how much faster by the clock
#              The broker is on one of the two, as ever.
#   spill      catch-up with plenty of memory for state, then with a tenth of what
#              it took: the rest lies in the spill table.  How much more that costs.
#   live       after the same warm-up events come in real time,
#              BENCH_LIVE_RATE a second, and the worker commits every second.
#   latency    live, once for each of BENCH_INTERVALS: from a message's timestamp to the
#              commit that shows the first row of its group in page_views_per_minute
#   start      sessions only, BENCH_START_EVENTS read, so that a million are open:
#              from a worker's start to its first commit, BENCH_STARTS times
#   hostile    BENCH_HOSTILE_EVENTS messages that are bad in one way: one visitor, a page for each event,
#              50 kB each, tombstones, all late, all broken; beside ordinary ones
#   flink      the same statements in a running Flink (flink.sql), over the topic's first
#              BENCH_FLINK_SMALL events and over all: what the rest costs.  With catchup beside
#              it that is "make bench-flink".
#
# The whole cluster is pinned to one core; Kafka, the producer and this script
# to another.  What the cluster costs is the user + system time of all its
# processes, the exited ones too, but for the one backend that asks it how far
# it is.  See sample().
#
#   BENCH_EVENTS=1000000 make bench     a quick look, which is no valid figure
#   make bench-quick                    each mode in small: does it run?
#
# environment, with defaults:
#   BENCH_MODES="catchup live"   BENCH_RUNS=3 (of what catches up)   BENCH_LIVE_RUNS=1
#   BENCH_EVENTS=10000000  BENCH_SEED=42  BENCH_RATE=2000  BENCH_USERS=5000000  BENCH_PARTITIONS=8  BENCH_DEFINITIONS=7  BENCH_DECODE_WORKERS=0 (of any mode)  BENCH_HELPERS=1 (of cores)
#   BENCH_READERS=2  BENCH_WARM_SECONDS=2000  BENCH_LIVE_RATE=6000
#   BENCH_LIVE_SECONDS=320   14 million events in all; long enough for a checkpoint and for autovacuum
#   BENCH_INTERVALS="1s 100ms"   BENCH_LATENCY_SECONDS=120   BENCH_LATENCY_WARM=120 (seconds of event time)
#   BENCH_START_EVENTS=17500000   BENCH_START_RATE=7200 (of event time)   BENCH_STARTS=5   BENCH_HOSTILE_EVENTS=400000   BENCH_FLINK_SMALL=1000000   BENCH_FLINK_HEAP=13g (of 5 million events)
#   BENCH_CORE=0  BENCH_BROKER_CORE=1
#   BENCH_WORK=/var/tmp/clickstream-bench   cluster, broker and logs live here
#   BENCH_KEEP=       1: leave broker data and logs; the next run loads nothing
#   BENCH_CONF=       lines added to postgresql.conf
#   BENCH_STATE_MEMORY=6GB   clickstream.state_memory where nothing is to spill
#   BENCH_PERF=       1: profile the cluster with perf in the first steady BENCH_PERF_SECONDS (20);
#                     BENCH_PERF_OPTIONS are perf record's
#   BENCH_WAL_FILES=512   files of WAL, 16 MB each, that the server has for use again before it begins
#   BENCH_BUILD=1     0: take the extension that is installed
#   BENCH_QUICK=      1: the defaults are those of "make bench-quick"
set -eu
bench=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$bench")
. "$bench/modes.sh"

if [ -n "${BENCH_QUICK:-}" ]; then
	: "${BENCH_MODES:=catchup sessions readers cheap eventlog definitions cores spill live latency start hostile}" "${BENCH_RUNS:=1}"
	: "${BENCH_EVENTS:=150000}" "${BENCH_WAL_FILES:=4}" "${BENCH_LIVE_SECONDS:=5}" "${BENCH_SETTLE_SECONDS:=2}"
	: "${BENCH_LATENCY_SECONDS:=5}" "${BENCH_LATENCY_WARM:=10}" "${BENCH_START_EVENTS:=150000}" "${BENCH_STARTS:=2}" "${BENCH_HOSTILE_EVENTS:=20000}"
fi
modes=${BENCH_MODES:-catchup live}
runs=${BENCH_RUNS:-3}
live_runs=${BENCH_LIVE_RUNS:-1}
events=${BENCH_EVENTS:-10000000}
seed=${BENCH_SEED:-42}
rate=${BENCH_RATE:-2000}
users=${BENCH_USERS:-5000000}
warm_seconds=${BENCH_WARM_SECONDS:-2000}
live_rate=${BENCH_LIVE_RATE:-6000}
readers=${BENCH_READERS:-2}
live_seconds=${BENCH_LIVE_SECONDS:-320}
latency_intervals=${BENCH_INTERVALS:-1s 100ms}
latency_seconds=${BENCH_LATENCY_SECONDS:-120}
latency_warm=${BENCH_LATENCY_WARM:-120}
wal_files=${BENCH_WAL_FILES:-512}
start_rate=${BENCH_START_RATE:-7200}
start_events=${BENCH_START_EVENTS:-17500000}
starts=${BENCH_STARTS:-5}
hostile_events=${BENCH_HOSTILE_EVENTS:-400000}
flink_small=${BENCH_FLINK_SMALL:-1000000}
flink_heap=${BENCH_FLINK_HEAP:-13g}
core=${BENCH_CORE:-0}
broker_core=${BENCH_BROKER_CORE:-1}
work=${BENCH_WORK:-/var/tmp/clickstream-bench}
out=$bench/out

partitions=${BENCH_PARTITIONS:-8}
definitions=${BENCH_DEFINITIONS:-7}
decode_workers=${BENCH_DECODE_WORKERS:-0}
helpers=${BENCH_HELPERS:-1}
slice_seconds=20          # live: how often it is looked what an event costs
settle_seconds=${BENCH_SETTLE_SECONDS:-10} # live: from the first paced event to the first sample
stall_seconds=120         # no commit for so long: give up
closed_per_million=40000  # fewer closed sessions: not the load we mean
open_sessions_min=250000
start_sessions_min=1000000
all_tables="user_sessions page_views_per_minute page_views_rolling traffic_by_source
	checkout_funnel funnel_step_counts session_metrics"

say() { echo "bench: $*" >&2; }

fail() {
	say "$*"
	exit 1
}

# ---------- what is running, and how it ends ----------

postmaster=
plenty_of_state="clickstream.state_memory = '${BENCH_STATE_MEMORY:-6GB}'" # of what is measured without spilling
state_memory=$plenty_of_state # a line of postgresql.conf
conf=                         # more of them
tables=$all_tables            # those that are made of the stream
windows=0                     # and how many windows alike beside them
second_tables=                # those of a second stream of the same topic
observer=
generator=
asking=
brokers=

cleanup() {
	status=$?
	trap - EXIT INT TERM
	[ -z "$generator" ] || kill "$generator" 2>/dev/null || true
	stop_readers
	stop_cluster immediate
	close_observer
	if [ "$status" != 0 ] && [ -f "$work/server.log" ]; then
		cp "$work/server.log" "$out/failed-server.log"
		say "the server's log is in $out/failed-server.log"
	fi
	[ -z "$brokers" ] || "$top/test/kafka/stop.sh" "$work/kafka" || true
	[ -n "${BENCH_KEEP:-}" ] || rm -rf "$work"
}

# Sets everything up that outlives a run.
prepare() {
	"$top/test/setup.sh" packages
	"$top/test/setup.sh" kafka
	case " $modes " in *" flink "*) "$top/test/setup.sh" flink ;; esac
	# PostgreSQL refuses root.
	account=$(id -un)
	[ "$(id -u)" != 0 ] || account=postgres
	bin=$(pg_config --bindir)
	make -s -C "$top" bench-tools
	if [ "${BENCH_BUILD:-1}" = 1 ]; then
		make -s -C "$top" all
		as_root make -s -C "$top" install
	fi
	mkdir -p "$work" "$out"
	chmod 755 "$work"
	# The broker's processes inherit the core.
	brokers=$(CLICKSTREAM_KAFKA_HEAP=1g taskset -c "$broker_core" "$top/test/kafka/start.sh" "$work/kafka")
	say "kafka at $brokers, core $broker_core; cluster on core $core"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

as_server() {
	if [ "$account" = "$(id -un)" ]; then "$@"; else runuser -u "$account" -- "$@"; fi
}

# ---------- topics ----------

# Messages in a topic, 0 if there is none.
topic_size() {
	name=$1
	shift
	for i in $(seq 0 $((partitions - 1))); do
		set -- "$@" -t "$name:$i:-1"
	done
	kcat -b "$brokers" -Q "$@" 2>/dev/null | awk '{ n += $NF } END { print n + 0 }'
}

create_topic() {
	"$top/test/kafka/topic.sh" create "$brokers" "$1" "$partitions" compression.type=producer retention.ms=-1
}

load_topic() {
	topic=events-$events-$seed-$rate-$users-$partitions
	[ "$(topic_size "$topic")" != "$events" ] || return 0
	say "loading $events events"
	# What an interrupted run has left; its deletion takes a moment.
	! "$top/test/kafka/topic.sh" delete "$brokers" "$topic" 2>/dev/null || sleep 5
	create_topic "$topic"
	taskset -c "$broker_core" "$bench/bin/generate" --brokers "$brokers" --topic "$topic" \
		"$events" "$seed" "$rate" "$users" 2>"$work/generate.log" || fail "$(cat "$work/generate.log")"
	[ "$(topic_size "$topic")" = "$events" ] || fail "topic $topic does not hold $events events"
}

# ---------- the cluster ----------

start_cluster() {
	stop_cluster immediate
	rm -rf "$work/pg" "$work/socket"
	mkdir -p "$work/pg" "$work/socket"
	[ "$(id -u)" != 0 ] || chown "$account" "$work/pg" "$work/socket"
	as_server "$bin/initdb" -D "$work/pg" -A trust -U postgres -E UTF8 --locale=C.UTF-8 >"$work/initdb.log" 2>&1 ||
		fail "$(cat "$work/initdb.log")"
	cat >>"$work/pg/postgresql.conf" <<-END
		listen_addresses = ''
		unix_socket_directories = '$work/socket'
		shared_preload_libraries = 'clickstream'
		shared_buffers = 1GB
		min_wal_size = 8GB
		max_wal_size = 8GB
		synchronous_commit = on
		track_commit_timestamp = off
		log_checkpoints = on
		$state_memory
		$conf
		${BENCH_CONF:-}
	END
	as_server taskset -c "$core" "$bin/pg_ctl" -D "$work/pg" -l "$work/pg/server.log" -s -w start ||
		fail "$(tail -n 20 "$work/pg/server.log")"
	postmaster=$(head -n 1 "$work/pg/postmaster.pid")
	age
}

# A server that has run for a while writes its WAL into files that were used before; a new
# one fills each with zeros first, which was 4 percent of a catch-up.  And it has used its
# buffers, whose memory a new one gets from the kernel page by page: 4 percent again.
age() {
	taskset -c "$core" psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$work/socket" -U postgres postgres >/dev/null <<-END
		CREATE UNLOGGED TABLE aged (page text);
		ALTER TABLE aged ALTER page SET STORAGE PLAIN;
		INSERT INTO aged SELECT repeat('x', 8000) FROM generate_series(1, pg_size_bytes(current_setting('shared_buffers')) / 8192);
		DROP TABLE aged;
		SELECT pg_create_restore_point('aged'), pg_switch_wal() FROM generate_series(1, $wal_files);
		CHECKPOINT;
	END
}

stop_cluster() {
	[ -n "$postmaster" ] || return 0
	as_server "$bin/pg_ctl" -D "$work/pg" -s -w -m "$1" stop || true
	cp "$work/pg/server.log" "$work/server.log" 2>/dev/null || true
	postmaster=
}

# One psql stays connected: asking must not cost a process each time.
open_observer() {
	rm -f "$work/ask" "$work/answer"
	mkfifo "$work/ask" "$work/answer"
	taskset -c "$broker_core" psql -X -q -A -t -F ' ' -v ON_ERROR_STOP=1 -h "$work/socket" -U postgres postgres \
		<"$work/ask" >"$work/answer" &
	observer=$!
	exec 3>"$work/ask" 4<"$work/answer"
	observer_backend=$(ask "SELECT pg_backend_pid()")
}

close_observer() {
	[ -n "$observer" ] || return 0
	exec 3>&- 4<&-
	kill "$observer" 2>/dev/null || true
	wait "$observer" 2>/dev/null || true
	observer=
}

# They ask and ask, each until it is stopped; a line for each answer.
start_readers() {
	for reader in $(seq "$1"); do
		yes "SELECT pg_backend_pid(), count(*) FROM clickstream.open_sessions('web.user_sessions');" |
			taskset -c "$broker_core" psql -X -q -A -t -F ' ' -h "$work/socket" -U postgres postgres >"$work/reader-$reader" 2>&1 &
		asking="$asking $!"
	done
	for reader in $(seq "$1"); do
		until [ -s "$work/reader-$reader" ]; do sleep 0.1; done
		taskset -cp "$broker_core" "$(awk '{ print $1; exit }' "$work/reader-$reader")" >/dev/null
	done
}

stop_readers() {
	for reader in $asking; do
		kill "$reader" 2>/dev/null || true
		wait "$reader" 2>/dev/null || true
	done
	asking=
}

# Prints the one line that a query answers.
ask() {
	echo "$1;" >&3
	read -r answer <&4 || fail "no answer to: $1"
	echo "$answer"
}

# The pipeline of quickstart(), or what of it "tables" names; it does not run yet.
make_stream() {
	ask "CREATE EXTENSION clickstream; SELECT 1" >/dev/null
	make_tables web "$1" "${2:-false}"
	[ "$decode_workers" = 0 ] || ask "SELECT count(*) FROM clickstream.alter_stream('web', decode_workers => $decode_workers)" >/dev/null
	[ "$windows" = 0 ] || ask "SELECT count(clickstream.create_window('web.pages_' || i, 'web', size => '1 minute', group_by => 'page_url',
		measures => 'count(*) AS events, count(DISTINCT effective_user_id) AS visitors')) FROM generate_series(1, $windows) AS i" >/dev/null
	[ -z "$second_tables" ] || (
		tables=$second_tables
		make_tables second "$1"
	)
}

# make_tables STREAM TOPIC [EVENT_LOG]: in a schema of the stream's name.
make_tables() {
	ask "SELECT count(*) FROM clickstream.quickstart('$1', brokers => '$brokers', topic => '$2',
		target_schema => '$1', start_from => 'earliest', start => false, event_log => ${3:-false})" >/dev/null
	# The rollup before its source.
	for table in $(echo "$all_tables" | tr -s ' \t\n' '\n' | tac); do
		case $table in
			user_sessions) kind=session ;;
			checkout_funnel) kind=funnel ;;
			session_metrics) kind=rollup ;;
			*) kind=window ;;
		esac
		makes "$table" || ask "SELECT count(*) FROM clickstream.drop_$kind('$1.$table')" >/dev/null
	done
}

makes() {
	for one in $tables; do
		[ "$one" != "$1" ] || return 0
	done
	return 1
}

start_stream() { ask "SELECT count(clickstream.start(name)) FROM clickstream.stream" >/dev/null; }

# By the stream that is behind, where there are two.
consumed() {
	ask "SELECT coalesce(min(n), 0)::bigint FROM (SELECT coalesce(sum(next_offset), 0) AS n
		FROM clickstream.stream LEFT JOIN clickstream.partition USING (stream_id) GROUP BY stream_id) AS s"
}

# Waits until that many events are committed.
wait_until_consumed() {
	last=-1
	since=$(date +%s)
	while
		now=$(consumed) || exit 1
		[ "$now" -lt "$1" ]
	do
		if [ "$now" != "$last" ]; then
			last=$now
			since=$(date +%s)
		elif [ $(($(date +%s) - since)) -gt "$stall_seconds" ]; then
			fail "no commit for $stall_seconds s at $now of $1 events:" \
				"$(ask "SELECT state, translate(last_error, E'\\n', ' ') FROM clickstream.stat_stream")"
		fi
		sleep 0.1
	done
}

# ---------- measuring ----------

# CPU ticks of the whole cluster and of the worker.  utime + stime of each
# live process, and with the postmaster also what its exited children left
# (cutime + cstime), so nothing is lost and nothing is counted twice.
cluster_ticks() {
	cat /proc/[0-9]*/stat 2>/dev/null | awk -v postmaster="$postmaster" -v observer="$observer_backend" \
		-v worker="$worker" '
		{ pid = $1; sub(/^.*\) /, "") }		# the name may hold blanks
		pid == observer { next }
		pid == postmaster || $2 == postmaster { total += $12 + $13 + $14 + $15 }
		pid == worker { of_worker = $12 + $13 }
		END { print total + 0, of_worker + 0 }'
}

# What has been read.  Of two streams it is the mean of both, since the one that is ahead has been paid for, too.
read_so_far="(sum(next_offset) / (SELECT count(*) FROM clickstream.stream))::bigint"

# Appends "NAME.key value" lines to the run's file.
sample() {
	name=$1
	# shellcheck disable=SC2046
	set -- $(ask "SELECT $read_so_far, (pg_current_wal_lsn() - '0/0')::bigint,
		extract(epoch FROM max(max_time)), (SELECT sum(commit_number) FROM clickstream.progress)
		FROM clickstream.partition") $(cluster_ticks) $(date +%s.%N)
	[ $# = 7 ] || fail "cannot read the counters: $*"
	cat >>"$figures" <<-END
		$name.events $1
		$name.wal $2
		$name.event_time $3
		$name.commits $4
		$name.cpu $5
		$name.worker_cpu $6
		$name.wall $7
	END
	# After the clocks have been read; the one of sessions is a scan.
	note_sizes "$name"
	! makes user_sessions || echo "$name.closed $(ask "SELECT count(*) FROM web.user_sessions")" >>"$figures"
}

# Bytes on disk of the state log, both halves, and of the spill table with its index.
note_sizes() {
	# shellcheck disable=SC2046
	set -- "$1" $(ask "SELECT sum(pg_relation_size(log_relations[1]) + pg_relation_size(log_relations[2])), sum(pg_total_relation_size(spill_relation))
		FROM clickstream.stream")
	printf '%s.log_bytes %s\n%s.spill_bytes %s\n' "$1" "$2" "$1" "$3" >>"$figures"
}

# What a part of a run has cost: events, ticks of the cluster and of the worker so far.
slice() {
	# shellcheck disable=SC2046
	set -- $(ask "SELECT $read_so_far FROM clickstream.partition") $(cluster_ticks)
	echo "slice.$slices $1 $2 $3" >>"$figures"
	note_sizes "slice.$slices"
	slices=$((slices + 1))
}

worker_memory() {
	[ "$(worker_pid)" = "$worker" ] || fail "the worker was restarted while we measured"
	awk '/^VmHWM/ { print "peak_kb", $2 } /^RssAnon/ { print "anonymous_kb", $2 }' "/proc/$worker/status" >>"$figures"
}

count_rows() {
	for table in $tables ${1:-}; do
		echo "rows.$table $(ask "SELECT count(*) FROM web.$table")" >>"$figures"
		echo "rewritten.$table $(ask "SELECT coalesce(sum(n_tup_upd), 0) FROM pg_stat_user_tables
			WHERE schemaname = 'web' AND relname = '$table'")" >>"$figures"
	done
	makes user_sessions || return 0
	from=$(awk '$1 == "begin.event_time" { print $2 }' "$figures")
	echo "open $(ask "SELECT count(*) FROM clickstream.open_sessions('web.user_sessions')")" >>"$figures"
	opened=$(ask "SELECT count(*) FROM (SELECT session_start FROM web.user_sessions UNION ALL
		SELECT session_start FROM clickstream.open_sessions('web.user_sessions')) s
		WHERE session_start > to_timestamp($from)")
	echo "opened $opened" >>"$figures"
}

worker_pid() { ask "SELECT coalesce(max(pid), 0) FROM clickstream.stat_stream"; }

# record SECONDS PIDS: where the time goes of these processes and of those that they start, if that is asked for.
record() {
	[ -n "${BENCH_PERF:-}" ] || return 0
	# shellcheck disable=SC2086
	perf record -q -F 3999 ${BENCH_PERF_OPTIONS:-} -p "$2" -o "$work/perf.data" -- sleep "$1" >/dev/null 2>&1
}

# Of the worker, and of the processes beside it, those that began meanwhile too.
report_profile() {
	ps -o pid=,args= --ppid "$postmaster" >"$out/perf-$mode-processes.txt"
	perf report -i "$work/perf.data" --stdio --no-children -g none --sort pid \
		2>/dev/null >>"$out/perf-$mode-processes.txt"
	perf report -i "$work/perf.data" --stdio --no-children -g none --sort pid,dso,symbol 2>/dev/null |
		grep '^ ' >"$out/perf-$mode-all.txt" || return 0
	grep " $worker:" "$out/perf-$mode-all.txt" >"$out/perf-$mode.txt" || true
	grep -v " $worker:" "$out/perf-$mode-all.txt" >"$out/perf-$mode-beside.txt" || true
	say "profile in $out/perf-$mode*.txt"
}

profile() {
	[ -n "${BENCH_PERF:-}" ] || return 0
	pids=$(ps -o pid= --ppid "$postmaster" | grep -vw "$observer_backend" | tr -d ' ' | paste -sd, -)
	record "${BENCH_PERF_SECONDS:-20}" "$postmaster,$pids" || return 0
	report_profile
}

# MB of open state, in memory; and rows of the spill table.
note_state() {
	echo "state_mb $(ask "SELECT ceil(max(state_bytes) / 1048576.0) FROM clickstream.stat_stream")" >>"$figures"
	echo "spilled $(ask "SELECT count(*) FROM clickstream.state_spill_1")" >>"$figures"
}

# ---------- all of it ----------

main() {
	[ "$(nproc)" -gt 1 ] || fail "the cluster and the broker need a core each"
	trap cleanup EXIT
	trap 'exit 130' INT TERM
	prepare
	rm -f "$work"/*-[0-9]*.txt
	steady_start
	[ "$quick" = 0 ] ||
		say "$events events are $((events / rate)) s of event time, $((steady / rate)) of them to warm up:" \
			"a quick look, NOT a valid figure"
	# Not in $mode, which each part of a row sets to its own.
	for row in $modes; do
		case $row in
			catchup | sessions | readers | cheap | eventlog | definitions | cores | spill) times=$runs ;;
			live) times=$live_runs ;;
			latency | start | hostile | flink) times=1 ;;
			*) fail "BENCH_MODES: no mode is called $row" ;;
		esac
		for run in $(seq "$times"); do
			"run_$row" "$run"
		done
	done
	write_report
}

# The table on standard output, the JSON beside it.
write_report() {
	report=$out/bench-$(date -u +%Y%m%dT%H%M%SZ).json
	set -- "$work"/*-[0-9]*.txt
	status=0
	awk -v json="$report" -v ticks="$(getconf CLK_TCK)" -v closed_min="$closed_per_million" \
		-v open_min="$open_sessions_min" -v start_min="$start_sessions_min" -v live_rate="$live_rate" -v live_seconds="$live_seconds" \
		-v settings="events=$events seed=$seed rate=$rate users=$users warm_seconds=$warm_seconds \
			live_rate=$live_rate live_seconds=$live_seconds partitions=$partitions definitions=$definitions" \
		-v machine="$(awk -F ': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores" \
		-v server="$(pg_config --version)" -f "$bench/report.awk" "$@" || status=$?
	say "figures in $report"
	return "$status"
}

main
