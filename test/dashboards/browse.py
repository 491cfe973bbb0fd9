"""Opens the imported dashboard in a headless Chromium and says what Superset asked the database.

    browse.py ADDRESS PICTURE.png

Prints one JSON object a line for each query: {"panel", "rows", "error", "sql"}.
The picture is of the whole dashboard, once every chart has its data.
"""
import json
import sys
import time

from playwright.sync_api import sync_playwright

address, picture = sys.argv[1:3]
LIMIT = 300

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path='/usr/bin/chromium', args=['--no-sandbox', '--disable-dev-shm-usage'])
    page = browser.new_page(viewport={'width': 1400, 'height': 2740})
    answers = {}

    def answered(response):
        if '/api/v1/chart/data' not in response.url or response.request.method != 'POST':
            return
        chart = json.loads(response.request.post_data)['form_data'].get('slice_id')
        try:
            answers[chart] = (response.status, response.json())
        except ValueError as error:
            answers[chart] = (response.status, {'message': str(error)})

    page.on('response', answered)
    login = page.context.request.post(f'{address}/login/', form={'username': 'admin', 'password': 'admin'})
    assert 'welcome' in login.url, f'could not log in: {login.status} {login.url}'
    charts = page.context.request.get(f'{address}/api/v1/dashboard/clickstream/charts').json()['result']
    names = {chart['id']: chart['slice_name'] for chart in charts}

    page.goto(f'{address}/superset/dashboard/clickstream/?standalone=1', timeout=LIMIT * 1000)
    end = time.monotonic() + LIMIT
    while set(answers) < set(names) and time.monotonic() < end:
        page.wait_for_timeout(200)
    # until a second has passed in which nothing was loading
    calm = 0
    while calm < 5 and time.monotonic() < end:
        page.wait_for_timeout(200)
        calm = 0 if page.locator('[data-test=loading-indicator], .loading').count() else calm + 1
    page.mouse.move(0, 0)
    page.wait_for_timeout(2000)
    page.screenshot(path=picture)

    for number, name in sorted(names.items(), key=lambda item: item[1]):
        status, body = answers.get(number, (0, {'message': 'never asked for'}))
        for result in body.get('result') or [{}]:
            print(json.dumps({'panel': name, 'rows': result.get('rowcount', 0), 'sql': result.get('query', ''),
                              'error': result.get('error') or (body if status != 200 else None)}))
    for text in page.locator('.ant-alert-error, [data-test=chart-error-message]').all_inner_texts():
        print(json.dumps({'panel': 'the page', 'rows': 0, 'sql': '', 'error': text}))
    browser.close()
