#!/bin/sh
# "make demo": a minute of live clickstream, from nothing.
#
# Installs missing Debian packages, builds and installs the extension, then
# makes a throw-away world in a temporary directory: a cluster, an embedded
# broker, a web shop's traffic.  One call of quickstart() later the tables fill,
# and the terminal shows it.
#
#   DEMO_SECONDS  how long (default 60; 0 = until Ctrl-C)
#   DEMO_RATE     events a second, history and live (default 6; above about 18 the
#                 broker's 5 MiB per partition do not hold three hours)
#   DEMO_SEED     repeats a sequence of visits
#   PG_CONFIG     which server (default pg_config)
#
# Without a terminal it prints plain lines.  Exit status 0: rows arrived in
# every table.
#
# Nothing stays behind: each process is a child of this shell, asked to end by
# its pid, and dies with the shell even if that is killed (parent death
# signal).  Several demos may run at once: directory, ports and password are
# each one's own.
set -eu
# What this runs inside is of no interest to the make that it runs.
unset MAKEFLAGS MFLAGS MAKELEVEL
unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS PGDATA PGSSLMODE
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
pg_config=${PG_CONFIG:-pg_config}
seconds=${DEMO_SECONDS:-60}
rate=${DEMO_RATE:-6}
topic=clickstream-events
database=demo
world=
server_pid='' broker_pid='' traffic_pid='' screen_pid=''
stopped=false

say() { printf '%s\n' "demo: $*"; }

die() {
	printf '%s\n' "demo: $*" >&2
	exit 1
}

# ---------- ending ----------

# Ends a child by its pid and waits for it; no pid, nothing to do.
end_child() {
	[ -n "$2" ] || return 0
	kill -s "$1" "$2" 2>/dev/null || :
	wait "$2" 2>/dev/null || :
}

clean_up() {
	status=$?
	trap '' INT TERM HUP
	trap - EXIT
	end_child TERM "$screen_pid"
	end_child TERM "$traffic_pid"
	end_child INT "$server_pid" # a fast shutdown
	end_child TERM "$broker_pid"
	[ -z "$world" ] || rm -rf "$world"
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ---------- what is needed ----------

check_arguments() {
	case $seconds in '' | *[!0-9]*) die "DEMO_SECONDS must be a whole number of seconds, not \"$seconds\"" ;; esac
}

install_packages() {
	[ ! -x "$root/test/setup.sh" ] || "$root/test/setup.sh" packages
	for tool in "$pg_config" make cc setpriv; do
		command -v "$tool" >/dev/null || die "$tool is missing; test/setup.sh packages installs what is needed"
	done
	bindir=$("$pg_config" --bindir)
	[ -x "$bindir/initdb" ] || die "no server beside $pg_config ($bindir/initdb is missing)"
}

# Runs a command with the rights to write into a directory.
as_owner_of() {
	directory=$1
	shift
	if [ -w "$directory" ]; then
		"$@"
	else
		command -v sudo >/dev/null || die "installing into $directory needs root or sudo"
		sudo "$@"
	fi
}

# The very files of this tree are where the server looks for them.
installed() {
	cmp -s "$root/clickstream.so" "$("$pg_config" --pkglibdir)/clickstream.so" || return 1
	for file in clickstream.control clickstream--1.0.sql; do
		cmp -s "$root/$file" "$("$pg_config" --sharedir)/extension/$file" || return 1
	done
}

# Installs only what changed: another demo's server may be reading the files.
build() {
	say 'building'
	make -s -C "$root" PG_CONFIG="$pg_config" all demo-tools || die 'the build failed'
	if ! installed; then
		say "installing the extension into $("$pg_config" --pkglibdir)"
		as_owner_of "$("$pg_config" --pkglibdir)" make -s -C "$root" PG_CONFIG="$pg_config" install >/dev/null ||
			die 'the installation failed'
	fi
}

