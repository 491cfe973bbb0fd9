#!/bin/sh
# Puts the files of this directory into the ZIP that Superset imports.
#
#   dashboards/superset/pack.sh clickstream.zip 'postgresql+psycopg2://dashboard_reader:secret@host:5432/database'
#   superset import-dashboards -p clickstream.zip -u admin
#
# The address is the database's, as SQLAlchemy writes it; it goes into the ZIP
# with its password, so keep that to yourself.  Without it the ZIP has the one of
# databases/clickstream.yaml.  Needs python3, as Superset does.
set -eu
[ $# -ge 1 ] || {
	echo "usage: $0 FILE.zip [DATABASE-URI]" >&2
	exit 2
}
here=$(cd "$(dirname "$0")" && pwd)
exec python3 - "$here" "$@" <<'END'
import json, os, re, sys, zipfile

here, target = sys.argv[1:3]
with zipfile.ZipFile(target, 'w', zipfile.ZIP_DEFLATED) as out:
    for directory, _, files in sorted(os.walk(here)):
        for name in sorted(files):
            path = os.path.join(directory, name)
            if not name.endswith('.yaml'):
                continue
            with open(path, encoding='utf-8') as f:
                text = f.read()
            if os.path.relpath(path, here) == 'databases/clickstream.yaml' and len(sys.argv) > 3:
                # a JSON string is a YAML string
                text = re.sub(r'^sqlalchemy_uri: .*$', lambda _: 'sqlalchemy_uri: ' + json.dumps(sys.argv[3]), text, flags=re.M)
            out.writestr('clickstream/' + os.path.relpath(path, here), text)
END
