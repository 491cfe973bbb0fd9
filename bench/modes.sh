#!/bin/sh
# How each mode of the bench runs; read by run.sh, whose variables and functions these are.
#
# Each run writes a file of "name value" lines, $work/MODE-NUMBER.txt, of which report.awk makes the figures.

# ---------- the yardstick ----------

# Before and after, since a shared machine is faster one minute than the next.
run_yardstick() { # before|after [EVENTS]
	taskset -c "$core" "$bench/bin/yardstick" "$brokers" "$topic" ${2:+"$2"} | tr ' ' '\n' |
		awk -F = -v name="yardstick.$1" '$1 == "cpu_us_per_event" { print name, $2 }' >>"$figures"
}

# ---------- catching up ----------

# Where the steady part begins; a short run has none, nor has a short warm-up.
steady_start() {
	steady=$((rate * warm_seconds))
	quick=0
	[ "$warm_seconds" -ge 2000 ] || quick=1
	if [ "$((steady * 5 / 4))" -gt "$events" ]; then
		steady=$((events * 2 / 5))
		quick=1
	fi
}

# read_topic MODE RUN [EVENT_LOG]: all kinds of catch-up.
read_topic() {
	mode=$1
	figures=$work/$mode-$2.txt
	: >"$figures"
	load_topic
	steady_start
	echo "quick $quick" >>"$figures"
	say "$mode, run $2 of $runs: yardstick"
	run_yardstick before
	start_cluster
	open_observer
	make_stream "$topic" "${3:-false}"
	start_stream
	say "$mode, run $2 of $runs: warming up to event $steady"
	wait_until_consumed "$steady"
	worker=$(worker_pid)
	[ "$mode" != readers ] || start_readers "$readers"
	sample begin
	say "$mode, run $2 of $runs: measuring"
	profile &
	profiler=$!
	slices=0
	for part in 0 1 2 3 4 5 6 7 8 9; do
		wait_until_consumed $((steady + (events - steady) * part / 10))
		slice
	done
	wait_until_consumed "$events"
	slice
	sample end
	[ "$mode" != readers ] || echo "looks $(cat "$work"/reader-* | wc -l)" >>"$figures"
	stop_readers
	wait "$profiler"
	worker_memory
	count_rows "$([ "${3:-false}" = false ] || echo clickstream_events)"
	note_state
	close_observer
	stop_cluster fast
	run_yardstick after
}

run_catchup() { read_topic catchup "$1"; }

run_eventlog() { read_topic eventlog "$1" true; }

run_sessions() {
	tables=user_sessions
	read_topic sessions "$1"
	tables=$all_tables
}

run_readers() {
	tables=user_sessions
	read_topic readers "$1"
	tables=$all_tables
}

run_cheap() {
	tables="traffic_by_source funnel_step_counts"
	read_topic cheap "$1"
	tables=$all_tables
}

# Windows alike, and nothing else: what one more costs.
run_definitions() {
	tables=
	windows=$definitions
	read_topic definitions "$1"
	windows=0
	tables=$all_tables
}

# The second core is shared with the broker, so what is had here is less than two cores of its own give.
run_cores() {
	read_topic onecore "$1"
	alone=$core
	core=$core,$broker_core
	decode_workers=$helpers
	read_topic cores "$1"
	decode_workers=${BENCH_DECODE_WORKERS:-0}
	tables="user_sessions checkout_funnel funnel_step_counts session_metrics"
	second_tables="page_views_per_minute page_views_rolling traffic_by_source"
	read_topic streams "$1"
	tables=$all_tables
	second_tables=
	core=$alone
}

# A tenth of what the state took with plenty, but not less than may be set.
run_spill() {
	read_topic plain "$1"
	plenty=$(awk '$1 == "state_mb" { print $2 }' "$figures")
	tenth=$((plenty / 10 > 16 ? plenty / 10 : 16))
	say "spill: the state takes $plenty MB; now with $tenth MB for it"
	[ "$plenty" -ge 160 ] || say "spill: that is less than ten times the least state_memory, 16 MB"
	state_memory="clickstream.state_memory = '${tenth}MB'"
	read_topic spill "$1"
	state_memory=$plenty_of_state
}

# ---------- live ----------

