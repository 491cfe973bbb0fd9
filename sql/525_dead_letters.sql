-- Dead letters by cause; an alert on their share; on_error => 'stop' and how a stream goes on.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t525;
SET search_path = t525;
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';
SELECT clickstream.create_stream('s525') > 0 AS made;
SELECT clickstream.create_window('hours', stream => 's525', size => '1 hour', measures => 'count(*) AS events');
SELECT clickstream.create_window('shares', stream => 's525', size => '1 hour', measures => $$sum(1 / (event_properties->>'n')::int) AS share$$);
CREATE FUNCTION send(payload text) RETURNS void LANGUAGE sql AS $$ SELECT clickstream.produce('s525', payload) $$;
SELECT send(format('{"event_time": "2024-06-01T10:00:%sZ", "event_properties": {"n": %s}}', lpad(i::text, 2, '0'), i)) FROM generate_series(1, 9) AS i;
-- the share of bad messages: none, then more than a twentieth
SELECT clickstream.create_alert('bad', $$SELECT sum(dead) AS dead, sum(consumed) AS consumed FROM clickstream.ledger
	WHERE stream = 's525' HAVING sum(dead) > 0.05 * sum(consumed)$$, stream => 's525');
CALL clickstream.process('s525');
SELECT holds, detail FROM clickstream.check_alert('bad');
SELECT send('no JSON');
CALL clickstream.process('s525');
SELECT holds, detail FROM clickstream.check_alert('bad');
SET clickstream.mock_clock = '2024-06-01 12:05:00+00';
SELECT send('{"event_time": "2024-06-01T10:01:00Z"'), send(E'na\u00efve'), send('{}'), send('{"event_time": "2024-06-01T10:01:00Z", "event_properties": {"n": 0}}'),
	send('{"event_time": "2024-06-01T10:01:00Z", "event_properties": {"n": "nought"}}'), send(repeat('x', 2000));
CALL clickstream.process('s525');
SELECT holds, detail FROM clickstream.check_alert('bad');
SELECT definition, cause, sqlstate, letters, first_at, last_at, sample_error, left(sample_payload, 40) AS sample, length(sample_payload)
FROM clickstream.dead_letter_cause WHERE stream = 's525' ORDER BY definition::text NULLS FIRST, cause, sqlstate;
SELECT sum(letters) = (SELECT count(*) FROM clickstream.dead_letter WHERE stream = 's525') AS all_of_them FROM clickstream.dead_letter_cause WHERE stream = 's525';
-- who may read the letters may read this
CREATE ROLE t525_reader;
CREATE ROLE t525_other;
GRANT USAGE ON SCHEMA t525 TO t525_reader;
GRANT SELECT ON shares TO t525_reader;
SET ROLE t525_reader;
SELECT definition, letters FROM clickstream.dead_letter_cause WHERE stream = 's525' ORDER BY 2;
SET ROLE t525_other;
SELECT count(*) FROM clickstream.dead_letter_cause WHERE stream = 's525';
RESET ROLE;
SELECT clickstream.drop_stream('s525');

-- the stream stops at the message, with the reason; nothing of it is consumed, and nothing behind it
SELECT clickstream.create_stream('s525', on_error => 'stop') > 0 AS made;
SELECT clickstream.create_window('hours', stream => 's525', size => '1 hour', group_by => 'page_url', measures => 'count(*) AS events');
SELECT send('{"event_time": "2024-06-01T10:00:00Z", "page_url": "/a"}');
CALL clickstream.process('s525');
SELECT send('{"ts": "2024-06-01T10:00:01Z", "page_url": "/b"}'), send('{"event_time": "2024-06-01T10:00:02Z", "page_url": "/c"}');
CALL clickstream.process('s525');
CALL clickstream.process('s525');
SELECT page_url, events FROM hours ORDER BY 1;
SELECT consumed, used, dead FROM clickstream.ledger WHERE stream = 's525';
-- mended by a mapping: it goes on where it stopped
SELECT clickstream.alter_stream('s525', mapping => '{"event_time": ["/event_time", "/ts"]}');
CALL clickstream.process('s525');
SELECT page_url, events FROM hours ORDER BY 1;
-- what nothing mends becomes a dead letter, if that is said
SELECT send('no JSON'), send('{"event_time": "2024-06-01T10:00:03Z", "page_url": "/d"}');
CALL clickstream.process('s525');
SELECT clickstream.alter_stream('s525', on_error => 'dead_letter');
CALL clickstream.process('s525');
SELECT clickstream.alter_stream('s525', on_error => 'stop');
SELECT page_url, events FROM hours ORDER BY 1;
SELECT message_offset, cause FROM clickstream.dead_letter WHERE stream = 's525';
SELECT topic, partition, consumed, used, dead, balanced FROM clickstream.audit('s525');
SELECT clickstream.drop_stream('s525');

-- each letter has its own message's headers, however many messages come behind it in the batch
SELECT clickstream.create_stream('s525') > 0 AS made;
SELECT count(clickstream.produce('s525', 'no JSON ' || i, headers => jsonb_build_object('name', 'value ' || i))) FROM generate_series(1, 5000) AS i;
CALL clickstream.process('s525');
SELECT count(*), count(*) FILTER (WHERE convert_from(payload, 'UTF8') = 'no JSON ' || substr(headers->>'name', 7)) AS own FROM clickstream.dead_letter WHERE stream = 's525';
SELECT clickstream.drop_stream('s525');
RESET clickstream.mock_clock;
DROP OWNED BY t525_reader;
DROP ROLE t525_reader, t525_other;
DROP SCHEMA t525 CASCADE;
