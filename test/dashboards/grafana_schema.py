"""Grafana's own schema against our dashboard, by the classes that Grafana Labs generates from it
(PyPI: grafana-foundation-sdk).

    grafana_schema.py DASHBOARD.json

What is read into the classes and written again must be what was read: a member
that the schema does not know gets lost on the way, a value of another type
raises.  The same is seen to happen to members that are spoilt on purpose.
"""
import copy
import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def differences(ours, theirs, path=''):
    if isinstance(ours, dict):
        if not isinstance(theirs, dict):
            return [path]
        return [d for k, v in ours.items() for d in (differences(v, theirs[k], f'{path}/{k}') if k in theirs else [f'{path}/{k}'])]
    if isinstance(ours, list):
        if not isinstance(theirs, list) or len(ours) != len(theirs):
            return [path]
        return [d for i, v in enumerate(ours) for d in differences(v, theirs[i], f'{path}/{i}')]
    return [] if ours == theirs else [path]


def check(dashboard):
    try:
        read = Dashboard.from_json(copy.deepcopy(dashboard))
        return differences(dashboard, json.loads(JSONEncoder().encode(read)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [repr(error)]


register_default_plugins()
with open(sys.argv[1], encoding='utf-8') as f:
    dashboard = json.load(f)
wrong = check(dashboard)
for line in wrong:
    print(f'not of the schema: {line}')
for spoil in (lambda d: d.update(colour='red'), lambda d: d['panels'][0].update(titel='x'),
              lambda d: d['panels'][0]['gridPos'].update(width=3), lambda d: d['panels'][0]['options'].update(grafMode='none')):
    spoilt = copy.deepcopy(dashboard)
    spoil(spoilt)
    if not check(spoilt):
        sys.exit('a spoilt dashboard is taken: this checks nothing')
sys.exit(bool(wrong))