# start_producer NAME RATE WARM_EVENTS SECONDS [OPTION...]: it loads what is to warm up with, then holds.
start_producer() {
	topic=$1-$$
	producer_rate=$2
	warm_events=$3
	total=$(($3 + $4 * $2))
	shift 4
	create_topic "$topic"
	rm -f "$work/go"
	mkfifo "$work/go"
	taskset -c "$broker_core" "$bench/bin/generate" --brokers "$brokers" --topic "$topic" --hold "$warm_events" "$@" \
		"$total" "$seed" "$producer_rate" "$users" <"$work/go" 2>"$work/generate.log" &
	generator=$!
	exec 5>"$work/go"
	until grep -q holding "$work/generate.log"; do
		kill -0 "$generator" 2>/dev/null || fail "$(cat "$work/generate.log")"
		sleep 0.5
	done
}

stop_producer() {
	kill "$generator" 2>/dev/null || true
	wait "$generator" 2>/dev/null || true
	generator=
	exec 5>&-
}

run_live() {
	mode=live
	figures=$work/live-$1.txt
	: >"$figures"
	warm=$((live_rate * warm_seconds))
	quick=0
	[ "$warm_seconds" -ge 2000 ] || quick=1
	if [ "$events" -lt $((rate * warm_seconds)) ]; then
		quick=1
		warm=$events
	fi
	echo "quick $quick" >>"$figures"
	say "live, run $1 of $live_runs: loading $warm events to warm up with"
	start_producer "live-$1" "$live_rate" "$warm" $((settle_seconds + live_seconds + 10))
	run_yardstick before "$(yardstick_events)"
	# How often there is a checkpoint is the server's own setting.
	conf="min_wal_size = 80MB
		max_wal_size = 1GB"
	start_cluster
	conf=
	open_observer
	make_stream "$topic"
	start_stream
	say "live, run $1 of $live_runs: catching up"
	wait_until_consumed "$warm_events"
	worker=$(worker_pid)
	echo go >&5
	sleep "$settle_seconds"
	say "live, run $1 of $live_runs: measuring for $live_seconds s at $live_rate events/s"
	sample begin
	profile &
	profiler=$!
	slices=0
	until_end=$live_seconds
	while [ "$until_end" -gt "$slice_seconds" ]; do
		slice
		sleep "$slice_seconds"
		until_end=$((until_end - slice_seconds))
	done
	sleep "$until_end"
	sample end
	wait "$profiler"
	worker_memory
	stop_producer
	count_rows
	note_state
	close_observer
	stop_cluster fast
	run_yardstick after "$(yardstick_events)"
	"$top/test/kafka/topic.sh" delete "$brokers" "$topic" || true
}

# As many as the topic surely holds, but no more than tell what an event costs.
yardstick_events() { echo $((warm_events < 4000000 ? warm_events : 4000000)); }

# ---------- how late rows are ----------

# A row says which transaction made it (in a column that only its insert fills), and when the first message of
# its group was sent.  Of those made while we measure: commit less message.
run_latency() {
	number=0
	for interval in $latency_intervals; do
		number=$((number + 1))
		measure_latency "$interval" "$number"
	done
}

measure_latency() { # INTERVAL NUMBER
	mode=latency
	figures=$work/latency-$2.txt
	echo "interval_ms $(echo "$1" | sed 's/\([0-9]\)s$/\1000/; s/ms$//')" >"$figures"
	say "latency with commit_interval $1: loading $latency_warm s of event time to warm up with"
	start_producer "latency-$2" "$live_rate" $((live_rate * latency_warm)) $((settle_seconds + latency_seconds + 10)) \
		--clock --linger-ms 5
	conf="clickstream.commit_interval = '$1'
		track_commit_timestamp = on"
	start_cluster
	conf=
	open_observer
	make_stream "$topic"
	ask "SELECT count(*) FROM clickstream.drop_window('web.page_views_per_minute')" >/dev/null
	ask "SELECT count(*) FROM clickstream.create_window('web.page_views_per_minute', 'web', size => '1 minute',
		filter => 'event_type = ''page_view''', group_by => 'page_url, page_title',
		measures => 'count(*) AS view_count, count(DISTINCT effective_user_id) AS unique_visitors,
			min(message_timestamp) AS first_message')" >/dev/null
	ask "ALTER TABLE web.page_views_per_minute ADD COLUMN made_by xid8 DEFAULT pg_current_xact_id(); SELECT 1" >/dev/null
	start_stream
	wait_until_consumed "$warm_events"
	echo go >&5
	sleep "$settle_seconds"
	from=$(ask "SELECT clock_timestamp()::text" | tr ' ' 'T')
	say "latency with commit_interval $1: measuring for $latency_seconds s at $live_rate events/s"
	sleep "$latency_seconds"
	upto=$(ask "SELECT clock_timestamp()::text" | tr ' ' 'T')
	stop_producer
	# shellcheck disable=SC2046
	set -- $(ask "SELECT count(*), coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), 0),
			coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms), 0), coalesce(max(ms), 0)
		FROM (SELECT 1000 * extract(epoch FROM pg_xact_commit_timestamp(made_by::xid) - first_message)::float8 AS ms, first_message
			FROM web.page_views_per_minute) r WHERE first_message >= '$from' AND first_message < '$upto'")
	[ $# = 4 ] || fail "cannot read the latencies: $*"
	printf 'rows_measured %s\np50_ms %s\np99_ms %s\nmax_ms %s\n' "$@" >>"$figures"
	close_observer
	stop_cluster fast
	"$top/test/kafka/topic.sh" delete "$brokers" "$topic" || true
}

