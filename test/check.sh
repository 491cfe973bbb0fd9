#!/bin/bash
# Everything that tests: from a fresh clone on a machine with nothing
# installed, and again, as root or not.
#
#   test/check.sh                        all of it; what "make check" runs
#   test/check.sh regress|isolation|tap|demo ...    these parts only
#   test/check.sh tap test/t/010_….pl ...           these TAP tests only
#   test/check.sh regress sql/040_….sql ...         these regression tests only (and what they all need)
#   test/check.sh random [sql/423_….sql test/t/840_….pl ...]
#                                                   the random tests, or these, again and again, each with another seed; not part of "all"
#
# The last line is "N passed, N failed"; the exit code says whether any failed.
# Each regression, isolation and TAP check counts as one, and so does each
# step.  When something failed its logs stay in the directory that is named.
#
# PostgreSQL's servers refuse to run as root, and the tree may lie where user
# postgres cannot look (/root).  So servers and tests run in a copy of the
# tree, with a copy of the server, in a directory below /tmp; as root they run
# as user postgres.
# The extension is built there with assertions on, and with the mistakes of
# src/core/mutant.h in it, which are off unless a test sets one; the server's own build
# decides about its own.
# Everything started inherits CLICKSTREAM_CHECK from here or works in that
# directory: that is how the end finds what was left running.
#
#   CLICKSTREAM_TMP       where that directory is made (/tmp; a short path, for the sockets' sake)
#   CLICKSTREAM_INSTRUMENT  sanitizers or valgrind: see test/instrument.sh
#   CLICKSTREAM_ROUNDS    how often "random" goes through its tests (10)
#   CLICKSTREAM_SEED      seed of random tests (each has its own, always the same one); of the first round of "random"
#   CLICKSTREAM_CASES     random windows: times as many events (1)
#   CLICKSTREAM_DECODE_WORKERS  so many for each stream of a TAP test that can have some (none)
#   CLICKSTREAM_SPILL     regress, random: entries that a commit leaves in memory beside those it touched (all)
#   DEMO_SECONDS          how long the demo runs (20)
#   CLICKSTREAM_TAP_LIMIT seconds for one TAP file (1800)
#   CLICKSTREAM_JOBS      TAP files at a time (2)
set -u
cd "$(dirname "$0")/.." || exit 2
source=$PWD
pg_config=${PG_CONFIG:-pg_config}
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES "${!PG@}"
passed=0
failed=0

work=$(mktemp -d "${CLICKSTREAM_TMP:-/tmp}/clickstream-check.XXXXXX") || exit 2
mkdir "$work/log" "$work/server" "$work/ports"
mkdir -m 1777 "$work/tmp"
export CLICKSTREAM_CHECK=$work TMPDIR=$work/tmp PG_TEST_PORT_DIR=$work/ports
# Patience costs only where something is wrong: a loaded machine must not be taken for a fault.
export PG_TEST_TIMEOUT_DEFAULT=300 PGCTLTIMEOUT=300
# Nor must it matter whose machine it is.
unset LANGUAGE "${!LC_@}"
export LANG=C.UTF-8 TZ=Etc/UTC
copt="-DUSE_ASSERT_CHECKING=1 -DCLICKSTREAM_MUTANTS=1"
server_options=() # how the regression tests' server is started
[ -z "${CLICKSTREAM_INSTRUMENT:-}" ] || . test/instrument.sh

# ---- running and counting

# step NAME COMMAND...: one line, one count; its output only if it fails.
step() {
	local name=$1 log=$work/log/$1 start=$EPOCHREALTIME
	shift
	printf '%-22s ' "$name"
	if "$@" >"$log" 2>&1 </dev/null; then
		passed=$((passed + 1))
		printf 'ok      %6s s\n' "$(seconds_since "$start")"
	else
		failed=$((failed + 1))
		printf 'FAILED  %6s s\n' "$(seconds_since "$start")"
		tail -n 60 "$log" | sed 's/^/    /'
		return 1
	fi
}

# A step that everything after it needs.
must() {
	step "$@" || finish
}

