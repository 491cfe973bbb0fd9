#!/bin/sh
# Stops the Kafka server of start.sh and waits for its end.
#
#   test/kafka/stop.sh DIR [SIGNAL]    SIGNAL: TERM (default), or KILL for a crash
set -eu
[ -f "$1/kafka.pid" ] || exit 0
pid=$(cat "$1/kafka.pid")

# Only ever the process that was started for this directory.
ours() { tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q -F "kafka.Kafka $(cd "$1" && pwd)/server.properties"; }

if ours "$1"; then
	kill -s "${2:-TERM}" "$pid"
	tries=0
	while ours "$1"; do
		tries=$((tries + 1))
		[ "$tries" != 150 ] || kill -s KILL "$pid"
		sleep 0.2
	done
fi
rm -f "$1/kafka.pid"
