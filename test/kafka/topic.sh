#!/bin/sh
# Makes, widens or deletes a topic of a Kafka server.
#
#   test/kafka/topic.sh create ADDRESS TOPIC PARTITIONS [NAME=VALUE ...]
#   test/kafka/topic.sh widen  ADDRESS TOPIC PARTITIONS
#   test/kafka/topic.sh delete ADDRESS TOPIC
set -eu
here=$(cd "$(dirname "$0")" && pwd)
libs=${CLICKSTREAM_KAFKA_LIBS:-$("$here/../setup.sh" kafka-libs)}
verb=$1 address=$2 topic=$3 partitions=${4:-}
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
		echo "usage: $0 create|widen|delete ADDRESS TOPIC [PARTITIONS [NAME=VALUE ...]]" >&2
		exit 2
		;;
esac
if ! out=$(java -XX:TieredStopAtLevel=1 -cp "$libs/*" org.apache.kafka.tools.TopicCommand \
	--bootstrap-server "$address" --topic "$topic" "$@" 2>&1); then
	echo "$out" >&2
	exit 1
fi
