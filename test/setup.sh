#!/bin/sh
# Fetches what building and testing need.  Silent and quick when all is there.
#
#   test/setup.sh packages     Debian packages, by apt: as root, or through sudo
#   test/setup.sh kafka        the jars of one Kafka server, by Maven, into a cache
#                              outside the tree
#   test/setup.sh kafka-libs   prints where those jars are (or will be)
#
# CLICKSTREAM_CACHE names the cache (default ~/.cache/clickstream).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kafka_version=3.9.1
cache=${CLICKSTREAM_CACHE:-${HOME:-/var/tmp}/.cache/clickstream}
kafka_libs=$cache/kafka-$kafka_version

packages="build-essential pkg-config postgresql-15 postgresql-server-dev-15
	librdkafka-dev libsimdjson-dev libxxhash-dev kcat clang-format-14 libipc-run-perl
	postgresql-15-hll postgresql-15-tdigest"

say() { echo "setup: $*"; }

# Names the packages that are not installed, one a line.
missing_packages() {
	for p in $packages; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
	done
	# Any Java and any Maven will do.
	command -v java >/dev/null || echo default-jre-headless
	command -v mvn >/dev/null || echo maven
}

# Runs a command with root's rights.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		say "this needs root: $*" >&2
		return 1
	fi
}

# A server package makes and starts a cluster of its own when it first comes
# to a machine.  The tests make their own; so keep it from that, this once.
no_cluster=/etc/postgresql-common/createcluster.d/clickstream-setup.conf

forbid_main_cluster() {
	as_root mkdir -p "${no_cluster%/*}"
	echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
	trap 'as_root rm -f "$no_cluster"' EXIT
}

setup_packages() {
	missing=$(missing_packages | tr '\n' ' ')
	[ -n "$missing" ] || return 0
	command -v apt-get >/dev/null || {
		say "no apt-get here, and these are missing: $missing" >&2
		return 1
	}
	say "installing $missing"
	case " $missing" in *" postgresql-15 "*) forbid_main_cluster ;; esac
	log=$(mktemp)
	# shellcheck disable=SC2086
	if as_root apt-get -q -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 &&
		as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
			install --no-install-recommends $missing >>"$log" 2>&1; then
		rm -f "$log"
	else
		tail -n 30 "$log" >&2
		say "apt failed; its output is in $log" >&2
		return 1
	fi
}

setup_kafka() {
	[ ! -d "$kafka_libs" ] || return 0
	say "fetching Kafka $kafka_version into $kafka_libs"
	mkdir -p "$cache"
	new=$(mktemp -d "$cache/new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	if ! mvn -q -B -f "$here/kafka/pom.xml" -Dkafka.version="$kafka_version" dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory="$new/libs" >"$new/log" 2>&1; then
		tail -n 30 "$new/log" >&2
		say "Maven could not fetch Kafka" >&2
		return 1
	fi
	chmod -R a+rX "$new/libs"
	# Complete or absent: another run may have been faster, which is as good.
	mv -T "$new/libs" "$kafka_libs" 2>/dev/null || [ -d "$kafka_libs" ]
}

case ${1:-} in
	packages) setup_packages ;;
	kafka) setup_kafka ;;
	kafka-libs) echo "$kafka_libs" ;;
	*)
		echo "usage: $0 packages|kafka|kafka-libs" >&2
		exit 2
		;;
esac
