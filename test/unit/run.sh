#!/bin/sh
# Unit tests of code that needs no server.
#
#   test/unit/run.sh [CASES [SEED]]    of the random tests (30000; CLICKSTREAM_SEED or 42)
set -eu
cd "$(dirname "$0")/../.."
set -- "${1:-30000}" "${2:-${CLICKSTREAM_SEED:-42}}"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
pg_config=${PG_CONFIG:-pg_config}

compile() {
	${CC:-cc} -std=gnu11 -O1 -g -Wall -Wextra -Werror -Wno-sign-compare -fsanitize=address,undefined \
		-D_GNU_SOURCE -DCLICKSTREAM_MUTANTS -Isrc -isystem "$($pg_config --includedir-server)" -o "$@"
}

compile "$out/funnel_core_test" test/unit/funnel_core_test.c test/unit/funnel_brute.c \
	src/operator/funnel_core.c src/operator/funnel_match.c src/operator/funnel_unordered.c
"$out/funnel_core_test" "$@"

compile "$out/funnel_level_test" test/unit/funnel_level_test.c \
	src/operator/funnel_level.c src/operator/funnel_core.c src/operator/funnel_match.c src/operator/funnel_unordered.c
"$out/funnel_level_test" "$@"

# StringInfo and CRC-32C as programs have them.
lib=$($pg_config --pkglibdir)
compile "$out/delta_test" test/unit/delta_test.c src/state/delta.c src/state/codec.c \
	"$lib/libpgcommon.a" "$lib/libpgport.a"
"$out/delta_test" "$@"

# The index leaves its memory to a context, which here is none.
compile "$out/spill_index_test" test/unit/spill_index_test.c src/state/spill_index.c
ASAN_OPTIONS=detect_leaks=0 "$out/spill_index_test" "$@"
