-- backfill_from: history that begins with the first message of a time.  From the event log it is what a definition has that was made
-- then, from the topic what a stream has that began then.  Random streams.  Another seed: CLICKSTREAM_SEED=… in the environment.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 846
\endif
\echo seed :seed
CREATE SCHEMA t846;
SET search_path = t846;
SELECT setseed(:seed / 1000000.0);
CREATE TABLE late_visits AS SELECT * FROM test.random_visits(60, interval '12 hours', 40);
CREATE TABLE visits_in_time AS SELECT * FROM test.random_visits(60, interval '12 hours', 40, late => false);
UPDATE visits_in_time SET id = i; -- which copy is the first would depend on which partition is read first
CREATE VIEW event AS SELECT * FROM late_visits WHERE current_setting('t846.partitions') = '1'
	UNION ALL SELECT * FROM visits_in_time WHERE current_setting('t846.partitions') <> '1';
-- Each message was sent a second after the last one.  Where history is read from the topic none is a duplicate: of one whose first copy
-- is from before that time a stream that began then knows nothing.
CREATE FUNCTION sent(i bigint) RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2024-07-01 00:00+00'::timestamptz + i * interval '1 second' $$;
CREATE FUNCTION cut() RETURNS bigint LANGUAGE sql AS $$ SELECT max(i) * 2 / 5 FROM event $$;
CREATE FUNCTION send(stream text, since bigint, upto bigint) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(clickstream.produce(stream, (to_jsonb(e) - '{i,v,k,id}'::text[] || jsonb_build_object('event_properties', jsonb_build_object('id',
		CASE current_setting('t846.source') WHEN 'topic' THEN i::text ELSE id END)))::text, partition => (i % current_setting('t846.partitions')::int)::int, message_timestamp => sent(i)))
	FROM (SELECT * FROM event WHERE i >= since AND i < upto ORDER BY i) AS e $$;
