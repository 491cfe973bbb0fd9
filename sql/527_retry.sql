-- retry_dead_letters(): mended messages go through the stream at their own event time, once.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t527;
CREATE SCHEMA good;
SET search_path = t527;
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';
CREATE PROCEDURE make(stream text, schema text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.create_stream(stream, dedupe_by => $d$event_properties->>'id'$d$);
	PERFORM clickstream.create_window(schema || '.hours', stream => stream, size => '1 hour', group_by => 'page_url', measures => 'count(*) AS events');
	PERFORM clickstream.create_session(schema || '.visits', stream => stream, gap => '10 minutes', measures => 'count(*) AS events, first(page_url) AS landing, last(page_url) AS leaving');
	PERFORM clickstream.create_rollup(schema || '.starts', source => schema || '.visits', size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events');
	PERFORM clickstream.create_funnel(schema || '.ab', stream => stream, within => '10 minutes', steps => ARRAY[
		clickstream.step('a', $s$page_url = '/a'$s$), clickstream.step('e', $s$page_url = '/e'$s$)]);
	PERFORM clickstream.create_event_log(schema || '.log', stream => stream);
END
$$;
CALL make('s527', 't527');
CALL make('s527good', 'good');
-- the second, sixth, seventh and tenth have their time under another name; one is no JSON; one is seen twice
CREATE TABLE message (i integer, payload text);
INSERT INTO message VALUES (0, '{"event_time": "2024-06-01T10:00:00Z", "page_url": "/a", "user_id": "u"}'), (1, '{"ts": "2024-06-01T10:05:00Z", "page_url": "/b", "user_id": "u"}'),
	(2, '{"event_time": "2024-06-01T10:12:00Z", "page_url": "/c", "user_id": "u"}'), (3, 'no JSON'), (4, '{"event_time": "2024-06-01T11:30:00Z", "page_url": "/a", "user_id": "u"}'),
	(5, '{"ts": "2024-06-01T11:31:00Z", "page_url": "/e", "user_id": "u"}'), (6, '{"ts": "2024-06-01T11:39:00Z", "page_url": "/f", "user_id": "u"}'),
	(7, '{"event_time": "2024-06-01T11:48:00Z", "page_url": "/g", "user_id": "u"}'),
	(8, '{"event_time": "2024-06-01T11:49:00Z", "page_url": "/h", "user_id": "u", "event_properties": {"id": "7"}}'), (9, '{"ts": "2024-06-01T11:49:00Z", "page_url": "/h", "user_id": "u", "event_properties": {"id": "7"}}');
SELECT count(clickstream.produce('s527', payload)) FROM (SELECT payload FROM message ORDER BY i) AS m;
SELECT count(clickstream.produce('s527good', replace(payload, '"ts"', '"event_time"'))) FROM (SELECT payload FROM message ORDER BY i) AS m;
CALL clickstream.process('s527');
CALL clickstream.process('s527good');
SELECT cause, letters FROM clickstream.dead_letter_cause WHERE stream = 's527' ORDER BY 1;
-- as they are they are dead again, and nothing has happened
SELECT * FROM clickstream.retry_dead_letters('s527');
SELECT consumed, used, dead, balanced FROM clickstream.audit('s527');
SELECT DISTINCT retried_at, outcome FROM clickstream.dead_letter WHERE stream = 's527';
-- mended badly they stay, with what they died of now
SELECT * FROM clickstream.retry_dead_letters('s527', $$message = 'no JSON' -- as it came$$, $$'{"event_time": "yesterday"}' -- worse$$);
SELECT message_offset, cause, error, sqlstate, encode(payload, 'escape') AS payload, outcome FROM clickstream.dead_letter WHERE stream = 's527' AND message_offset = 3;
SELECT * FROM clickstream.retry_dead_letters('s527', 'message_offset = 3');
-- in a transaction that rolls back neither
BEGIN;
SELECT count(*) FROM clickstream.retry_dead_letters('s527', fix => $$replace(message, '"ts"', '"event_time"')$$);
ROLLBACK;
SELECT consumed, used, dead, balanced FROM clickstream.audit('s527');
-- one, then the others: late for what is closed, in time for what is open; the copy is a duplicate
SELECT * FROM clickstream.retry_dead_letters('s527', $$cause = 'event_time missing'$$, $$message::jsonb || jsonb_build_object('event_time', message::jsonb -> 'ts')$$, max_rows => 1);
SELECT * FROM clickstream.retry_dead_letters('s527', $$cause = 'event_time missing'$$, $$replace(message, '"ts"', '"event_time"')$$);
-- once is enough
SELECT * FROM clickstream.retry_dead_letters('s527', $$cause = 'event_time missing'$$, $$replace(message, '"ts"', '"event_time"')$$);
SELECT message_offset, cause, retried_at, outcome FROM clickstream.dead_letter WHERE stream = 's527' ORDER BY 1;
SELECT cause, letters FROM clickstream.dead_letter_cause WHERE stream = 's527';
SELECT topic, consumed, used, late, duplicate, dead, balanced FROM clickstream.audit('s527');
SELECT repaired FROM clickstream.ledger WHERE stream = 's527';
SELECT definition, outcome, row_id, detail - 'arrived_at' AS detail FROM clickstream.explain_event('s527', 0, 1);
SELECT definition, outcome, row_id, detail->>'was_dead' AS was_dead FROM clickstream.explain_event('s527', 0, 5);
SELECT outcome, detail FROM clickstream.explain_event('s527', 0, 3);
SELECT message_offset, class FROM log ORDER BY 1;
-- what came too late is applied like any late event
SELECT message_offset, applied, reason FROM clickstream.apply_late('hours') UNION ALL SELECT message_offset, applied, reason FROM clickstream.apply_late('visits')
UNION ALL SELECT message_offset, applied, reason FROM clickstream.apply_late('ab');
-- the worker that runs the stream makes way, and goes on with what came of it
RESET clickstream.mock_clock;
SELECT clickstream.start('s527');
CALL clickstream.wait_for('s527', '5 minutes');
SELECT clickstream.produce('s527', '{"ts": "2024-06-01T11:50:00Z", "page_url": "/i", "user_id": "u"}') AS o;
CALL clickstream.wait_for('s527', '5 minutes');
SELECT * FROM clickstream.retry_dead_letters('s527', $$message LIKE '{%'$$, $$replace(message, '"ts"', '"event_time"')$$);
SELECT clickstream.produce('s527good', '{"event_time": "2024-06-01T11:50:00Z", "page_url": "/i", "user_id": "u"}') AS o;
CALL clickstream.wait_for('s527', '5 minutes');
CALL clickstream.finish('s527');
SELECT clickstream.stop('s527');
DO $$ BEGIN WHILE (SELECT pid FROM clickstream.stat_stream WHERE stream = 's527') IS NOT NULL LOOP PERFORM pg_sleep(0.01); END LOOP; END $$;
CALL clickstream.finish('s527good');
SELECT message_offset, applied, reason FROM clickstream.apply_late('visits');
-- as if they had been good when they came
CREATE FUNCTION differences(t text) RETURNS TABLE (n bigint, line text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('WITH a AS (SELECT replace((to_jsonb(r) - ''revision'' - ''closed_reason'')::text, ''s527/'', ''/'') AS line FROM t527.%1$I r),
		b AS (SELECT replace((to_jsonb(r) - ''revision'' - ''closed_reason'')::text, ''s527good/'', ''/'') AS line FROM good.%1$I r)
		SELECT 1::bigint, * FROM (TABLE a EXCEPT ALL TABLE b) x UNION ALL SELECT 2, * FROM (TABLE b EXCEPT ALL TABLE a) y ORDER BY 2, 1', t);
END
$$;
SELECT t, d.* FROM unnest('{hours,visits,starts,ab}'::text[]) t, differences(t) d;
SELECT page_url, events FROM hours ORDER BY 1;
SELECT t, v.* FROM unnest('{hours,visits,ab}'::regclass[]) t, clickstream.verify(t) v;
SELECT topic, consumed, used, late, duplicate, dead, balanced FROM clickstream.audit('s527');
SELECT clickstream.trim_letters('s527', '0 seconds') AS trimmed;
SELECT topic, dead, balanced FROM clickstream.audit('s527');
-- a definition that was made after the message was read does not see it
SELECT clickstream.reset('s527');
CALL clickstream.process('s527');
SELECT clickstream.create_window('younger', stream => 's527', size => '1 hour', measures => 'count(*) AS events');
SELECT outcome, count(*) FROM clickstream.retry_dead_letters('s527', $$message LIKE '{%'$$, $$replace(message, '"ts"', '"event_time"')$$) GROUP BY 1 ORDER BY 1;
CALL clickstream.finish('s527');
SELECT count(*) FROM younger;
SELECT topic, balanced FROM clickstream.audit('s527');
-- one that is filled with history meets it once: made before, or half through, or done
SELECT clickstream.reset('s527');
CALL clickstream.process('s527');
SELECT clickstream.create_window('filled', stream => 's527', size => '1 hour', measures => 'count(*) AS events', backfill => true);
SELECT outcome, count(*) FROM clickstream.retry_dead_letters('s527', $$message_offset = 5$$, $$replace(message, '"ts"', '"event_time"')$$) GROUP BY 1 ORDER BY 1;
SET clickstream.batch_messages = 1;
SELECT clickstream.produce('s527', '{"event_time": "2024-06-01T11:59:30Z", "page_url": "/j", "user_id": "v"}');
CALL clickstream.process('s527', 1);
SELECT definition, done FROM clickstream.stat_progress WHERE stream = 's527';
SELECT outcome, count(*) FROM clickstream.retry_dead_letters('s527', $$message_offset = 6$$, $$replace(message, '"ts"', '"event_time"')$$) GROUP BY 1 ORDER BY 1;
RESET clickstream.batch_messages;
CALL clickstream.process('s527');
SELECT count(*) FROM clickstream.stat_progress WHERE stream = 's527';
SELECT outcome, count(*) FROM clickstream.retry_dead_letters('s527', $$message LIKE '{%'$$, $$replace(message, '"ts"', '"event_time"')$$) GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM clickstream.apply_late('filled');
CALL clickstream.finish('s527');
SELECT window_start, events FROM filled ORDER BY 1;
SELECT window_start, sum(events) AS events FROM hours GROUP BY 1 ORDER BY 1;
SELECT t, v.* FROM unnest('{filled,visits}'::regclass[]) t, clickstream.verify(t) v;
SELECT topic, balanced FROM clickstream.audit('s527');
-- more than a chunk of them, in no order, some of whom one definition cannot use; bytes that are no text
SELECT clickstream.create_stream('m527') > 0 AS made;
SELECT clickstream.create_window('many', stream => 'm527', size => '1 hour', measures => 'count(*) AS events');
SELECT clickstream.create_window('shares', stream => 'm527', size => '1 hour', measures => $$sum(1000 / (event_properties->>'n')::int) AS share, count(*) AS events$$);
SELECT count(clickstream.produce('m527', format('{"ts": "2024-06-01T10:00:00Z", "event_properties": {"n": %s}}', i % 500), partition => i % 3)) FROM generate_series(1, 3000) AS i;
CALL clickstream.process('m527');
SELECT topic, partition, used, dead, balanced FROM clickstream.audit('m527') ORDER BY 2;
SELECT clickstream.message_text('\xff') IS NULL AS no_text, clickstream.message_text('\xc3a9') = U&'\00e9' AS text, clickstream.message_text('\x61000a') IS NULL AS no_text;
SELECT outcome, reason, count(*) FROM clickstream.retry_dead_letters('m527', fix => $$replace(message, '"ts"', '"event_time"')$$) GROUP BY 1, 2 ORDER BY 1;
SELECT definition, cause, sqlstate, letters FROM clickstream.dead_letter_cause WHERE stream = 'm527' ORDER BY 1 NULLS FIRST;
SELECT topic, partition, used, dead, balanced FROM clickstream.audit('m527') ORDER BY 2;
CALL clickstream.finish('m527');
SELECT m.events, s.events, s.share FROM many m, shares s;
-- who calls it with a number twice gets it once
SELECT clickstream.produce('m527', 'x', partition => 0) IS NOT NULL AS produced;
CALL clickstream.process('m527');
SELECT r.outcome FROM (SELECT max(dead_letter_id) AS id FROM clickstream.dead_letter WHERE stream = 'm527') l,
	clickstream.retry_letters('m527', ARRAY[l.id, l.id], ARRAY['{"event_time": "2024-06-01T10:00:00Z"}', NULL]) r;
SELECT sum(late) AS late, sum(dead) AS dead, bool_and(balanced) AS balanced FROM clickstream.audit('m527');
SELECT clickstream.drop_stream('m527');
-- what cannot be done
SELECT * FROM clickstream.retry_dead_letters('nobody');
SELECT * FROM clickstream.retry_dead_letters(NULL);
SELECT * FROM clickstream.retry_dead_letters('s527', 'no_column = 1');
CREATE ROLE t527_other IN ROLE clickstream_admin;
SET ROLE t527_other;
SELECT * FROM clickstream.retry_dead_letters('s527');
RESET ROLE;
DROP ROLE t527_other;
SELECT clickstream.drop_stream('s527');
SELECT clickstream.drop_stream('s527good');
DROP SCHEMA t527, good CASCADE;
