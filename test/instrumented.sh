#!/bin/bash
# Tests on servers that notice more than those that people run.
#
#   test/instrumented.sh asserts      PostgreSQL with assertions, which also checks the ends of what palloc
#                                     gave and wipes what pfree takes: all that make check runs
#   test/instrumented.sh sanitizers   the same, the extension with Address- and UndefinedBehaviorSanitizer, some of the TAP tests
#   test/instrumented.sh valgrind     the same in valgrind: some of the regression tests, for it takes long
#
# More arguments are test/check.sh's, instead of what each runs else.  That server is 15,
# built from Debian's source when it is first needed (test/setup.sh
# postgres-asserts).
set -eu
cd "$(dirname "$0")/.."
mode=${1:-}
[ $# = 0 ] || shift

tap="test/t/020_worker.pl test/t/040_kills.pl test/t/400_shared_state.pl test/t/410_spill.pl test/t/420_faults.pl
	test/t/424_killed_publication.pl"
case $mode in
	asserts) [ $# != 0 ] || set -- regress isolation tap test/t/[0-9]*.pl ;;
	# shellcheck disable=SC2086
	sanitizers) [ $# != 0 ] || set -- regress isolation tap $tap ;;
	valgrind) [ $# != 0 ] || set -- regress sql/040_sessions.sql sql/050_windows.sql sql/060_funnels.sql sql/070_rollups.sql \
		sql/140_live.sql sql/410_spill.sql sql/420_open_state.sql sql/422_damaged_state.sql sql/440_forged_states.sql ;;
	*)
		echo "usage: $0 asserts|sanitizers|valgrind [argument of test/check.sh ...]" >&2
		exit 2
		;;
esac

test/setup.sh packages
[ "$mode" != sanitizers ] || test/unit/run.sh # with sanitizers and without a server
server=$(test/setup.sh postgres-asserts)
export PG_CONFIG=$server/bin/pg_config CLICKSTREAM_TAP_LIMIT=${CLICKSTREAM_TAP_LIMIT:-3600}
[ "$mode" = asserts ] || export CLICKSTREAM_INSTRUMENT=$mode
exec test/check.sh "$@"
