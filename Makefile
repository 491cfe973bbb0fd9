# clickstream: a PostgreSQL extension, built by PGXS.
#
#   make              build the extension
#   make install      install it (PG_CONFIG=… picks the server)
#   make demo         one minute of live traffic in the terminal
#   make check        everything that tests, from a fresh machine
#   make chaos        a stream through everything that can happen to it (CHAOS_MINUTES=60)
#   make soak         steady load with a long snapshot in it: what grows? (SOAK_MINUTES=60)
#   make bounded      a million events of one visitor, visitors of one window, groups that close at once: in bounded memory?
#   make check-kafka  more of what a real Kafka does: codecs, compaction, transactions, topics made anew, bad networks
#   make check-flink  the same pipeline in a Flink: are the rows equal?
#   make check-clickhouse   random questions to the aggregates and to a ClickHouse: are the answers equal?
#   make check-versions   builds and regression tests on PostgreSQL 15, 16, 17 and 18, pg_upgrade
#   make check-asserts check-sanitizers check-valgrind   tests on servers that notice more
#   make check-leaks  is the worker's memory flat over a million events? (LEAK_EVENTS=1000000)
#   make check-dashboards  the dashboards in a Superset, seen by a browser
#   make bench        how fast it is (bench-tools: its programs only)
#   make bench-quick  each of its modes in small: does it run? (three minutes)
#   make bench-flink  catch-up beside a running Flink on the same topic (twenty minutes, 16 GB)
#   make bench-growth what an event costs as things grow, drawn (half an hour)
#   make bench-aggregates   the aggregates beside ClickHouse and plain SQL
#   make lint format  the house style: checked, applied
#   make regress isolation tap     one part of check
#   make random       its random tests, those in Perl too, many times, each with another seed (CLICKSTREAM_ROUNDS=10)

MODULE_big = clickstream
EXTENSION = clickstream
DATA = clickstream--1.0.sql

C_FILES = $(sort $(wildcard src/*.c src/*/*.c))
CXX_FILES = $(sort $(wildcard src/decode/*.cpp))
H_FILES = $(wildcard src/*.h src/*/*.h)
OBJS = $(C_FILES:.c=.o) $(CXX_FILES:.cpp=.o)

# Warnings are errors.  What is off is PostgreSQL's idiom: its macros mix
# signs, and its structs are begun by their first field.  Its headers count
# as the system's, so that what they leave unused is not ours to mend.
WARNINGS = -Wall -Wextra -Werror
# Nobody interposes our functions: they may be inlined, and called without the linker's table.
OWN_CALLS = -fno-semantic-interposition
PG_CPPFLAGS = -Isrc -D_GNU_SOURCE -isystem $(shell $(PG_CONFIG) --includedir-server)
PG_CFLAGS = $(WARNINGS) -Wno-sign-compare -Wno-missing-field-initializers $(OWN_CALLS)
PG_CXXFLAGS = -std=c++17 -fno-exceptions -fno-rtti $(WARNINGS) $(OWN_CALLS)
SHLIB_LINK = -Wl,-Bsymbolic-functions -lrdkafka -lsimdjson -lxxhash -lstdc++

EXTRA_CLEAN = demo/bin bench/bin results regression.diffs regression.out output_iso tmp_check tmp_check_iso log

# No JIT bitcode: inlining across our functions is not worth needing clang.
override with_llvm := no

PG_CONFIG ?= pg_config

# These are scripts, which begin by installing what is missing: they must
# start on a machine that has no server yet, so PGXS is read for others only.
SCRIPTS_OF_OURS = check chaos soak bounded check-kafka check-flink check-dashboards check-clickhouse demo bench bench-quick bench-flink bench-growth bench-aggregates lint format regress isolation tap random check-versions \
	check-asserts check-sanitizers check-valgrind check-leaks
ifneq ($(filter-out $(SCRIPTS_OF_OURS),$(or $(MAKECMDGOALS),all)),)
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error no $(PG_CONFIG) here; "test/setup.sh packages" installs what building needs)
endif
include $(PGXS)
endif

# Headers are few and most are shared: one changed, all rebuilt.
$(OBJS): $(H_FILES) Makefile

# The demo's programs know nothing of PostgreSQL.
TOOL_FLAGS = -std=gnu11 -O2 -g $(WARNINGS) -D_GNU_SOURCE

demo-tools: demo/bin/clickstream-broker demo/bin/clickstream-traffic

demo/bin/clickstream-%: demo/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(TOOL_FLAGS) -o $@ $< -lrdkafka -lm -lpthread

include bench/bench.mk

# PGXS has a check of its own, which only says that it cannot.
ifneq ($(filter check,$(MAKECMDGOALS)),)
check:
	test/check.sh
endif

check-kafka:
	test/check.sh tap test/kafka/[0-9]*.pl

check-flink:
	test/flink/run.sh

check-dashboards:
	test/dashboards/run.sh

check-clickhouse:
	test/clickhouse/run.sh

check-asserts check-sanitizers check-valgrind:
	test/instrumented.sh $(@:check-%=%)

check-leaks:
	CLICKSTREAM_TAP_LIMIT=7200 test/check.sh tap test/leaks/leaks.pl

check-versions:
	test/versions.sh

chaos:
	test/chaos/run.sh

soak:
	SOAK_MINUTES=$${SOAK_MINUTES:-60} CLICKSTREAM_TAP_LIMIT=$$(($${SOAK_MINUTES:-60} * 120 + 1200)) test/check.sh tap test/t/430_bloat.pl

bounded:
	BOUNDED_FULL=1 CLICKSTREAM_TAP_LIMIT=14400 test/check.sh tap test/t/415_bounded.pl

demo:
	demo/run.sh

bench:
	bench/run.sh

bench-quick:
	BENCH_QUICK=1 bench/run.sh

bench-flink:
	BENCH_MODES="catchup flink" BENCH_RUNS=$${BENCH_RUNS:-1} BENCH_EVENTS=$${BENCH_EVENTS:-5000000} BENCH_PARTITIONS=4 bench/run.sh

bench-growth:
	bench/growth.sh

bench-aggregates:
	bench/aggregates.sh

lint:
	test/lint.sh

format:
	clang-format-14 -i $(wildcard src/*.[ch] src/*/*.[ch] src/*/*.cpp demo/*.[ch] bench/*.[ch] bench/*.cpp test/*/*.[ch])

regress isolation tap random:
	test/check.sh $@

.PHONY: demo-tools $(SCRIPTS_OF_OURS)