# ---------- how long a start takes ----------

# The worker stops, a message comes, the worker starts: what it took is between its process' start and the first commit.
start_again() {
	ask "SELECT count(*) FROM clickstream.stop('web')" >/dev/null
	until [ "$(worker_pid)" = 0 ]; do sleep 0.1; done
	commit=$(ask "SELECT commit_number FROM clickstream.progress")
	echo '{"user_id": "start", "event_type": "page_view", "event_time": "2024-06-01T00:00:00Z"}' |
		kcat -b "$brokers" -P -t "$topic" -k start
	record 5 "$postmaster" &
	recorder=$!
	[ -z "${BENCH_PERF:-}" ] || sleep 1 # perf begins
	start_stream
	until [ "$(ask "SELECT commit_number FROM clickstream.progress")" -gt "$commit" ]; do sleep 0.05; done
	took=$(ask "SELECT extract(epoch FROM pg_xact_commit_timestamp(p.xmin) - a.backend_start)
		FROM clickstream.progress p, pg_stat_activity a WHERE p.commit_number = $commit + 1 AND a.pid = $(worker_pid)")
	[ -n "$took" ] || fail "the worker had committed again before it was looked at"
	worker=$(worker_pid)
	if wait "$recorder" && [ -n "${BENCH_PERF:-}" ]; then report_profile; fi
}

# One load, several starts.
run_start() {
	mode=start
	figures=$work/start-$1.txt
	: >"$figures"
	tables=user_sessions
	say "start: loading $start_events events"
	start_producer start "$start_rate" "$start_events" 1
	stop_producer
	conf="track_commit_timestamp = on"
	start_cluster
	conf=
	open_observer
	make_stream "$topic"
	# Else a silent topic closes what is to be open.
	ask "SELECT count(*) FROM clickstream.alter_stream('web', idle_timeout => '1 day')" >/dev/null
	start_stream
	wait_until_consumed "$start_events"
	until [ "$(ask "SELECT max(state_bytes) FROM clickstream.stat_stream")" -gt 0 ]; do sleep 0.1; done
	note_state
	: >"$work/starts.txt"
	for i in $(seq "$starts"); do
		start_again
		echo "$took" >>"$work/starts.txt"
	done
	sort -n -o "$work/starts.txt" "$work/starts.txt"
	cat >>"$figures" <<-END
		seconds $(sed -n "$(((starts + 1) / 2))p" "$work/starts.txt")
		least $(head -n 1 "$work/starts.txt")
		most $(tail -n 1 "$work/starts.txt")
		open $(ask "SELECT count(*) FROM clickstream.open_sessions('web.user_sessions')")
		log_mb $(ask "SELECT sum(pg_relation_size(oid)) / 1048576 FROM pg_class
			WHERE relnamespace = 'clickstream'::regnamespace AND relname ~ '^state_log_'")
	END
	close_observer
	stop_cluster fast
	tables=$all_tables
	"$top/test/kafka/topic.sh" delete "$brokers" "$topic" || true
}

# ---------- input that nobody wishes for ----------

# The pipeline over topics each of which is bad in one way, beside an ordinary one of the same size: what a message
# costs, in the first half and in the second, which would be dearer if anything were quadratic.
run_hostile() {
	hostile=0
	for kind in ordinary visitor pages large tombstones late broken; do
		hostile=$((hostile + 1))
		measure_hostile "$kind"
	done
}

# Lines "KEY<tab>JSON" on standard input, the same on standard output, spoiled.  By perl, since mawk's sub() takes half a
# millisecond of a replacement that it has not seen before.
spoil() {
	case $1 in
		ordinary | late) cat ;;
		visitor) sed 's/^[^\t]*\t/one\t/; s/"user_id":[^,]*,/"user_id":"one",/' ;;
		pages) perl -pe 's|"page_url":"|$&/$.|' ;;
		large) perl -pe 'BEGIN { $pad = "\"pad\":\"" . "x" x 49500 . "\"," } s/"event_properties":\{/$&$pad/' ;;
		tombstones) sed 's/\t.*/\t/' ;;
		broken) sed 's/}$//' ;;
	esac
}