# ---------- the throw-away world ----------

# initdb and postgres refuse to be root; then they are user postgres.
as_server_user() {
	if [ "$(id -u)" = 0 ]; then
		runuser -u postgres -- "$@"
	else
		"$@"
	fi
}

random_hex() { od -An -N8 -tx1 /dev/urandom | tr -d ' \n'; }

# A port below the range that the system hands out to clients by itself.
random_port() { echo $((15000 + $(od -An -N2 -tu2 /dev/urandom) % 15000)); }

# In /tmp, because the path of a socket is at most 107 bytes, and user postgres
# must get there; mode 0700 guards the socket, on which no password is asked.
make_world() {
	world=$(mktemp -d /tmp/clickstream-demo.XXXXXX)
	[ "$(id -u)" != 0 ] || chown postgres "$world"
	cd "$world"
	password=$(random_hex)
	as_server_user sh -c 'umask 077; printf "%s\n" "$1" >"$2"' sh "$password" "$world/password"
	say "making a cluster in $world"
	as_server_user "$bindir/initdb" --pgdata="$world/data" --username=demo --pwfile="$world/password" \
		--auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync >initdb.log 2>&1 || {
		cat initdb.log >&2
		die 'initdb failed'
	}
	as_server_user tee -a "$world/data/postgresql.conf" >/dev/null <<-END
		listen_addresses = '127.0.0.1'
		unix_socket_directories = '$world'
		shared_preload_libraries = 'clickstream'
		shared_buffers = 64MB
		max_connections = 30
		fsync = off	# it will be thrown away
	END
}

# The server as our own child, which ends (fast) when this shell is gone, and
# out of the terminal's reach: Ctrl-C must leave it to us.
launch_server() {
	if [ "$(id -u)" = 0 ]; then
		set -- --reuid=postgres --regid=postgres --init-groups
	else
		set --
	fi
	setsid setpriv "$@" --pdeathsig INT "$bindir/postgres" -D "$world/data" -p "$port" </dev/null >>"$world/server.log" 2>&1 &
	server_pid=$!
}

# Waits for a condition while a process lives; false if it ends before.
wait_for() {
	pid=$1
	shift
	until "$@" >/dev/null 2>&1; do
		kill -0 "$pid" 2>/dev/null || return 1
		sleep 0.2
	done
}

# A port may be taken between choosing and using it: then another.
start_server() {
	for _ in 1 2 3 4 5 6 7 8; do
		port=$(random_port)
		launch_server
		if wait_for "$server_pid" "$bindir/pg_isready" -q -h "$world" -p "$port" -U demo -d postgres; then
			export PGHOST="$world" PGPORT="$port" PGUSER=demo PGDATABASE=postgres
			return 0
		fi
		wait "$server_pid" 2>/dev/null || :
		server_pid=
		grep -q 'Address already in use' "$world/server.log" || break
	done
	tail -n 20 "$world/server.log" >&2
	die 'the server does not start'
}

start_broker() {
	"$here/bin/clickstream-broker" --topic "$topic:4" --ready-file "$world/broker" </dev/null >broker.log 2>&1 &
	broker_pid=$!
	wait_for "$broker_pid" test -s "$world/broker" || {
		cat broker.log >&2
		die 'the broker does not start'
	}
	brokers=$(cat "$world/broker")
	say "embedded broker on $brokers, topic $topic, 4 partitions"
}

start_traffic() {
	set -- --brokers "$brokers" --topic "$topic" --rate "$rate" --ready-file "$world/history"
	[ -z "${DEMO_SEED:-}" ] || set -- "$@" --seed "$DEMO_SEED"
	"$here/bin/clickstream-traffic" "$@" </dev/null >traffic.log 2>&1 &
	traffic_pid=$!
	wait_for "$traffic_pid" test -s "$world/history" || {
		cat traffic.log >&2
		die 'the traffic generator failed'
	}
	say "traffic: $(cat "$world/history") messages of the last three hours written, now $rate a second ($(head -n 1 traffic.log))"
}

