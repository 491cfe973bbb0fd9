# The bench's own programs; included by the top Makefile.

bench-tools: bench/bin/generate bench/bin/yardstick

bench/bin/generate: bench/generate.c bench/visit.c bench/visit.h bench/bench.mk
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wmissing-prototypes -Wshadow -D_GNU_SOURCE \
		-o $@ bench/generate.c bench/visit.c -lrdkafka -lm

bench/bin/yardstick: bench/yardstick.cpp bench/bench.mk
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -O2 -g -fno-exceptions -fno-rtti -Wall -Wextra -Werror -Wshadow \
		-o $@ bench/yardstick.cpp -lrdkafka -lsimdjson

.PHONY: bench-tools