-- as test.differences(), of streams whose local topics have their names
CREATE FUNCTION differences(one regclass, other regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('WITH a AS (SELECT replace((to_jsonb(r) - ''revision'')::text, ''r846/'', ''s846/'') AS line FROM %s r), b AS (SELECT (to_jsonb(r) - ''revision'')::text AS line FROM %s r)
		SELECT count(*) FROM ((TABLE a EXCEPT ALL TABLE b) UNION ALL (TABLE b EXCEPT ALL TABLE a)) x', one, other) INTO n;
	RETURN n;
END
$$;
CREATE TABLE outcome (source text, partitions int, size int, at text, t text, differs bigint);
-- with a limit of groups it counts which partition is read first, too
CREATE FUNCTION tables() RETURNS SETOF text LANGUAGE sql AS $$ SELECT t FROM test.visits_tables() t WHERE current_setting('t846.partitions') = '1' OR t <> 'crowded' $$;
CREATE PROCEDURE compare(source text, at text) LANGUAGE sql AS $$
	INSERT INTO outcome SELECT source, current_setting('t846.partitions')::int, current_setting('clickstream.batch_messages')::int, at, t, differences(t::regclass, (t || '_filled')::regclass) FROM tables() t $$;
CREATE PROCEDURE counts(source text) LANGUAGE sql AS $$
	INSERT INTO outcome SELECT source, current_setting('t846.partitions')::int, current_setting('clickstream.batch_messages')::int, 'counts', t, (SELECT count(DISTINCT (used, late, dead, without_key)) - 1
		FROM clickstream.stat_definition WHERE definition::text IN (t, t || '_filled')) FROM tables() t $$;
-- a definition that was made in the middle, and one that is filled from there
CREATE PROCEDURE from_log(parts int, size int) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('t846.source', 'log', false);
	PERFORM set_config('t846.partitions', parts::text, false);
	PERFORM set_config('clickstream.batch_messages', size::text, false);
	PERFORM test.create_visits_stream('s846');
	PERFORM clickstream.create_event_log('log', stream => 's846');
	PERFORM send('s846', 0, cut());
	COMMIT;
	CALL clickstream.process('s846');
	PERFORM test.define_visits('s846', '');
	PERFORM send('s846', cut(), 2 * cut());
	COMMIT;
	CALL clickstream.process('s846');
	PERFORM test.define_visits('s846', '_filled', true, sent(cut()));
	PERFORM send('s846', 2 * cut(), 10 * cut());
	COMMIT;
	CALL clickstream.process('s846', 3);
	INSERT INTO outcome SELECT 'log', parts, size, 'fills', source, least(todo, 1) FROM clickstream.stat_progress WHERE todo > 0 AND source <> 'table' AND begun_at IS NOT NULL;
	CALL clickstream.process('s846');
	CALL compare('log', 'joined');
	CALL counts('log');
	PERFORM clickstream.audit('s846');
	CALL clickstream.finish('s846');
	CALL compare('log', 'finished');
	INSERT INTO outcome SELECT 'log', parts, size, 'verify', t, (SELECT count(*) FROM clickstream.verify((t || '_filled')::regclass)) FROM tables() t;
	PERFORM clickstream.drop_stream('s846');
END
$$;
-- a stream that began in the middle, and a definition of another one that is filled from there
CREATE PROCEDURE from_topic(parts int, size int) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('t846.source', 'topic', false);
	PERFORM set_config('t846.partitions', parts::text, false);
	PERFORM set_config('clickstream.batch_messages', size::text, false);
	PERFORM test.create_visits_stream('s846');
	PERFORM test.create_visits_stream('r846');
	PERFORM clickstream.reset('r846', 'timestamp', start_time => sent(cut()));
	PERFORM test.define_visits('r846', '');
	PERFORM send(s, 0, 2 * cut()) FROM unnest('{s846,r846}'::text[]) s;
	COMMIT;
	CALL clickstream.process('s846');
	CALL clickstream.process('r846');
	PERFORM test.define_visits('s846', '_filled', true, sent(cut()));
	PERFORM send(s, 2 * cut(), 10 * cut()) FROM unnest('{s846,r846}'::text[]) s;
	COMMIT;
	CALL clickstream.process('s846', 3);
	INSERT INTO outcome SELECT 'topic', parts, size, 'fills', source, least(todo, 1) FROM clickstream.stat_progress WHERE todo > 0 AND gone = 0;
	CALL clickstream.process('s846');
	CALL clickstream.process('r846');
	CALL compare('topic', 'joined');
	CALL counts('topic');
	PERFORM clickstream.audit('s846');
	CALL clickstream.finish('s846');
	CALL clickstream.finish('r846');
	CALL compare('topic', 'finished');
	PERFORM clickstream.drop_stream('s846');
	PERFORM clickstream.drop_stream('r846');
END
$$;
CALL from_log(3, 7);
CALL from_log(1, 1000);
CALL from_topic(1, 7);
CALL from_topic(3, 1000);
SELECT source, at, max(differs) FROM outcome GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM outcome WHERE differs > 0 AND at <> 'fills';
RESET clickstream.batch_messages;
-- before all, behind all, in the middle; what retention has deleted before that is no loss, what it has behind may be one
SELECT clickstream.create_stream('b846', watermark_delay => '1 hour') > 0 AS made;
CREATE FUNCTION hours(name text, since timestamptz DEFAULT NULL, backfill boolean DEFAULT true) RETURNS void LANGUAGE sql AS $$
	SELECT clickstream.create_window(name, stream => 'b846', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n', backfill => backfill, backfill_from => since) $$;
CREATE FUNCTION sent(at text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2024-06-01 00:00+00'::timestamptz + at::interval $$;
CREATE VIEW has AS SELECT definition, since_offset, used, late, dead FROM clickstream.stat_definition_partition
	WHERE definition IN (SELECT oid FROM pg_class WHERE relnamespace = 't846'::regnamespace) ORDER BY 1;
SELECT hours('live', backfill => false);
SELECT test.feed('b846', (SELECT string_agg(format('v%s 0:0%1$s /a', i) || CASE WHEN i IN (2, 7) THEN format(' raw={"ts": "2024-06-01T00:0%1$s:00Z", "user_id": "v%1$s"}', i) ELSE '' END, E'\n') FROM generate_series(0, 9) i));
CALL clickstream.process('b846');
SELECT clickstream.alter_stream('b846', mapping => '{"event_time": ["/event_time", "/ts"]}');
SELECT hours('before_all', '2020-01-01');
SELECT hours('behind_all', '2030-01-01');
SELECT hours('between', sent('0:04:30'));
-- a letter that is retried before history has begun: its time decides
SELECT message_offset, outcome FROM clickstream.retry_dead_letters('b846');
SELECT definition::regclass, first_offset FROM clickstream.passed_over p JOIN (SELECT table_oid AS definition, definition_id FROM clickstream.definition) d USING (definition_id) ORDER BY 1, 2;
CALL clickstream.process('b846');
TABLE has;
SELECT string_agg(user_id || n, ' ' ORDER BY user_id) FROM between_live;
SELECT test.differences('live_live', 'before_all_live');
SELECT test.feed('b846', E'w 0:10 /a\nx 0:11 /a');
CALL clickstream.process('b846');
SELECT string_agg(user_id || n, ' ' ORDER BY user_id) FROM behind_all_live;
UPDATE clickstream.local_partition SET first_offset = 3 WHERE stream_id = (SELECT stream_id FROM clickstream.stream WHERE name = 'b846');
DELETE FROM clickstream.local_message WHERE message_offset < 3 AND stream_id = (SELECT stream_id FROM clickstream.stream WHERE name = 'b846');
SET client_min_messages = notice;
SELECT hours('nothing_lost', sent('0:05'));
SELECT hours('something_lost', sent('0:01'));
CALL clickstream.process('b846');
SELECT * FROM has WHERE definition::text LIKE '%lost';
-- the same from a log that is there by then
SELECT clickstream.create_event_log('late_log', stream => 'b846');
SELECT test.feed('b846', E'y 0:12 /a\nz 0:13 /a');
CALL clickstream.process('b846');
SELECT hours('of_log', sent('0:12:30'));
SELECT hours('of_log_all', sent('0:01'));
SELECT hours('of_log_none', '2030-01-01');
CALL clickstream.process('b846');
SELECT * FROM has WHERE definition::text LIKE 'of_log%';
SELECT clickstream.audit('b846') IS NOT NULL AS audited;
-- What is logged while a definition waits for a closing that was under way when it was made: it begins behind what is of an earlier
-- time.  Sessions close one at a time, and a message is read with each.
SELECT clickstream.create_stream('w846', watermark_delay => '0', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_event_log('waited_log', stream => 'w846');
SELECT clickstream.create_session('visits', stream => 'w846', gap => '10 minutes');
SELECT test.feed('w846', (SELECT string_agg(format('v%s 0:00 /a', i), E'\n') FROM generate_series(0, 19) i) || E'\nx 1:00 /a');
SET clickstream.force_closings = 1;
CALL clickstream.process('w846', 21);
SELECT closed IS DISTINCT FROM watermark AS closes FROM clickstream.progress JOIN clickstream.stream USING (stream_id) WHERE name = 'w846';
SELECT clickstream.create_window(name, stream => 'w846', size => '10 minutes', group_by => 'user_id', measures => 'count(*) AS n', backfill => true, backfill_from => since)
FROM (VALUES ('waited_all', NULL), ('waited_between', sent('1:03')), ('waited_none', '2030-01-01')) AS v (name, since);
SELECT test.feed('w846', (SELECT string_agg(format('w%s 1:0%1$s /a part=%s', i, i / 2 % 2), E'\n') FROM generate_series(1, 5) i));
CALL clickstream.process('w846', 5);
SELECT closed IS DISTINCT FROM watermark AS closes, bool_or(p.next_offset > 21) AS has_read FROM clickstream.progress JOIN clickstream.stream AS s USING (stream_id)
	JOIN clickstream.partition AS p USING (stream_id) WHERE s.name = 'w846' GROUP BY 1;
RESET clickstream.force_closings;
CALL clickstream.process('w846');
SELECT test.feed('w846', 'z 1:30 /a');
CALL clickstream.process('w846');
SELECT definition, partition, since_offset, used FROM clickstream.stat_definition_partition WHERE definition::text ~ '^waited_(all|between|none)$' ORDER BY 1, 2;
CALL clickstream.finish('w846');
SELECT t, v.* FROM unnest('{waited_all,waited_between,waited_none}'::regclass[]) AS t, clickstream.verify(t) AS v;
SELECT clickstream.audit('w846') IS NOT NULL AS audited;
SELECT clickstream.drop_stream('w846');
-- what is refused
SELECT hours('refused', '2024-06-01', backfill => false);
SELECT hours('refused', 'infinity');
SELECT hours('refused', '-infinity');
SELECT clickstream.create_session('refused', stream => 'b846', backfill_from => '2024-06-01');
SELECT clickstream.create_funnel('refused', stream => 'b846', within => '1 hour', steps => ARRAY[clickstream.step('a', 'true'), clickstream.step('b', 'true')], backfill_from => '2024-06-01');
SELECT to_regclass('refused') IS NULL AS nothing_made;
SET client_min_messages = warning;
SELECT clickstream.drop_stream('b846');
DROP SCHEMA t846 CASCADE;
