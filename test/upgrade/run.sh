#!/bin/bash
# pg_upgrade from 15 to the version of CLICKSTREAM_POSTGRES: for a Debian that
# has the newer one, in which this installs 15 from the release before.
# test/versions.sh calls it there, as root: it installs the extension into both.
#
#   CLICKSTREAM_POSTGRES=17 test/upgrade/run.sh
set -eu
cd "$(dirname "$0")/../.."
version=$CLICKSTREAM_POSTGRES
export DEBIAN_FRONTEND=noninteractive

# Headers of 15 are unpacked only: their package wants that release's compiler.
install_15() {
	[ ! -e /usr/lib/postgresql/15/bin/pg_config ] || return 0
	local mirror
	mirror=$(apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' | head -n 1)
	mkdir -p /etc/postgresql-common/createcluster.d
	echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/clickstream.conf
	echo "deb $mirror bookworm main" >/etc/apt/sources.list.d/bookworm.list
	apt-get -q update
	apt-get -q -y --no-install-recommends install postgresql-15
	cd /tmp
	apt-get -q download postgresql-server-dev-15
	dpkg -x postgresql-server-dev-15_*.deb /
	cd - >/dev/null
}

install_15
for pg in 15 "$version"; do
	make -s clean PG_CONFIG="/usr/lib/postgresql/$pg/bin/pg_config"
	make -s -j"$(nproc)" install PG_CONFIG="/usr/lib/postgresql/$pg/bin/pg_config"
done
work=$(mktemp -d /tmp/clickstream-upgrade.XXXXXX)
trap 'rm -rf "$work"' EXIT
chown -R postgres "$work"
chmod 755 "$work"
bin=/usr/lib/postgresql/$version/bin
runuser -u postgres -- env HOME="$work" PATH="$bin:$PATH" OLD_BIN=/usr/lib/postgresql/15/bin TMPDIR="$work" \
	TESTDIR="$work" TESTDATADIR="$work/data" TESTLOGDIR="$work/log" PG_REGRESS=/usr/lib/postgresql/"$version"/lib/pgxs/src/test/regress/pg_regress \
	prove -v -I /usr/lib/postgresql/"$version"/lib/pgxs/src/test/perl "$PWD/test/upgrade/upgrade.pl" || {
	tail -n 40 "$work"/log/* >&2
	exit 1
}
