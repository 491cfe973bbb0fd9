"""Every query of every panel of dashboards/, as its tool sends it.

    queries.py grafana|metabase|superset FROM TO

FROM and TO are moments as 2026-01-01T12:00:00Z.  Prints one JSON object a line:
{"tool": ..., "panel": ..., "sql": ...}.  The queries are taken out of the files
that users import; what the tool adds (macros, variables, its own SQL) is put in
here as the tool does it.  test/dashboards/run.sh compares what this says of
Superset with what a Superset really sends.
"""
import datetime
import glob
import json
import os
import re
import sys

import yaml

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'dashboards')


def grafana_sql(sql, start, end, interval):
    """The macros of Grafana's PostgreSQL data source, and its variables."""
    seconds = {'s': 1, 'm': 60, 'h': 3600}

    def group(column, span):
        n = int(span[:-1]) * seconds[span[-1]]
        return f'floor(extract(epoch from {column})/{n})*{n}'

    def macro(match):
        name, args = match[1], [a.strip() for a in match[2].split(',')]
        if name == 'timeFilter':
            return f"{args[0]} BETWEEN '{start}' AND '{end}'"
        if name == 'timeFrom':
            return f"'{start}'"
        if name == 'timeTo':
            return f"'{end}'"
        if name == 'timeGroup':
            return group(*args)
        if name == 'timeGroupAlias':
            return group(*args) + ' AS "time"'
        raise SystemExit(f'unknown macro $__{name}')

    sql = re.sub(r'\$__interval\b', interval, sql)
    sql = re.sub(r'\$__(\w+)\(([^()]*)\)', macro, sql)
    if '$' in sql:
        raise SystemExit(f'not expanded: {sql}')
    return sql


def grafana(start, end):
    for path in sorted(glob.glob(f'{TOP}/grafana/dashboards/*.json')):
        with open(path, encoding='utf-8') as f:
            dashboard = json.load(f)
        for panel in dashboard['panels']:
            if panel['type'] == 'row':
                continue
            for target in panel['targets']:
                yield panel['title'], grafana_sql(target['rawSql'], start, end, panel.get('interval', '1m'))


def metabase(start, end):
    moment = '%Y-%m-%dT%H:%M:%SZ'
    span = datetime.datetime.strptime(end, moment) - datetime.datetime.strptime(start, moment)
    with open(f'{TOP}/metabase/dashboard.json', encoding='utf-8') as f:
        dashboard = json.load(f)
    for card in dashboard['cards']:
        sql = card['query'].replace('{{hours}}', str(int(span.total_seconds() / 3600)))
        if '{{' in sql or '[[' in sql:
            raise SystemExit(f'not expanded: {sql}')
        yield card['name'], sql


def superset_sql(chart, dataset, start, end):
    """What Superset makes of a chart and its dataset, for the kinds of charts that there are here."""
    p = chart['params']
    metrics = {m['metric_name']: m['expression'] for m in dataset['metrics']}
    types = {c['column_name']: c['type'] for c in dataset['columns']}
    grains = {
        'PT1M': "DATE_TRUNC('minute', {0})",
        'PT5M': "DATE_TRUNC('hour', {0}) + INTERVAL '5 minutes' * FLOOR(EXTRACT(MINUTE FROM {0}) / 5)",
        'PT1H': "DATE_TRUNC('hour', {0})",
    }
    raw = p.get('query_mode') == 'raw'
    columns, groups = [], []
    if raw:
        columns = [f'{c} AS {c}' for c in p['all_columns']]
    if 'x_axis' in p:
        x = p['x_axis']
        grain = grains[p['time_grain_sqla']].format(x) if 'time_grain_sqla' in p else x
        columns.append(f'{grain} AS {x}')
        groups.append(grain)
    if not raw:
        for c in p.get('groupby', []):
            columns.append(f'{c} AS {c}')
            groups.append(c)
    wanted = p.get('metrics') or ([p['metric']] if 'metric' in p else [])
    columns += [f'{metrics[m]} AS {m}' for m in wanted]
    for c in p.get('all_columns', []) + p.get('groupby', []):
        assert c in types, f'{chart["slice_name"]}: no column {c}'
    where = []
    for filter_ in p['adhoc_filters']:
        if filter_.get('operator') == 'TEMPORAL_RANGE':
            c = filter_['subject']
            stamp = "TO_TIMESTAMP('{}', 'YYYY-MM-DD HH24:MI:SS.US')"
            low, high = (stamp.format(m.replace('T', ' ').replace('Z', '.000000')) for m in (start, end))
            where.append(f'{c} >= {low} AND {c} < {high}')
        else:
            where.append(f'(({filter_["sqlExpression"]}))')
    sql = f'SELECT {", ".join(columns)} FROM {dataset["schema"]}.{dataset["table_name"]}'
    if where:
        sql += ' WHERE ' + ' AND '.join(where)
    if groups:
        sql += ' GROUP BY ' + ', '.join(groups)
    if raw:
        order = [json.loads(o) for o in p.get('order_by_cols', [])]
        if order:
            sql += ' ORDER BY ' + ', '.join(f'{c} {"ASC" if up else "DESC"}' for c, up in order)
    elif groups:
        sql += f' ORDER BY {wanted[0]} DESC'
    return sql + f' LIMIT {p.get("row_limit", 50000)}'


def superset(start, end):
    def load(path):
        with open(path, encoding='utf-8') as f:
            return yaml.safe_load(f)

    datasets = {d['uuid']: d for d in map(load, glob.glob(f'{TOP}/superset/datasets/*/*.yaml'))}
    charts = [load(path) for path in sorted(glob.glob(f'{TOP}/superset/charts/*.yaml'))]
    shown = {item['meta']['uuid'] for item in load(f'{TOP}/superset/dashboards/clickstream.yaml')['position'].values()
             if isinstance(item, dict) and item['type'] == 'CHART'}
    if shown != {c['uuid'] for c in charts}:
        raise SystemExit('the dashboard shows other charts than there are files')
    for chart in charts:
        yield chart['slice_name'], superset_sql(chart, datasets[chart['dataset_uuid']], start, end)


if __name__ == '__main__':
    for name, query in globals()[sys.argv[1]](*sys.argv[2:4]):
        print(json.dumps({'tool': sys.argv[1], 'panel': name, 'sql': query}))
