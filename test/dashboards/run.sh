#!/bin/bash
# "make check-dashboards": a Superset from PyPI imports the dashboard with its own
# command line; a headless Chromium opens it; each chart must get rows, by the
# query that test/t/850_dashboards.pl runs without a Superset.  Grafana's
# dashboard is held against Grafana's published schema.  See superset.pl.
# From a fresh machine it fetches 700 MB; then it takes some minutes, and so is
# not part of "make check".
#
#   CLICKSTREAM_PICTURE   a PNG file that gets the picture of the dashboard
set -eu
cd "$(dirname "$0")/../.."

test/setup.sh packages
test/setup.sh superset
picture=
if [ -n "${CLICKSTREAM_PICTURE:-}" ]; then
	picture=$(mktemp /tmp/clickstream-picture.XXXXXX.png)
	trap 'rm -f "$picture"' EXIT
	trap 'exit 130' INT TERM HUP
	chmod 666 "$picture"
fi
CLICKSTREAM_PICTURE_COPY=$picture CLICKSTREAM_SUPERSET=$(test/setup.sh superset-venv) \
	CLICKSTREAM_TAP_LIMIT=${CLICKSTREAM_TAP_LIMIT:-1800} test/check.sh tap test/dashboards/superset.pl
[ -z "$picture" ] || cp "$picture" "$CLICKSTREAM_PICTURE"
