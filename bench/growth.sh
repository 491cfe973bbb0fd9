#!/bin/sh
# What an event costs as things grow: "make bench-growth", half an hour.
#
# Runs catch-up once for each point of four axes, each with the rest as run.sh has it:
#
#   events        one run of 10 million, what its steady part costs in ten parts
#   visitors      from 10 thousand to 5 million
#   partitions    from 1 to 64
#   definitions   from 1 to 20 windows alike, which see the same events
#
# and draws them: doc/growth.png.  The points are in bench/out/growth-TIME.tsv,
# one a line: axis, value, CPU us per event of the whole cluster, and of the
# yardstick, which was measured before and after each run.  The picture shows
# both: a machine that others use is faster one minute than the next.
#
#   bench/growth.sh plot FILE.tsv        draw only
#   GROWTH_AXES="visitors partitions"    some of them; GROWTH_VISITORS, _PARTITIONS, _DEFINITIONS: some points of one
#   GROWTH_EVENTS=6000000                of each point but those of the first axis
#   GROWTH_PICTURE=doc/growth.png        where the picture goes
set -eu
bench=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$bench")
picture=${GROWTH_PICTURE:-$top/doc/growth.png}
no_checkpoint="checkpoint_timeout = 1d
max_wal_size = 20GB"
points=$bench/out/growth-$(date -u +%Y%m%dT%H%M%SZ).tsv

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

fail() {
	echo "growth: $*" >&2
	exit 1
}

# What is loaded stays for the next run; at the end it goes.
cleanup() { rm -rf "${BENCH_WORK:-/var/tmp/clickstream-bench}"; }

# run MODE [NAME=VALUE...]: prints the file of its figures.  A run with few visitors closes few sessions, which
# run.sh takes for another load than the one it means; here that is the point.  No checkpoint: after one WAL holds whole
# pages for a while, and it would come into one point and not into another.
run() {
	mode=$1
	shift
	rm -f "$bench/out/growth.log"
	env BENCH_KEEP=1 BENCH_MODES="$mode" BENCH_RUNS=1 BENCH_CONF="$no_checkpoint" "$@" "$bench/run.sh" >"$bench/out/growth.log" 2>&1 || true
	figures=$(sed -n 's/^bench: figures in //p' "$bench/out/growth.log")
	[ -n "$figures" ] || fail "$* did not end: $(tail -n 3 "$bench/out/growth.log")"
	grep INVALID "$bench/out/growth.log" >&2 || true
	echo "$figures"
}

# point AXIS VALUE MODE [NAME=VALUE...]
point() {
	axis=$1
	value=$2
	mode=$3
	shift 3
	run "$mode" BENCH_EVENTS="${GROWTH_EVENTS:-6000000}" "$@" >"$bench/out/growth.name"
	jq -r --arg axis "$axis" --arg value "$value" \
		'.runs[0] | [$axis, $value, .cpu_us_per_event, .yardstick_us_per_event] | @tsv' "$(cat "$bench/out/growth.name")" |
		tee -a "$points"
}

axis_events() {
	run catchup >"$bench/out/growth.name"
	jq -r '(.settings.events - .runs[0].measured_events) as $from | .runs[0].yardstick_us_per_event as $yardstick
		| .runs[0].measured_events as $n | .runs[0].cpu_us_by_tenth | to_entries[]
		| ["events", ($from + $n * (.key + 1) / 10 | floor), .value, $yardstick] | @tsv' "$(cat "$bench/out/growth.name")" |
		tee -a "$points"
}

axis_visitors() {
	for n in ${GROWTH_VISITORS:-10000 100000 1000000 5000000}; do
		point visitors "$n" catchup BENCH_USERS="$n"
	done
}

axis_partitions() {
	for n in ${GROWTH_PARTITIONS:-1 8 24 64}; do
		point partitions "$n" catchup BENCH_PARTITIONS="$n"
	done
}

axis_definitions() {
	for n in ${GROWTH_DEFINITIONS:-1 2 5 10 20}; do
		point definitions "$n" definitions BENCH_DEFINITIONS="$n"
	done
}

# One panel for each axis that there are points of; lines as they are, and as multiples of the yardstick.
draw() {
	for axis in events visitors partitions definitions; do
		grep "^$axis	" "$points" | sort -t '	' -k 2n >"$bench/out/growth-$axis.tsv"
		[ -s "$bench/out/growth-$axis.tsv" ] || rm -f "$bench/out/growth-$axis.tsv"
	done
	gnuplot <<-END
		set terminal pngcairo size 1200,820 font 'Sans,10'
		set output '$picture'
		set multiplot layout 2,2 title 'clickstream: what an event costs in catch-up, on one core'
		set grid
		set key bottom right
		set yrange [0:*]
		set y2range [0:*]
		set ytics nomirror
		set y2tics
		set ylabel 'CPU µs per event'
		set y2label 'times fetching and parsing alone'
		do for [axis in 'events visitors partitions definitions'] {
			file = '$bench/out/growth-'.axis.'.tsv'
			if (system('test -e '.file.' && echo 1') eq '1') {
				set xlabel axis
				if (axis eq 'visitors') { set logscale x } else { unset logscale x }
				set format x (axis eq 'visitors' || axis eq 'events' ? '%.0s%c' : '%g')
				plot file using 2:3 axes x1y1 with linespoints lw 2 pt 7 title 'µs', \\
					file using 2:(\$3/\$4) axes x1y2 with linespoints dt 2 pt 6 title 'times the yardstick'
			}
		}
		unset multiplot
	END
	rm -f "$bench"/out/growth-events.tsv "$bench"/out/growth-visitors.tsv "$bench"/out/growth-partitions.tsv \
		"$bench"/out/growth-definitions.tsv
	echo "growth: $picture"
}

command -v gnuplot >/dev/null || {
	echo "growth: installing gnuplot-nox"
	as_root apt-get install -y -qq gnuplot-nox >/dev/null
}
mkdir -p "$bench/out"
if [ "${1:-}" = plot ]; then
	points=$2
	draw
	exit 0
fi
trap cleanup EXIT
trap 'exit 130' INT TERM
for axis in ${GROWTH_AXES:-events visitors partitions definitions}; do
	"axis_$axis"
done
draw
