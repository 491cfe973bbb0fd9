#!/bin/sh
# Starts one Kafka server (broker and KRaft controller in one process) on
# 127.0.0.1 and returns when it answers.
#
#   test/kafka/start.sh DIR [PORT]     PORT 0 or none: a free one
#
# DIR holds everything of it: data, log, kafka.pid, and address ("host:port").
# A DIR that was used before starts with its data and, unless told otherwise,
# its addresses.  stop.sh DIR stops it.
#
# DIR/listeners, if there is one, names more listeners, "NAME PROTOCOL" a line,
# and behind that the address that clients are told, if it is another one (of a
# proxy); DIR/addresses then says where each listens.  DIR/more.properties is added to
# the configuration, DIR/format.options to the command that formats the disk.
#
# CLICKSTREAM_KAFKA_LIBS   the jars (default: where test/setup.sh puts them)
# CLICKSTREAM_KAFKA_HEAP   default 512m
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/data"
dir=$(cd "$1" && pwd)
port=${2:-0}
libs=${CLICKSTREAM_KAFKA_LIBS:-$("$here/../setup.sh" kafka-libs)}
heap=${CLICKSTREAM_KAFKA_HEAP:-512m}

fail() {
	echo "kafka: $*" >&2
	tail -n 20 "$dir/stdout.log" "$dir/kafka.log" 2>/dev/null >&2 || true
	exit 1
}

# So many ports that are free now.  Below those that the system hands out to
# clients by itself, one of which might get a port before the server has it, or
# again while it is down.  In a run of test/check.sh, which has several servers
# at once, a port that was given out is nobody else's any more.
free_ports() {
	perl -MIO::Socket::INET -e '
		my ($n, @s) = shift;
		for (1 .. 1000) {
			last if @s == $n;
			my $port = 10000 + int rand 20000;
			my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => $port) // next;
			push @s, $s if !$ENV{CLICKSTREAM_CHECK} || mkdir "$ENV{CLICKSTREAM_CHECK}/ports/$port";
		}
		@s == $n or die "no free ports: $!";
		print join("\n", map { $_->sockport } @s), "\n";' "$1"
}

# A port for each of DIR/listeners, the first time.
place_listeners() {
	[ -f "$dir/listeners" ] && [ ! -f "$dir/addresses" ] || return 0
	free_ports "$(wc -l <"$dir/listeners")" | paste -d ' ' "$dir/listeners" - |
		while read -r name protocol told free; do # without an address to tell that is the port
			echo "$name $protocol 127.0.0.1:${free:-$told} ${free:+$told}"
		done >"$dir/addresses"
}

# listed FORMAT: DIR/addresses as a list; %1 is the name, %2 the protocol, %3 the address, %4 what clients are told.
listed() {
	[ ! -f "$dir/addresses" ] || while read -r name protocol at told; do
		printf ',%s' "$1" | sed "s,%1,$name,; s,%2,$protocol,; s,%3,$at,; s,%4,${told:-$at},"
	done <"$dir/addresses"
}

write_configuration() {
	# Event times of tests lie years back or ahead: nothing is deleted by age.
	cat >"$dir/server.properties" <<-END
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@127.0.0.1:$controller
		listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller$(listed %1://%3)
		advertised.listeners=PLAINTEXT://127.0.0.1:$port$(listed %1://%4)
		controller.listener.names=CONTROLLER
		inter.broker.listener.name=PLAINTEXT
		listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT$(listed %1:%2)
		log.dirs=$dir/data
		offsets.topic.num.partitions=1
		offsets.topic.replication.factor=1
		transaction.state.log.num.partitions=1
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		group.initial.rebalance.delay.ms=0
		auto.create.topics.enable=false
		message.max.bytes=33554432
		log.retention.ms=-1
	END
	[ ! -f "$dir/more.properties" ] || cat "$dir/more.properties" >>"$dir/server.properties"
	cat >"$dir/log4j.properties" <<-END
		log4j.rootLogger=WARN, file
		log4j.appender.file=org.apache.log4j.FileAppender
		log4j.appender.file.File=$dir/kafka.log
		log4j.appender.file.layout=org.apache.log4j.PatternLayout
		log4j.appender.file.layout.ConversionPattern=%d %p %c - %m%n
	END
}

ls "$libs"/kafka_2.13-*.jar >/dev/null 2>&1 || fail "no jars in $libs; run test/setup.sh kafka"
if [ -f "$dir/kafka.pid" ] && kill -0 "$(cat "$dir/kafka.pid")" 2>/dev/null; then
	fail "already running in $dir"
fi

asked=$port

# Where it listens: the first time, or when somebody else has got hold of a port meanwhile.
choose_ports() {
	# shellcheck disable=SC2046
	set -- $(free_ports 2)
	controller=$2
	if [ "$asked" = 0 ] && [ -f "$dir/address" ]; then
		port=$(sed 's/.*://' "$dir/address")
	elif [ "$asked" = 0 ]; then
		port=$1
	fi
	[ -f "$dir/address" ] || rm -f "$dir/addresses"
	place_listeners
	write_configuration
}

choose_ports
java="java -Dlog4j.configuration=file:$dir/log4j.properties -XX:TieredStopAtLevel=1 -cp $libs/*"
set -f # the classpath's star is Java's to expand
if [ ! -f "$dir/data/meta.properties" ]; then
	[ ! -f "$dir/format.options" ] || format=$(cat "$dir/format.options")
	# shellcheck disable=SC2086
	$java kafka.tools.StorageTool format ${format:-} -t "$(head -c 16 /dev/urandom | base64 | tr '+/' 'Aa' | tr -d =)" \
		-c "$dir/server.properties" >"$dir/format.log" 2>&1 || {
		cat "$dir/format.log" >&2
		fail "could not format $dir/data"
	}
fi

launch() {
	: >"$dir/kafka.log"
	setsid $java "-Xms$heap" "-Xmx$heap" kafka.Kafka "$dir/server.properties" >"$dir/stdout.log" 2>&1 </dev/null &
	pid=$!
	echo "$pid" >"$dir/kafka.pid"
}

launch
tries=0
until kcat -b "127.0.0.1:$port" -L -m 2 >/dev/null 2>&1; do
	tries=$((tries + 1))
	if ! kill -0 "$pid" 2>/dev/null; then
		grep -q 'Address already in use' "$dir/kafka.log" "$dir/stdout.log" && [ "$tries" -lt 1000 ] || fail "the server ended"
		choose_ports
		launch
	fi
	[ "$tries" -lt 1000 ] || { # a JVM on a busy machine takes its time
		kill -9 "$pid"
		fail "the server does not answer"
	}
	sleep 0.3
done
echo "127.0.0.1:$port" >"$dir/address"
echo "127.0.0.1:$port"