# result NAME GOOD BAD START: one line for a step that counts its parts.
result() {
	passed=$((passed + $2))
	failed=$((failed + $3))
	printf '%-22s %s of %s  %6s s\n' "$1" "$2" $(($2 + $3)) "$(seconds_since "$4")"
}

seconds_since() {
	local ms=$(((${EPOCHREALTIME/./} - ${1/./}) / 1000))
	printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100))
}

# Runs a command as the user of the servers, in the copied tree.
as_server() {
	(
		cd "$work/tree" || exit
		set -- env HOME="$work/home" PATH="$bindir:$PATH" "$@"
		[ "$(id -u)" != 0 ] || set -- runuser -u postgres -- "$@"
		exec "$@"
	)
}

# ---- the end

# Processes that were started from here and still run; those that look for
# them have ended.
leftovers() {
	local file pid seen=' '
	for file in $(
		grep -l -s -F -z -e "$work" /proc/[0-9]*/cmdline /proc/[0-9]*/environ
		find /proc -maxdepth 2 -name cwd -lname "$work*" 2>/dev/null
	); do
		pid=${file#/proc/}
		pid=${pid%%/*}
		[[ $pid = $$ || $pid = "$BASHPID" || $seen = *" $pid "* ]] || [ ! -d "/proc/$pid" ] || echo "$pid"
		seen="$seen$pid "
	done
}

kill_leftovers() {
	local pid try
	for try in TERM TERM INT KILL; do
		for pid in $(leftovers); do
			kill -s "$try" "$pid" 2>/dev/null
		done
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			[ -n "$(leftovers)" ] || return 0
			sleep 0.3
		done
	done
}

# Who has been told to end may still be ending.
nothing_left() {
	local left
	for _ in {1..300}; do
		left=$(leftovers)
		[ -n "$left" ] || return 0
		sleep 0.2
	done
	for pid in $left; do
		tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c 1-200
		echo
	done
	return 1
}

finish() {
	[ ! -d "$work/regress/data" ] || stop_cluster
	step processes nothing_left
	[ -z "${CLICKSTREAM_INSTRUMENT:-}" ] || step reports no_reports
	[ "$failed" = 0 ] || echo "logs are in $work"
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ]
	exit
}

clean_up() {
	local code=$?
	trap '' INT TERM HUP
	kill_leftovers
	cd /
	if [ "$code" = 0 ]; then
		rm -rf "$work"
	else
		rm -rf "$work"/{tree,server,kafka-libs,regress/data} "$work"/tap/*/tmp_check/{*_data,kafka/data}
	fi
	exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# ---- making it

build() {
	make -C "$work/tree" -j"$(nproc)" COPT="$copt" all demo-tools && give_tree
}

# A copy of the server to install into: needs no root, leaves the machine's own
# as it is, and other runs of this beside it undisturbed.  PostgreSQL finds its
# files by where its programs lie, so a copy works.
copy_server() {
	local pg=$pg_config
	tar -C / -cf - $(for d in bindir pkglibdir sharedir includedir; do "$pg" --$d; done | sort -u | sed 's,^/,,') |
		tar -C "$work/server" -xf -
}

copy_tree() {
	mkdir "$work/tree" "$work/home" "$work/regress" "$work/isolation" "$work/tap" "$work/socket"
	tar -C "$source" -cf - --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude=./demo/bin --exclude=./bench/bin \
		--exclude=./bench/out --exclude=./test/chaos/out . | tar -C "$work/tree" -xf -
}

# As root, all of it is for user postgres.
give_tree() {
	if [ "$(id -u)" = 0 ]; then
		chown -R postgres "$work"
		chmod 755 "$work"
	fi
}

copy_kafka() {
	test/setup.sh kafka || return
	cp -r "$(test/setup.sh kafka-libs)" "$work/kafka-libs"
	case " ${tap_files[*]}" in
		*" test/kafka/"*) cp -r "$(test/setup.sh librdkafka)" "$work/kafka-libs/client" || return ;;
	esac
	chmod -R a+rX "$work/kafka-libs"
}

# ---- pg_regress and the isolation tester, on one private cluster

start_cluster() {
	as_server initdb -D "$work/regress/data" -U postgres -A trust -N --no-locale -E UTF8 || return
	as_server tee -a "$work/regress/data/postgresql.conf" <<-END
		shared_preload_libraries = 'clickstream'
		listen_addresses = ''
		unix_socket_directories = '$work/socket'
		fsync = off
		max_worker_processes = 16
		max_prepared_transactions = 10
		autovacuum = off	# what the planner knows of tables is not to depend on when it comes
		log_min_messages = info
		log_line_prefix = '%m [%p] %b %q%a '
		clickstream.force_spill = ${CLICKSTREAM_SPILL:--1}
	END
	as_server pg_ctl -D "$work/regress/data" -l "$work/regress/server.log" "${server_options[@]}" -w start
}

stop_cluster() {
	as_server pg_ctl -D "$work/regress/data" -m fast -w stop >/dev/null 2>&1
}

# A server that had to restart is a failure, whatever the tests saw.
no_crash() {
	! grep -nE 'terminated by signal|PANIC:|TRAP:|could not load library' "$work/regress/server.log"
}

# regression NAME PROGRAM INPUT TEST...: runs and counts the tests.
regression() {
	local name=$1 program=$2 input=$3 start=$EPOCHREALTIME out=$work/log/$1 good wrong
	shift 3
	if [ $# = 0 ]; then
		printf '%-22s no tests yet\n' "$name"
		return 0
	fi
	as_server "$pgxs/src/test/$program" --inputdir="$input" --outputdir="$work/$name" --bindir="$bindir" \
		--dlpath="$("$PG_CONFIG" --pkglibdir)" --host="$work/socket" --port=5432 --user=postgres \
		--dbname="clickstream_$name" --load-extension=clickstream "$@" >"$out" 2>&1 </dev/null
	good=$(grep -cE '\.\.\. +ok |^ok ' "$out") # as up to 15, and from 16 on
	wrong=$(($# - good))
	result "$name" "$good" "$wrong" "$start"
	[ "$wrong" = 0 ] || {
		grep -vE '\.\.\. +ok |^ok |^# |^=+ |^(SET|ALTER|CREATE|DROP) |^SET$|^$' "$out" | sed 's/^/    /'
		head -n 400 "$work/$name/regression.diffs" 2>/dev/null
		tail -n 20 "$work/regress/server.log" | sed 's/^/    server: /'
	}
}

# Names of the files DIRECTORY/*.SUFFIX, without both.
names() {
	find "$1" -name "*.$2" -printf '%f\n' 2>/dev/null | sed "s/\.$2\$//" | sort
}

# Each of them begins in a database in which only the extension was made.
# shellcheck disable=SC2046
run_regress() {
	local tests=$(names sql sql)
	[ ${#sql_files[@]} = 0 ] || tests="000_extension 000_tools $(printf '%s\n' "${sql_files[@]}" | sed 's,.*/,,; s/\.sql$//')"
	regression regress regress/pg_regress "$work/tree" $tests
}

# shellcheck disable=SC2046
run_isolation() {
	regression isolation isolation/pg_isolation_regress "$work/tree/test/isolation" \
		$(names test/isolation/specs spec)
}

# ---- random tests, many times

# Each of SQL in a database of its own; what it prints must not depend on the seed.
random_test() {
	local test=$1 seed=$2 start=$EPOCHREALTIME out=$work/log/$1-$2 tools=$work/tree/sql/000_tools.sql
	local client=(as_server env PGHOST="$work/socket" PGUSER=postgres PGTZ=PST8PDT PGDATESTYLE="Postgres, MDY"
		PG_ABS_SRCDIR="$work/tree" CLICKSTREAM_SEED="$seed")
	"${client[@]}" psql -X -q -d postgres -c 'DROP DATABASE IF EXISTS random' -c 'CREATE DATABASE random' >"$out" 2>&1 &&
		"${client[@]}" psql -X -q -d random -c 'CREATE EXTENSION clickstream' -f "$tools" >>"$out" 2>&1 || return
	"${client[@]}" psql -X -a -q -d random -v HIDE_TABLEAM=on -v HIDE_TOAST_COMPRESSION=on \
		<"$source/sql/$test.sql" >"$out" 2>&1
	if diff <(grep -v '^seed ' "$source/expected/$test.out") <(grep -v '^seed ' "$out") >"$out.diff"; then
		result "$test $seed" 1 0 "$start"
		rm -f "$out" "$out.diff"
	else
		result "$test $seed" 0 1 "$start"
		sed 's/^/    /' "$out.diff" | head -n 60
	fi
}

run_random() {
	local round test seed=${CLICKSTREAM_SEED:-$((RANDOM * 30))} in_sql=("${sql_files[@]}") in_perl=("${tap_files[@]}")
	if [ ${#in_sql[@]} = 0 ] && [ ${#in_perl[@]} = 0 ]; then
		mapfile -t in_sql < <(grep -l CLICKSTREAM_SEED sql/*.sql)
		mapfile -t in_perl < <(grep -lE 'seed_of|CLICKSTREAM_SEED' test/t/*.pl)
	fi
	for ((round = 1; round <= ${CLICKSTREAM_ROUNDS:-10}; round++, seed++)); do
		for test in "${in_sql[@]}"; do
			random_test "$(basename "$test" .sql)" "$seed"
		done
		[ ${#in_perl[@]} = 0 ] || CLICKSTREAM_SEED=$seed run_tap "${in_perl[@]}"
	done
}

# ---- TAP

# Some at a time, as each waits for something most of the time.  They have nothing in common: a directory, servers and
# ports are each one's own.  What they say is shown, and counted, in their order.
run_tap() {
	local begun=0 shown=0 job
	local -a of_job=() ended=()
	[ $# -gt 0 ] || set -- test/t/*.pl
	while [ $shown -lt $# ]; do
		while [ $begun -lt $# ] && [ $((begun - ${#ended[@]})) -lt "${CLICKSTREAM_JOBS:-2}" ]; do
			begun=$((begun + 1))
			run_tap_file "${!begun}" >"$work/log/tap.$begun" &
			of_job[$!]=$begun
		done
		wait -n -p job
		ended[${of_job[job]}]=1
		while [ -n "${ended[$((shown + 1))]:-}" ]; do
			shown=$((shown + 1))
			show_tap "$work/log/tap.$shown"
		done
	done
}

# The first line is counts, for result(); the others are for people.
show_tap() {
	local name good wrong seconds
	read -r name good wrong seconds <"$1"
	passed=$((passed + good))
	failed=$((failed + wrong))
	printf '%-22s %s of %s  %6s s\n' "$name" "$good" $((good + wrong)) "$seconds"
	tail -n +2 "$1"
	rm "$1"
}

# A test's lines "# figure: ..." are for people to read.
run_tap_file() {
	local test=$1 name out start=$EPOCHREALTIME good wrong code
	name=$(basename "$test" .pl)${CLICKSTREAM_SEED:+-$CLICKSTREAM_SEED}
	out=$work/log/$name
	mkdir -p "$work/tap/$name"
	[ "$(id -u)" != 0 ] || chown postgres "$work/tap/$name"
	as_server env PERL_HASH_SEED=0 TESTDIR="$work/tap/$name" TESTDATADIR="$work/tap/$name/data" TESTLOGDIR="$work/tap/$name/log" \
		PG_REGRESS="$pgxs/src/test/regress/pg_regress" CLICKSTREAM_KAFKA_LIBS="$work/kafka-libs" \
		timeout -k 30 "${CLICKSTREAM_TAP_LIMIT:-1800}" \
		prove -v -I test/perl -I "$pgxs/src/test/perl" "$test" >"$out" 2>&1 </dev/null
	code=$?
	good=$(grep -cE '^ok ' "$out")
	wrong=$(grep -cE '^not ok ' "$out")
	# It may also have died between two checks, or made none.
	[ "$code" = 0 ] && [ "$good" != 0 ] || [ "$wrong" != 0 ] || wrong=1
	[ "$wrong" != 0 ] || rm -rf "$work/tap/$name"/tmp_check/{*_data,kafka*/data}
	echo "$name $good $wrong $(seconds_since "$start")"
	sed -n 's/^# figure: /    /p' "$out"
	[ "$wrong" = 0 ] || {
		grep -vE '^ok |^# figure: ' "$out" | tail -n 60 | sed 's/^/    /'
		find "$work/tap/$name" -type f -path '*/log/*' | while read -r log; do
			echo "    --- ${log#"$work/"}"
			tail -n 25 "$log" | sed 's/^/    /'
		done
	}
}

# ---- the demo, as somebody without a terminal sees it

run_demo() {
	DEMO_SECONDS=${DEMO_SECONDS:-20} DEMO_SEED=${CLICKSTREAM_SEED:-1} "$work/tree/demo/run.sh"
}

# ---- in order

parts=()
tap_files=()
sql_files=()
for argument; do
	case $argument in
		regress | isolation | tap | demo | random) parts+=("$argument") ;;
		*.pl) tap_files+=("$argument") ;;
		*.sql) sql_files+=("$argument") ;;
		*)
			echo "usage: $0 [regress [FILE.sql ...]] [isolation] [tap [FILE.pl ...]] [demo] [random [FILE.sql FILE.pl ...]]" >&2
			exit 2
			;;
	esac
done
wanted() {
	[ ${#parts[@]} = 0 ] || [[ " ${parts[*]} " == *" $1 "* ]]
}

must packages test/setup.sh packages
[ ${#parts[@]} != 0 ] || step lint test/lint.sh
must server-copy copy_server
bindir=$work/server$("$pg_config" --bindir)
export PG_CONFIG=$bindir/pg_config
[ -z "${CLICKSTREAM_INSTRUMENT:-}" ] || must instrument instrument_server
pgxs=$(cd "$(dirname "$("$PG_CONFIG" --pgxs)")/../.." && pwd)
must tree-copy copy_tree
must build build
must install make -C "$work/tree" install
if [ ${#parts[@]} = 0 ] && [ -d test/unit ]; then
	step unit test/unit/run.sh
fi

if wanted regress || wanted isolation; then
	if step server start_cluster; then
		wanted regress && run_regress
		wanted regress && [ ${#sql_files[@]} = 0 ] && step readme as_server env PGHOST="$work/socket" PGPORT=5432 PGUSER=postgres test/readme.sh
		wanted regress && [ ${#sql_files[@]} = 0 ] && step readme-flink as_server env PGHOST="$work/socket" PGPORT=5432 PGUSER=postgres \
			CLICKSTREAM_DATABASE=clickstream_flink test/readme.sh doc/flink.md
		wanted regress && [ ${#sql_files[@]} = 0 ] && step cookbook as_server env PGHOST="$work/socket" PGPORT=5432 PGUSER=postgres \
			CLICKSTREAM_DATABASE=clickstream_cookbook test/readme.sh doc/cookbook.md
		wanted regress && [ ${#sql_files[@]} = 0 ] && step readme-reliability as_server env PGHOST="$work/socket" PGPORT=5432 PGUSER=postgres \
			CLICKSTREAM_DATABASE=clickstream_reliability test/readme.sh doc/reliability.md
		wanted regress && [ ${#sql_files[@]} = 0 ] && step readme-kafka as_server env PGHOST="$work/socket" PGPORT=5432 PGUSER=postgres \
			CLICKSTREAM_DATABASE=clickstream_kafka test/readme.sh doc/kafka.md
		wanted regress && [ ${#sql_files[@]} = 0 ] && step readme-mappings as_server env PGHOST="$work/socket" PGPORT=5432 PGUSER=postgres \
			CLICKSTREAM_DATABASE=clickstream_mappings test/readme.sh doc/mappings.md
		wanted isolation && run_isolation
		step no-crash no_crash
	fi
	stop_cluster
fi
if wanted tap; then
	step kafka copy_kafka && run_tap "${tap_files[@]}"
fi
wanted demo && step demo run_demo
if [[ " ${parts[*]} " == *" random "* ]]; then
	step kafka copy_kafka && step server start_cluster && run_random
	step no-crash no_crash
	stop_cluster
fi
finish
