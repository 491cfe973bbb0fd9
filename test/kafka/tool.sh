#!/bin/sh
# Runs a tool of Kafka's by the name of its class; its output, and that of
# its errors only if it fails.
#
#   test/kafka/tool.sh org.apache.kafka.tools.GetOffsetShell --bootstrap-server ADDRESS ...
set -eu
here=$(cd "$(dirname "$0")" && pwd)
libs=${CLICKSTREAM_KAFKA_LIBS:-$("$here/../setup.sh" kafka-libs)}
errors=$(mktemp)
patience=$(mktemp)
trap 'rm -f "$errors" "$patience"' EXIT

# A minute is what they have by themselves, which a busy machine may need for less.
case $1 in
	kafka.admin.*)
		printf '%s\n' default.api.timeout.ms=300000 request.timeout.ms=120000 >"$patience"
		set -- "$@" --command-config "$patience"
		;;
esac
java -XX:TieredStopAtLevel=1 -cp "$libs/*" "$@" 2>"$errors" || {
	cat "$errors" >&2
	exit 1
}
