"""Is what a Superset sent what queries.py says that it sends, and did it get rows?

    compare.py SENT EXPECTED

Both are files of JSON objects, one a line.  Moments and layout count as equal.
Prints "N passed, N failed" last.
"""
import json
import re
import sys


def load(path):
    with open(path, encoding='utf-8') as f:
        return {o['panel']: o for o in map(json.loads, f)}


def plain(sql):
    sql = re.sub(r"'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+'", "'MOMENT'", sql)
    return re.sub(r'\s+', ' ', sql).strip().rstrip(';').strip()


sent, expected = map(load, sys.argv[1:3])
passed = failed = 0
for panel in sorted(sent.keys() | expected.keys()):
    wrong = []
    if panel not in sent or panel not in expected:
        wrong.append('only in one of the two')
    else:
        if sent[panel]['error'] or not sent[panel]['rows']:
            wrong.append(f"{sent[panel]['rows']} rows, error {sent[panel]['error']}")
        if plain(sent[panel]['sql']) != plain(expected[panel]['sql']):
            wrong.append(f"sent:     {plain(sent[panel]['sql'])}\n    expected: {plain(expected[panel]['sql'])}")
    if panel in sent and panel not in expected:
        wrong.append(str(sent[panel]))
    print(f"{panel}: {'ok' if not wrong else 'FAILED'}")
    for line in wrong:
        print(f'    {line}')
    passed, failed = passed + (not wrong), failed + bool(wrong)
print(f'{passed} passed, {failed} failed')
sys.exit(failed != 0)
