#!/bin/bash
# The README's picture of "make demo": runs it in a terminal of tmux, takes
# what that shows after a while, colours included, and has Chromium draw it.
#
#   demo/picture.sh FILE.png
#
#   PICTURE_SECONDS   how long the demo has run then (45)
#   PG_CONFIG, DEMO_RATE, DEMO_SEED: as for the demo
#
# It takes what the terminal holds, not what the demo meant to print.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
picture=${1:?usage: demo/picture.sh FILE.png}
after=${PICTURE_SECONDS:-45}
cols=100 rows=31
for tool in tmux chromium; do
	command -v "$tool" >/dev/null || { echo "picture: $tool is missing" >&2 && exit 1; }
done
work=$(mktemp -d)
terminal() { tmux -S "$work/tmux" -f /dev/null "$@"; }
clean_up() {
	terminal send-keys C-c 2>/dev/null || :
	for _ in $(seq 100); do
		terminal has-session 2>/dev/null || break
		sleep 0.2
	done
	terminal kill-server 2>/dev/null || :
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# Bold, dim, green, yellow and red are all that the demo uses.
to_html() {
	awk '
		function piece(text) {
			if (text == "")
				return ""
			gsub(/&/, "\\&amp;", text)
			gsub(/</, "\\&lt;", text)
			return weight colour == "" ? text : "<span class=\"" weight " " colour "\">" text "</span>"
		}
		function obey(code) {
			if (code == "" || code == 0)
				weight = colour = ""
			else if (code == 39)
				colour = ""
			else if (code in class && code < 10)
				weight = class[code]
			else if (code in class)
				colour = class[code]
		}
		BEGIN {
			print "<!DOCTYPE html><meta charset=utf-8><style>body { margin: 0; background: #1b1e24; }"
			print "pre { margin: 14px 18px; color: #c8cdd5; font: 15px/1.35 \"DejaVu Sans Mono\", monospace; }"
			print ".b { font-weight: bold; color: #fff; } .d { color: #858c98; } .g { color: #8ac27a; } .y { color: #e0b860; } .r { color: #e06c75; }"
			print "</style><pre>"
			class[1] = "b"; class[2] = "d"; class[31] = "r"; class[32] = "g"; class[33] = "y"
		}
		{
			line = ""
			while (match($0, /\033\[[0-9;]*m/)) {
				line = line piece(substr($0, 1, RSTART - 1))
				n = split(substr($0, RSTART + 2, RLENGTH - 3), code, ";")
				$0 = substr($0, RSTART + RLENGTH)
				if (n == 0)
					obey(0)
				for (i = 1; i <= n; i++)
					obey(code[i])
			}
			print line piece($0)
		}
		END { print "</pre>" }'
}

env | grep -E '^(PG_CONFIG|DEMO_RATE|DEMO_SEED)=' >"$work/env" || :
terminal new-session -d -x $cols -y $rows "env $(tr '\n' ' ' <"$work/env") DEMO_SECONDS=0 '$here/run.sh' 2>'$work/err'"
for _ in $(seq 1200); do
	terminal capture-pane -p | grep -q 'TOP PAGES' && break
	sleep 0.5
done
sleep "$after"
terminal capture-pane -e -p >"$work/screen"
grep -q . "$work/screen" || { echo "picture: the demo shows nothing: $(cat "$work/err")" >&2 && exit 1; }
to_html <"$work/screen" >"$work/screen.html"
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1 --window-size=940,636 \
	--screenshot="$work/screen.png" "file://$work/screen.html" >/dev/null 2>&1
cp "$work/screen.png" "$picture"
