#!/bin/sh
# Shows the demo's tables filling: a picture refreshed in place each second
# where stdout is a terminal, else one line every two seconds.
#
#   demo/screen.sh [SECONDS]	0 = until it is ended (SIGTERM, SIGINT)
#
# The server is the one that psql finds (PGHOST, PGPORT, PGDATABASE, PGUSER;
# PSQL names another psql); DEMO_CONNECT is shown in the last line.  Colours
# unless NO_COLOR is set.
#
# Each picture is one psql call, and is drawn over the last one in one write:
# nothing is cleared in between, so nothing flickers.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-0}
psql=${PSQL:-psql}
begun=$(date +%s)
failures=0
size=
escape=$(printf '\033')
export PGOPTIONS="${PGOPTIONS:-} -c statement_timeout=10s"

# Colours: bold, dim, green, yellow, red, off.
b='' d='' g='' y='' r='' o=''
plain=true
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
	plain=false
	if [ -z "${NO_COLOR:-}" ]; then
		b="${escape}[1m" d="${escape}[2m" g="${escape}[32m" y="${escape}[33m" r="${escape}[31m" o="${escape}[0m"
	fi
fi

# Whatever ends this: the cursor is seen again, below the picture.
finish() {
	$plain || printf '%s[0m%s[?25h\n' "$escape" "$escape"
}
trap finish EXIT
trap 'exit 0' INT TERM HUP

remaining() {
	if [ "$seconds" = 0 ]; then
		echo 'Ctrl-C ends it'
	else
		echo "ends in $((begun + seconds - $(date +%s))) s"
	fi
}

query() {
	"$psql" -X -q -A -t -v ON_ERROR_STOP=1 -v plain="$plain" -v rows="$rows" -v cols="$cols" \
		-v left="$(remaining)" -v connect="${DEMO_CONNECT:-}" \
		-v b="$b" -v d="$d" -v g="$g" -v y="$y" -v r="$r" -v o="$o" -f "$here/screen.sql" 2>&1
}

# Sets rows and cols; a terminal of another size than before is wiped once.
measure() {
	now=$(stty size 2>/dev/null </dev/tty) || now=
	case $now in '' | '0 '* | *' 0') now='24 80' ;; esac
	rows=${now% *} cols=${now#* }
	if ! $plain && [ "$now" != "$size" ]; then
		printf '%s[?25l%s[2J' "$escape" "$escape"
	fi
	size=$now
}

draw() {
	if $plain; then
		printf '%s\n' "$1"
	else
		picture=$(printf '%s\n' "$1" | head -n "$rows" | sed "s/\$/${escape}[K/")
		printf '%s[H%s%s[J' "$escape" "$picture" "$escape"
	fi
}

while [ "$seconds" = 0 ] || [ "$(date +%s)" -lt $((begun + seconds)) ]; do
	kill -0 "$PPID" 2>/dev/null || break # nobody is looking any more
	measure
	if picture=$(query); then
		failures=0
	else
		failures=$((failures + 1))
		[ "$failures" -lt 5 ] || break
	fi
	draw "$picture"
	if $plain; then sleep 2; else sleep 1; fi
done
[ "$failures" -lt 5 ]
