-- Messages as they come: what becomes a row, what a dead letter, and that
-- neighbours are unharmed.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t030;
SET search_path = t030;
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';
SELECT clickstream.create_stream('s030') > 0 AS made;
SELECT clickstream.create_window('pages', stream => 's030', size => '1 day', group_by => 'left(page_url, 10) AS page, length(page_url) AS length',
	measures => 'count(*) AS events');
-- a message, with a good neighbour on either side
CREATE FUNCTION send(what text, payload text) RETURNS void LANGUAGE sql AS $$
	SELECT clickstream.produce('s030', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/neighbour"}');
	SELECT clickstream.produce('s030', payload, what);
$$;
-- in the order of the issue's list
SELECT send('not JSON', 'page_view;ann;/home');
SELECT send('cut off', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/cut');
SELECT send('two values', '{"event_time": "2024-06-01T11:00:00Z"} {"event_time": "2024-06-01T11:00:00Z"}');
SELECT send('an array', '[{"event_time": "2024-06-01T11:00:00Z"}]');
SELECT send('a string', '"2024-06-01T11:00:00Z"');
SELECT send('null', 'null');
SELECT send('nothing', '');
SELECT send('blanks', '   ');
SELECT send('nested 100,000 deep', repeat('{"a":', 100000) || '1' || repeat('}', 100000));
SELECT send('arrays 100,000 deep', '{"event_time": "2024-06-01T11:00:00Z", "event_properties": ' || repeat('[', 100000) || repeat(']', 100000) || '}');
SELECT send('never closed', repeat('[', 100000));
SELECT send('10 MB', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/' || repeat('x', 10000000) || '"}');
SELECT send('NUL in a page', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/a\u0000b"}');
SELECT send('NUL in a property', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/nul", "event_properties": {"a": "\u0000"}}');
SELECT send('NUL in what nobody reads', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/elsewhere", "zzz": "\u0000"}');
SELECT send('lone high surrogate', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/\ud83d"}');
SELECT send('lone low surrogate', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/\ude00"}');
SELECT send('surrogates in order', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/\ud83d\ude00"}');
SELECT send('number of 100,000 digits', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/number", "event_properties": {"n": ' || repeat('9', 100000) || '}}');
SELECT send('such a number as page', '{"event_time": "2024-06-01T11:00:00Z", "page_url": ' || repeat('9', 100000) || '}');
SELECT send('huge exponent', '{"event_time": "2024-06-01T11:00:00Z", "event_properties": {"n": 1e100000}}');
SELECT send('page of 10 kB', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/long/' || repeat('abcdefghij', 1024) || '"}');
SELECT send('event_time missing', '{"page_url": "/a"}');
SELECT send('event_time null', '{"event_time": null, "page_url": "/a"}');
SELECT send('event_time absurd', '{"event_time": "yesterday", "page_url": "/a"}');
SELECT send('event_time no such day', '{"event_time": "2024-02-30T00:00:00Z"}');
SELECT send('event_time an object', '{"event_time": {"t": 1}}');
SELECT send('event_time true', '{"event_time": true}');
SELECT send('event_time far off', '{"event_time": 1e300}');
SELECT send('event_time in 9999', '{"event_time": "9999-12-31T23:59:59Z"}');
SELECT send('event_time infinity', '{"event_time": "infinity"}');
SELECT send('event_time of 100,000 digits', '{"event_time": ' || repeat('1', 100000) || '}');
SELECT send('twice the same name: the last wins', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/first", "page_url": "/last"}');
SELECT send('other types as text', '{"event_time": "2024-06-01T11:00:00Z", "page_url": 12.50}');
SELECT send('byte order mark', E'\uFEFF{"event_time": "2024-06-01T11:00:00Z", "page_url": "/bom"}');
SELECT send('unknown fields', '{"x": {"event_time": 1}, "event_time": "2024-06-01T11:00:00Z", "page_url": "/unknown", "event_timex": 2}');
SELECT send('tombstone', NULL);
SELECT clickstream.produce('s030', '{"event_time": "2024-06-01T11:00:00Z", "page_url": "/neighbour"}') > 0 AS last;
CALL clickstream.process('s030');
SELECT m.message_key, coalesce(d.cause, CASE WHEN m.payload IS NULL THEN 'empty' ELSE '(a row)' END) AS what_became, d.sqlstate,
	d.payload = convert_to(m.payload, 'UTF8') AS payload_kept, d.message_key = convert_to(m.message_key, 'UTF8') AS key_kept
FROM clickstream.local_message m JOIN clickstream.stream s USING (stream_id)
LEFT JOIN clickstream.dead_letter d ON d.stream = s.name AND (d.topic, d.partition, d.message_offset) = (s.name, m.partition, m.message_offset)
WHERE s.name = 's030' AND m.message_key IS NOT NULL ORDER BY m.message_offset;
-- the reasons in words
SELECT DISTINCT ON (message_key) convert_from(message_key, 'UTF8') AS message, left(error, 120) AS error, definition
FROM clickstream.dead_letter WHERE stream = 's030' ORDER BY message_key;
-- neighbours: one for each message and one more
SELECT page, length, events FROM pages ORDER BY page, length;
SELECT count(*) + 1 = (SELECT events FROM pages WHERE page = '/neighbour') AS all_neighbours FROM clickstream.local_message
JOIN clickstream.stream s USING (stream_id) WHERE s.name = 's030' AND message_key IS NOT NULL;
SELECT consumed, used, filtered, dead, empty, balanced FROM test.ledger WHERE stream = 's030';
SELECT clickstream.drop_stream('s030');

-- Forms of a time: most of them say 11:00:00.25 of 2024-06-01.
CREATE TABLE form (i serial, form text);
INSERT INTO form (form) VALUES ('-1'), ('0'), ('"1e9"'), ('"2024-06-01T11:00:00.25Z"'), ('"2024-06-01 11:00:00.25"'), ('"2024-06-01T13:00:00.250+02:00"'),
	('"2024-06-01T05:30:00.250000-0530"'), ('"2024-06-01 11:00:00.25+00"'), ('"2024-06-01t11:00:00.25z"'), ('"2024-06-01T11:00Z"'),
	('1717239600.25'), ('1717239600250'), ('1717239600250000'), ('"1717239600.25"'), ('"1717239600250"'), ('1717239600'),
	('1.71723960025e9'), ('"2024-06-01T11:00:00.2500004Z"'), ('"2024-06-01T11:00:00.123456Z"'), ('"2024-06-01T23:59:60Z"'),
	('"2024-06-01"'), ('"2024-06-01T24:00:00Z"'), ('"2024-06-01T25:00:00Z"'), ('"2024-06-01T11:00:00.25 Z"'), ('"06/01/2024 11:00"'), ('""');
SELECT clickstream.create_stream('s030', max_future => NULL, watermark_delay => '366 days') > 0 AS made;
SELECT clickstream.create_window('times', stream => 's030', size => '1 hour', group_by => 'event_time AS at, message_offset',
	measures => 'count(*) AS events');
DO $$
DECLARE
	f record;
BEGIN
	FOR f IN SELECT * FROM form ORDER BY i LOOP
		PERFORM clickstream.produce('s030', '{"event_time": ' || f.form || '}');
	END LOOP;
END
$$;
CALL clickstream.process('s030');
SELECT form, at, cause FROM form
LEFT JOIN times t ON t.message_offset = i - 1
LEFT JOIN clickstream.dead_letter d ON d.stream = 's030' AND d.message_offset = i - 1
ORDER BY i;
SELECT clickstream.drop_stream('s030');

-- Mapping, extra columns, and all fourteen columns as they arrive.
SELECT clickstream.create_stream('s030', extra_columns => 'plan text, cart_value numeric, items integer[], at date, context json',
	mapping => '{"page_url": "/context/page/url", "user_id": ["/userId", "/traits/id"], "browser": null, "country": "/list/1", "page_title": "/a~1b/~0"}') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's030');
SELECT clickstream.produce('s030', $${"event_time": "2024-06-01T11:00:00Z", "context": {"page": {"url": "/mapped"}}, "page_url": "/top", "traits": {"id": "t1"},
	"userId": null, "browser": "nobody", "list": ["no", "at"], "a/b": {"~": "title"}, "plan": true, "cart_value": "12.50", "items": "{1,2}", "at": "2024-02-29",
	"anonymous_id": 17, "event_type": "click", "referrer_url": "r", "utm_source": "s", "utm_medium": "m", "utm_campaign": "c", "device_type": "phone",
	"event_properties": {"b": [1, 2.50, null], "a": {"x": "\u00e9"}}}$$, 'k1') AS o;
SELECT clickstream.produce('s030', '{"event_time": 1717239600, "userId": "u", "traits": {"id": "t"}, "cart_value": 1e3}') AS o;
SELECT clickstream.produce('s030', '{"event_time": 1717239600, "cart_value": "much"}') AS o;
SELECT clickstream.produce('s030', '{"event_time": 1717239600, "items": "1,2"}') AS o;
SELECT clickstream.produce('s030', '{"event_time": 1717239600, "at": "2023-02-29"}') AS o;
CALL clickstream.process('s030');
SELECT user_id, anonymous_id, event_type, page_url, page_title, referrer_url, utm_source, utm_medium, utm_campaign, device_type, browser, country,
	event_time, event_properties, plan, cart_value, items, at, context FROM log ORDER BY message_offset;
SELECT message_offset, cause, error, sqlstate FROM clickstream.dead_letter WHERE stream = 's030' ORDER BY message_offset;
SELECT clickstream.drop_stream('s030');
RESET clickstream.mock_clock;
-- bytes that are no UTF-8 cannot be produced as text here; test/t does that through a broker
DROP SCHEMA t030 CASCADE;
