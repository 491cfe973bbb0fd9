#!/bin/sh
# Runs SQL in a Flink: its SQL client, with the whole cluster inside the same
# Java process.  Nothing is left when it ends, and it listens on loopback only.
#
#   test/flink/flink.sh DIR INIT.sql [FILE.sql]
#
# INIT.sql must pass; then FILE.sql, which ends at its first error; without it
# the statements of standard input, each of which may fail.  The statements and
# what Flink says about them go to standard output, without colours.
#
# DIR takes what the run writes beside: flink.log, tmp, configuration.
#
# CLICKSTREAM_FLINK        the jars (default: where test/setup.sh puts them)
# CLICKSTREAM_FLINK_HEAP   default 2g; memory outside the heap is about 0.5 GB
# CLICKSTREAM_FLINK_PARALLELISM   default 2
set -eu
here=$(cd "$(dirname "$0")" && pwd)
jars=${CLICKSTREAM_FLINK:-$("$here/../setup.sh" flink-jars)}
mkdir -p "$1/tmp"
dir=$(cd "$1" && pwd)
init=$2
shift 2
[ $# = 0 ] || set -- -f "$1"

ls "$jars"/flink-dist-*.jar >/dev/null 2>&1 || {
	echo "flink: no jars in $jars; run test/setup.sh flink" >&2
	exit 1
}

cat >"$dir/config.yaml" <<-END
	execution.target: local
	parallelism.default: ${CLICKSTREAM_FLINK_PARALLELISM:-2}
	jobmanager.bind-host: 127.0.0.1
	taskmanager.bind-host: 127.0.0.1
	rest.bind-address: 127.0.0.1
	io.tmp.dirs: $dir/tmp
END
cat >"$dir/log4j2.properties" <<-END
	rootLogger.level = INFO
	rootLogger.appenderRef.file.ref = file
	appender.file.name = file
	appender.file.type = FILE
	appender.file.fileName = $dir/flink.log
	appender.file.layout.type = PatternLayout
	appender.file.layout.pattern = %d{HH:mm:ss,SSS} %p %c - %m%n
END

# Flink's own start scripts open these, but they are not in the Python package.
opens=
for package in java.lang java.lang.reflect java.net java.io java.text java.time java.util java.util.concurrent \
	java.util.concurrent.atomic java.util.concurrent.locks; do
	opens="$opens --add-opens=java.base/$package=ALL-UNNAMED"
done

set -f # the classpath's star is Java's to expand
status=0
# shellcheck disable=SC2086
FLINK_CONF_DIR=$dir java $opens "-Xmx${CLICKSTREAM_FLINK_HEAP:-2g}" -Djava.io.tmpdir="$dir/tmp" \
	-Dlog4j.configurationFile="$dir/log4j2.properties" -cp "$jars/*" \
	org.apache.flink.table.client.SqlClient embedded --history "$dir/history" -i "$init" "$@" >"$dir/client.log" 2>&1 ||
	status=$?
sed -e 's/\x1b\[[0-9;]*m//g' "$dir/client.log"
exit "$status"
