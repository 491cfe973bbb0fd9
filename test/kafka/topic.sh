#!/bin/sh
# Makes, widens or deletes a topic of a Kafka server, or deletes the messages of
# a partition that lie before an offset.
#
#   test/kafka/topic.sh create ADDRESS TOPIC PARTITIONS [NAME=VALUE ...]
#   test/kafka/topic.sh widen  ADDRESS TOPIC PARTITIONS
#   test/kafka/topic.sh delete ADDRESS TOPIC
#   test/kafka/topic.sh trim   ADDRESS TOPIC PARTITION OFFSET
set -eu
here=$(cd "$(dirname "$0")" && pwd)
libs=${CLICKSTREAM_KAFKA_LIBS:-$("$here/../setup.sh" kafka-libs)}

files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
# A minute is what they have by themselves, which a busy machine may need for less.
printf '%s\n' default.api.timeout.ms=300000 request.timeout.ms=120000 >"$files/patience"

# run CLASS ARGUMENT...: a tool of Kafka's; its output only if it fails.
run() {
	class=$1
	shift
	out=$(java -XX:TieredStopAtLevel=1 -cp "$libs/*" "org.apache.kafka.tools.$class" --command-config "$files/patience" "$@" 2>&1) || {
		echo "$out" >&2
		exit 1
	}
}

trim() {
	echo "{\"version\": 1, \"partitions\": [{\"topic\": \"$2\", \"partition\": $3, \"offset\": $4}]}" >"$files/offsets"
	run DeleteRecordsCommand --bootstrap-server "$1" --offset-json-file "$files/offsets"
}

verb=$1 address=$2 topic=$3 partitions=${4:-}
if [ "$verb" = trim ]; then
	trim "$address" "$topic" "$4" "$5"
	exit
fi
shift $(($# < 4 ? $# : 4))

for setting; do
	set -- "$@" --config "$setting"
	shift
done
case $verb in
	create) set -- --create --partitions "$partitions" --replication-factor 1 "$@" ;;
	widen) set -- --alter --partitions "$partitions" ;;
	delete) set -- --delete ;;
	*)
		echo "usage: $0 create|widen|delete|trim ADDRESS TOPIC [PARTITIONS [NAME=VALUE ...]]" >&2
		exit 2
		;;
esac
run TopicCommand --bootstrap-server "$address" --topic "$topic" "$@"
# The tool has the controller's word; the broker takes messages for the topic until it has heard of it, too.
if [ "$verb" = delete ]; then
	tries=0
	while kcat -b "$address" -L | grep -qE "^ *topic \"($topic)\" with [1-9]"; do
		tries=$((tries + 1))
		[ "$tries" -lt 600 ] || {
			echo "topic $topic is not deleted" >&2
			exit 1
		}
		sleep 0.1
	done
fi
