#!/bin/bash
# Every version of PostgreSQL: builds without a warning there, and passes the
# regression and isolation tests.
#
#   test/versions.sh [15|16|17|18|upgrade ...]    these versions, or all; "upgrade": pg_upgrade 15 to 17
#
# The last line is "N passed, N failed", one for a version; a version's own
# lines are those of test/check.sh, whose directory holds what went wrong.
#
# 15 is this machine's.  17 and 18 are those of newer Debian releases, with
# their librdkafka and simdjson: each in a root of its own below the cache of
# test/setup.sh, made when it is first needed (which needs root).  16 was in no
# release; it comes out of a Python package, without ICU and without other
# extensions, so that the tests which need these are left out and named.
set -u
cd "$(dirname "$0")/.." || exit 2

# Of tests that cannot run on the 16 we have, one a line: what they need.
without_16="053_window_measures (hll, tdigest)
055_conditions (ICU)"

suite_of() {
	case $1 in
		17) echo trixie ;;
		18) echo forky ;;
	esac
}

# A PID namespace ends what a run leaves; the mounts go with it.
in_root() {
	local root=$1
	shift
	unshare --mount --pid --fork --kill-child -- sh -c '
		mount -t proc proc "$0/proc" && mount -t tmpfs -o mode=1777 tmpfs "$0/dev/shm" &&
			root=$0 && exec chroot "$root" "$@"' "$root" "$@"
}

copy_tree_to() {
	rm -rf "$1" && mkdir -p "$1" &&
		tar -cf - --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude=./demo/bin --exclude=./bench/bin --exclude=./bench/out . |
		tar -C "$1" -xf -
}

# Another root has no directories of this machine's.
debian() {
	local version=$1 root
	shift
	root=$(test/setup.sh root "$(suite_of "$version")") || return
	copy_tree_to "$root/var/tmp/clickstream" || return
	in_root "$root" env -u CLICKSTREAM_TMP -u TMPDIR CLICKSTREAM_POSTGRES="$version" PG_CONFIG="/usr/lib/postgresql/$version/bin/pg_config" \
		sh -c 'cd /var/tmp/clickstream && exec "$@"' sh "$@"
}

# User postgres must be able to read it, which the cache need not allow.
wheel() {
	local copy code tests
	copy=$(mktemp -d /tmp/clickstream-postgres-16.XXXXXX) || return
	chmod 755 "$copy"
	cp -r "$(test/setup.sh postgres-16)"/. "$copy"
	echo "left out: $without_16"
	mapfile -t tests < <(find sql -name '*.sql' | grep -v -F -f <(sed 's/ .*//' <<<"$without_16") | grep -v /000_)
	env PG_CONFIG="$copy/pgsql/bin/pg_config" LD_LIBRARY_PATH="$copy/libs" test/check.sh regress "${tests[@]}" isolation
	code=$?
	rm -rf "$copy"
	return $code
}

one_version() {
	echo "PostgreSQL: $1"
	case $1 in
		15) test/check.sh regress isolation ;;
		16) wheel ;;
		17 | 18) debian "$1" test/check.sh regress isolation ;;
		upgrade) debian 17 sh -c 'test/setup.sh packages && test/upgrade/run.sh' ;;
	esac
}

passed=0
failed=0
[ $# != 0 ] || set -- 15 16 17 18 upgrade
for version; do
	case $version in
		15 | 16 | 17 | 18 | upgrade) ;;
		*)
			echo "usage: $0 [15|16|17|18|upgrade ...]" >&2
			exit 2
			;;
	esac
	if one_version "$version"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
	fi
	echo
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
