"""A stand-in for Metabase's REST API: as much of it as dashboards/metabase/import.sh asks for.

    metabase.py READY-FILE

Prints nothing; writes its address into READY-FILE, and ends with its standard
input.  GET /recorded tells what was made.  Requests that Metabase would refuse
(unknown or missing members, no key) get the status that it gives.
"""
import http.server
import json
import sys
import threading

made = {'database': [], 'collection': [], 'card': [], 'dashboard': []}
# what is demanded and what may be there besides
MEMBERS = {
    'database': ({'name', 'engine', 'details'}, set()),
    'collection': ({'name'}, {'description', 'parent_id'}),
    'card': ({'name', 'display', 'dataset_query', 'visualization_settings'}, {'description', 'collection_id', 'parameters'}),
    'dashboard': ({'name'}, {'description', 'collection_id', 'parameters'}),
}
DISPLAYS = {'table', 'scalar', 'line', 'area', 'bar', 'pie', 'row', 'funnel'}
DASHCARD = {'id', 'card_id', 'row', 'col', 'size_x', 'size_y', 'series', 'visualization_settings', 'parameter_mappings'}


def wrong(kind, body):
    needed, allowed = MEMBERS[kind]
    if not needed <= set(body) or not set(body) <= needed | allowed:
        return f'members of {kind}: {sorted(body)}'
    if kind == 'card':
        query = body['dataset_query']
        if body['display'] not in DISPLAYS or query['type'] != 'native' or not any(d['id'] == query['database'] for d in made['database']):
            return 'card'
        for tag in query['native']['template-tags'].values():
            if not {'id', 'name', 'display-name', 'type'} <= set(tag):
                return 'template tag'
    return None


def wrong_dashcards(body):
    for card in body['dashcards']:
        if set(card) != DASHCARD or not any(c['id'] == card['card_id'] for c in made['card']):
            return 'dashcard'
        if card['id'] >= 0 or not 1 <= card['size_x'] <= 24 or card['col'] + card['size_x'] > 24:
            return 'dashcard place'
        for mapping in card['parameter_mappings']:
            if mapping['parameter_id'] not in [p['id'] for p in body['parameters']]:
                return 'parameter'
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def handle_request(self):
        length = int(self.headers.get('Content-Length') or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        if self.path == '/recorded':
            return self.answer(200, made)
        if self.headers.get('x-api-key') != 'mb_test':
            return self.answer(401, 'Unauthenticated')
        kind = self.path.split('/')[2]
        if self.command == 'GET':
            return self.answer(200, {'data': made[kind]} if kind == 'database' else made[kind])
        if self.command == 'PUT':
            error = wrong_dashcards(body)
            if not error:
                made['dashboard'][-1].update(body)
            return self.answer(400 if error else 200, error or made['dashboard'][-1])
        error = wrong(kind, body)
        if not error:
            body['id'] = len(made[kind]) + 1
            made[kind].append(body)
        return self.answer(400 if error else 200, error or body)

    do_GET = do_POST = do_PUT = handle_request

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
with open(sys.argv[1], 'w', encoding='utf-8') as f:
    f.write(f'http://127.0.0.1:{server.server_port}\n')
sys.stdin.read()