sql() { "$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

quickstart_failed() {
	tail -n 20 "$world/server.log" >&2
	die 'quickstart failed'
}

start_stream() {
	sql -c "CREATE DATABASE $database"
	export PGDATABASE="$database"
	say "quickstart('web', brokers => '$brokers', topic => '$topic', target_schema => 'web', start_from => 'earliest')"
	sql -v brokers="$brokers" -v topic="$topic" >/dev/null <<-'END' || quickstart_failed
		SET client_min_messages = warning;
		CREATE EXTENSION clickstream;
		SELECT clickstream.quickstart('web', brokers => :'brokers', topic => :'topic', target_schema => 'web', start_from => 'earliest');
	END
}

# ---------- the show ----------

stop_show() {
	stopped=true
	[ -z "$screen_pid" ] || kill "$screen_pid" 2>/dev/null || :
}

# In the background and waited for, so that a signal is acted upon at once.
show() {
	connect="psql postgresql://demo:$password@127.0.0.1:$port/$database"
	say "connect with: $connect"
	trap stop_show INT TERM HUP
	DEMO_CONNECT=$connect PSQL="$bindir/psql" "$here/screen.sh" "$seconds" </dev/null &
	screen_pid=$!
	while kill -0 "$screen_pid" 2>/dev/null; do
		wait "$screen_pid" || :
	done
	screen_pid=
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

# One line for each table: its name, and the rows that count.
count_rows() {
	sql -F ' ' <<-'END'
		SET statement_timeout = '3min';
		SELECT 'user_sessions', count(*), 'closed by the 30-minute gap' FROM web.user_sessions WHERE closed_reason = 'gap'
		UNION ALL SELECT 'checkout_funnel', count(*), 'that ended in a purchase' FROM web.checkout_funnel WHERE is_conversion
		UNION ALL SELECT 'session_metrics', count(*), '' FROM web.session_metrics
		UNION ALL SELECT 'page_views_per_minute', count(*), '' FROM web.page_views_per_minute
		UNION ALL SELECT 'page_views_rolling', count(*), '' FROM web.page_views_rolling
		UNION ALL SELECT 'traffic_by_source', count(*), '' FROM web.traffic_by_source
		UNION ALL SELECT 'funnel_step_counts', count(*), '' FROM web.funnel_step_counts;
	END
}

# What somebody who has to find out why needs to see.
explain_failure() {
	say 'stat_stream:'
	sql -x -c 'TABLE clickstream.stat_stream' || :
	say 'the end of the server log:'
	tail -n 40 "$world/server.log"
}

# Tables that have no row yet.
empty_tables() {
	if ! count_rows >counts; then
		explain_failure >&2
		die 'could not read the tables'
	fi
	awk '$2 == 0 { print "web." $1 }' counts | tr '\n' ' '
}

# A machine that has much else to do is given a minute more.
check_tables() {
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
		empty=$(empty_tables)
		[ -n "$empty" ] || break
		sleep 5
	done
	while read -r table rows what; do
		say "web.$table: $rows rows${what:+ $what}"
	done <counts
	if [ -n "$empty" ]; then
		explain_failure >&2
		die "no rows arrived in: $empty"
	fi
}

introduce() {
	say 'live clickstream analytics in PostgreSQL: a web shop, a Kafka topic, one call of quickstart().'
	if [ "$seconds" = 0 ]; then
		say 'It stays until Ctrl-C, and leaves nothing behind but the installed extension.'
	else
		say "It runs for $seconds seconds (DEMO_SECONDS=0 stays) and leaves nothing behind but the installed extension."
	fi
}

check_arguments
introduce
install_packages
build
make_world
start_server
start_broker
start_traffic
start_stream
show
check_tables
$stopped || say 'done'