load_hostile() { # KIND MESSAGES
	create_topic "$topic"
	if [ "$1" = late ]; then
		# A year ahead in each partition: all that follows is late.
		for i in $(seq 0 $((partitions - 1))); do
			echo '{"user_id":"ahead","event_type":"page_view","event_time":"2025-06-01 00:00:00.000"}' |
				kcat -b "$brokers" -P -t "$topic" -p "$i"
		done
	fi
	"$bench/bin/generate" "$2" "$seed" "$rate" "$users" | spoil "$1" |
		taskset -c "$broker_core" kcat -b "$brokers" -P -t "$topic" -K '\t' -Z -z lz4 -X message.max.bytes=2000000
}

measure_hostile() {
	mode=hostile
	figures=$work/hostile-$hostile.txt
	number=$hostile_events
	[ "$1" != large ] || number=$((hostile_events / 20))
	topic=hostile-$1-$$
	say "hostile, $1: loading $number messages"
	load_hostile "$1" "$number"
	number=$(topic_size "$topic")
	start_cluster
	open_observer
	make_stream "$topic"
	worker=0
	slices=0
	printf 'kind %s\nmessages %s\n' "$1" "$number" >"$figures"
	begin=$(date +%s.%N)
	start_stream
	slice
	wait_until_consumed $((number / 2))
	slice
	wait_until_consumed "$number"
	slice
	echo "wall $begin $(date +%s.%N)" | awk '{ print $1, $3 - $2 }' >>"$figures"
	worker=$(worker_pid)
	worker_memory
	# shellcheck disable=SC2046
	printf 'used %s\nlate %s\ndead %s\n' $(ask "SELECT sum(used), sum(late), sum(dead) FROM clickstream.ledger") >>"$figures"
	close_observer
	stop_cluster fast
	"$top/test/kafka/topic.sh" delete "$brokers" "$topic" || true
}

# ---------- Flink on the same topic ----------

# The job reads a small topic to its end, then the large one, each in a JVM of its own.  What the second has taken
# more is the steady part: a start, and most of what the JVM compiles, are in both.
run_flink() {
	mode=flink
	figures=$work/flink-$1.txt
	: >"$figures"
	large=$events
	for events in "$flink_small" "$large"; do
		load_topic
		say "flink, run $1: $events events"
		measure_flink
	done
	load_topic
	run_yardstick after
}

measure_flink() {
	rm -rf "$work/flink"
	mkdir -p "$work/flink"
	for sql in "$top/test/flink/seed.sql" "$bench/flink.sql"; do
		sed "s/kafka:9092/$brokers/; s/'clickstream-events'/'$topic'/; s,file:///out,file://$work/flink," "$sql" >"$work/flink/$(basename "$sql")"
	done
	# CPU seconds, most memory in kB, seconds by the clock: of the JVM and whatever it starts.
	CLICKSTREAM_FLINK_HEAP=$flink_heap CLICKSTREAM_FLINK_PARALLELISM=$(nproc) python3 -c '
import resource, subprocess, sys, time
begin = time.time()
status = subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], "w")).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, time.time() - begin)
sys.exit(status)' "$work/flink.log" "$top/test/flink/flink.sh" "$work/flink/run" "$work/flink/seed.sql" "$work/flink/flink.sql" \
		>"$work/flink.used" || fail "Flink failed: $(tail -n 20 "$work/flink.log")"
	! grep -q ERROR "$work/flink.log" || fail "Flink says: $(grep -A 3 ERROR "$work/flink.log")"
	awk -v n="$events" '{ print "cpu." n, $1; print "peak_kb." n, $2; print "wall." n, $3 }' "$work/flink.used" >>"$figures"
	printf 'small %s\nlarge %s\n' "$flink_small" "$large" >>"$figures"
}
