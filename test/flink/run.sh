#!/bin/bash
# "make check-flink": the published Flink SQL pipeline in a running Flink, and
# clickstream's over the same topic; their final rows must be equal.  From a
# fresh machine, and again; see compare.pl.  It takes some minutes, and so is
# not part of "make check".
#
#   CLICKSTREAM_FLINK_EVENTS   events in the topic (200000)
#   CLICKSTREAM_SEED           of the generator (42)
#   CLICKSTREAM_TAP_LIMIT      seconds until it is given up (3600)
set -eu
cd "$(dirname "$0")/../.."

test/setup.sh packages
test/setup.sh flink

# As root the servers run as user postgres, who cannot read root's cache.
jars=$(test/setup.sh flink-jars)
if [ "$(id -u)" = 0 ]; then
	copy=$(mktemp -d /tmp/clickstream-flink.XXXXXX)
	trap 'rm -rf "$copy"' EXIT
	trap 'exit 130' INT TERM HUP
	chmod 755 "$copy"
	cp "$jars"/*.jar "$copy"
	jars=$copy
fi
CLICKSTREAM_FLINK=$jars CLICKSTREAM_TAP_LIMIT=${CLICKSTREAM_TAP_LIMIT:-3600} test/check.sh tap test/flink/compare.pl
