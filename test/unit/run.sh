#!/bin/sh
# Unit tests of code that needs no server.  Arguments go to the random tests:
# number of cases and seed.
set -eu
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
${CC:-cc} -std=gnu11 -O1 -g -Wall -Wextra -Werror -Wno-sign-compare -fsanitize=address,undefined \
	-D_GNU_SOURCE -Isrc -isystem "$(${PG_CONFIG:-pg_config} --includedir-server)" \
	-o "$out/funnel_core_test" test/unit/funnel_core_test.c src/operator/funnel_core.c
"$out/funnel_core_test" "$@"
