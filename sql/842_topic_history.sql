-- A definition made with backfill => true on a stream without an event log reads the topic itself again: it has what it would have
-- if it had been there from the beginning.  Random streams; one partition with late events, where the order is the same again, and
-- three without.  Another seed: CLICKSTREAM_SEED=… in the environment.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 842
\endif
\echo seed :seed
CREATE SCHEMA t842;
SET search_path = t842;
SELECT setseed(:seed / 1000000.0);
CREATE TABLE late_visits AS SELECT * FROM test.random_visits(90, interval '12 hours', 40);
CREATE TABLE visits_in_time AS SELECT * FROM test.random_visits(90, interval '12 hours', 40, late => false);
UPDATE visits_in_time SET id = i; -- which copy is the first would depend on which partition is read first
CREATE VIEW event AS SELECT * FROM late_visits WHERE current_setting('t842.partitions') = '1'
	UNION ALL SELECT * FROM visits_in_time WHERE current_setting('t842.partitions') <> '1';
CREATE TABLE outcome (partitions int, size int, at text, t text, differs bigint);
-- with a limit of groups it counts which partition is read first, too
CREATE FUNCTION tables(parts int) RETURNS SETOF text LANGUAGE sql AS $$ SELECT t FROM test.visits_tables() t WHERE parts = 1 OR t <> 'crowded' $$;
CREATE PROCEDURE run(parts int, size int) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('t842.partitions', parts::text, false);
	PERFORM set_config('clickstream.batch_messages', size::text, false);
	PERFORM test.create_visits_stream('s842');
	PERFORM test.define_visits('s842', '');
	PERFORM test.produce_visits('s842', 0, 4, parts);
	PERFORM clickstream.produce('s842', '{"broken', message_timestamp => now());
	PERFORM clickstream.produce('s842', NULL);
	PERFORM test.produce_visits('s842', 1, 4, parts);
	COMMIT;
	CALL clickstream.process('s842');
	PERFORM test.define_visits('s842', '_filled', true);
	INSERT INTO outcome SELECT parts, size, 'not begun', definition::text, num_nulls(todo, gone, begun_at) - 3 FROM clickstream.stat_progress WHERE source = 'topic';
	-- some live messages, while history goes through
	PERFORM test.produce_visits('s842', 2, 4, parts);
	COMMIT;
	CALL clickstream.process('s842', 3);
	INSERT INTO outcome SELECT parts, size, 'fills', source, least(done, 1) FROM clickstream.stat_progress WHERE size = 1 AND done > 0 AND todo > 0 AND gone = 0 AND per_second > 0 AND expected_end > begun_at;
	CALL clickstream.process('s842');
	INSERT INTO outcome SELECT parts, size, 'joined', t, test.differences(t::regclass, (t || '_filled')::regclass) FROM tables(parts) t;
	INSERT INTO outcome SELECT parts, size, 'progress', 'none', (SELECT count(*) FROM clickstream.stat_progress) + (SELECT count(*) FROM clickstream.backfill_partition);
	PERFORM test.produce_visits('s842', 3, 4, parts);
	COMMIT;
	CALL clickstream.process('s842');
	INSERT INTO outcome SELECT parts, size, 'later', t, test.differences(t::regclass, (t || '_filled')::regclass) FROM tables(parts) t;
	INSERT INTO outcome SELECT parts, size, 'counts', t, (SELECT count(DISTINCT (used, late, dead, without_key)) - 1 FROM clickstream.stat_definition
		WHERE definition::text IN (t, t || '_filled')) FROM tables(parts) t;
	INSERT INTO outcome SELECT parts, size, 'late', 'payloads', count(*) FROM clickstream.late_event WHERE payload IS NULL;
	PERFORM clickstream.audit('s842');
	CALL clickstream.finish('s842');
	INSERT INTO outcome SELECT parts, size, 'finished', t, test.differences(t::regclass, (t || '_filled')::regclass) FROM tables(parts) t;
END
$$;
CALL run(1, 1000);
SELECT bool_or(duplicate > 0) AS duplicate, bool_or(filtered > 0) AS filtered, sum(dead) AS dead, sum(empty) AS empty FROM clickstream.ledger WHERE stream = 's842';
SELECT count(*) > 0 AS late FROM clickstream.late_event WHERE definition = 'visits_filled'::regclass;
SELECT count(*) > 0 AS dead, count(DISTINCT definition) FROM clickstream.dead_letter WHERE definition IN ('cut'::regclass, 'cut_filled'::regclass);
SELECT clickstream.drop_stream('s842');
CALL run(1, 7);
SELECT clickstream.drop_stream('s842');
CALL run(1, 1);
SELECT clickstream.drop_stream('s842');
CALL run(3, 1000);
SELECT clickstream.drop_stream('s842');
CALL run(3, 7);
SELECT clickstream.drop_stream('s842');
SELECT at, count(*), sum(differs) FROM outcome GROUP BY 1 ORDER BY 1;
SELECT * FROM outcome WHERE differs > 0 AND at <> 'fills';
RESET clickstream.batch_messages;
RESET client_min_messages;
-- what retention has deleted is said; broken messages from before the stream's beginning are the definition's, none is there twice
SELECT clickstream.create_stream('r842', watermark_delay => '0', start_from => 'latest') > 0 AS made;
SELECT test.feed('r842', E'a 0:00 /a\nb 0:01 /a\nc 0:02 /a\nd 0:03 /a raw={"broken');
CALL clickstream.process('r842');
SELECT test.feed('r842', E'e 0:04 /a raw={"broken too\nf 0:05 /a part=1');
SELECT clickstream.create_session('early', stream => 'r842', gap => '10 minutes', measures => 'count(*) AS n', backfill => true);
CALL clickstream.process('r842');
SELECT session_id, closed_reason FROM early_live ORDER BY 1;
SELECT definition, topic, partition, message_offset, error FROM clickstream.dead_letter WHERE stream = 'r842' ORDER BY 4, 1;
SELECT partition, since_offset, used, dead FROM clickstream.stat_definition_partition WHERE definition = 'early'::regclass ORDER BY 1;
SELECT clickstream.audit('r842') IS NOT NULL AS audited;
UPDATE clickstream.local_partition SET first_offset = 2 WHERE partition = 0 AND stream_id = (SELECT stream_id FROM clickstream.stream WHERE name = 'r842');
DELETE FROM clickstream.local_message WHERE partition = 0 AND message_offset < 2 AND stream_id = (SELECT stream_id FROM clickstream.stream WHERE name = 'r842');
SELECT clickstream.create_session('rest', stream => 'r842', gap => '10 minutes', measures => 'count(*) AS n', backfill => true);
CALL clickstream.process('r842');
SELECT session_id, closed_reason FROM rest_live ORDER BY 1;
SELECT partition, since_offset, used, dead FROM clickstream.stat_definition_partition WHERE definition = 'rest'::regclass ORDER BY 1;
-- it is quicker than history: counted, and nothing stops
SELECT test.feed('r842', (SELECT string_agg(format('v%s 0:06 /a', i), E'\n') FROM generate_series(1, 20) i));
CALL clickstream.process('r842');
SELECT clickstream.create_session('rest2', stream => 'r842', gap => '10 minutes', measures => 'count(*) AS n', backfill => true);
SELECT test.feed('r842', E'w1 0:07 /a\nw2 0:07 /a\nw3 0:07 /a');
SET clickstream.batch_messages = 1;
CALL clickstream.process('r842', 1);
SELECT source, done, gone FROM clickstream.stat_progress;
UPDATE clickstream.local_partition SET first_offset = 11 WHERE partition = 0 AND stream_id = (SELECT stream_id FROM clickstream.stream WHERE name = 'r842');
DELETE FROM clickstream.local_message WHERE partition = 0 AND message_offset < 11 AND stream_id = (SELECT stream_id FROM clickstream.stream WHERE name = 'r842');
CALL clickstream.process('r842', 1);
SELECT source, gone FROM clickstream.stat_progress;
CALL clickstream.process('r842');
SELECT count(*), min(effective_user_id), max(effective_user_id) FROM rest2_live;
RESET clickstream.batch_messages;
SELECT clickstream.drop_stream('r842');
-- what seek() and skip_message() have passed over no history takes; also meanwhile, and with an event log
SELECT clickstream.create_stream('k842', watermark_delay => '0', on_error => 'stop') > 0 AS made;
SELECT clickstream.create_window('hours', stream => 'k842', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n');
SELECT test.feed('k842', (SELECT string_agg(format('v%s 0:%s /a', i, i), E'\n') FROM generate_series(0, 19) i));
CALL clickstream.process('k842', 5);
SELECT clickstream.seek('k842', 0, 8) AS passed_over;
CALL clickstream.process('k842');
SET clickstream.batch_messages = 1;
SELECT clickstream.create_window('hours_filled', stream => 'k842', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n', backfill => true);
SELECT test.feed('k842', E'w1 0:30 /a\nw2 0:31 /a\nw3 0:32 /a raw={"broken\nw4 0:33 /a\nw5 0:34 /a\nw6 0:35 /a');
CALL clickstream.process('k842', 1);
SELECT done > 0 AS done, todo > 0 AS todo FROM clickstream.stat_progress;
CALL clickstream.process('k842');
SELECT clickstream.skip_message('k842', 0, 22);
SELECT clickstream.seek('k842', 0, 24) AS passed_over;
CALL clickstream.process('k842');
SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM hours_filled_live;
SELECT test.differences('hours', 'hours_filled'), test.differences('hours_live', 'hours_filled_live');
SELECT first_offset, next_offset FROM clickstream.passed_over ORDER BY 1;
SELECT skipped, consumed, balanced FROM clickstream.ledger WHERE stream = 'k842';
RESET clickstream.batch_messages;
SELECT clickstream.drop_stream('k842');
SELECT count(*) FROM clickstream.passed_over;
-- dead letters that are retried while history goes through: what it has passed, what it is yet to meet, what is only broken as it stands
SELECT clickstream.create_stream('d842', watermark_delay => '1 hour') > 0 AS made;
SELECT clickstream.create_window('d_hours', stream => 'd842', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n');
SELECT test.feed('d842', E'a 0:00 /a\nb 0:01 /a raw={"ts": "2024-06-01T00:01:00Z", "user_id": "b"}\n' || (SELECT string_agg(format('v%s 0:%s /a', i, i), E'\n') FROM generate_series(2, 9) i)
	|| E'\nc 0:10 /a raw={"ts": "2024-06-01T00:10:00Z", "user_id": "c"}\nd 0:11 /a');
CALL clickstream.process('d842');
SET clickstream.batch_messages = 1;
SELECT clickstream.create_window('d_hours_filled', stream => 'd842', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n', backfill => true);
SELECT test.feed('d842', E'e 0:12 /a\nf 0:12 /a');
CALL clickstream.process('d842', 1);
SELECT done, todo FROM clickstream.stat_progress;
SELECT outcome, count(*) FROM clickstream.retry_dead_letters('d842', fix => $$replace(message, '"ts"', '"event_time"')$$) GROUP BY 1;
SELECT first_offset, definition_id > 0 AS ones FROM clickstream.passed_over;
CALL clickstream.process('d842');
SELECT count(*) FROM clickstream.passed_over;
SELECT test.differences('d_hours', 'd_hours_filled'), test.differences('d_hours_live', 'd_hours_filled_live'), (SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM d_hours_filled_live);
SELECT used, dead FROM clickstream.stat_definition WHERE definition = 'd_hours_filled'::regclass;
SELECT clickstream.audit('d842') IS NOT NULL AS audited;
RESET clickstream.batch_messages;
SELECT clickstream.drop_stream('d842');
SELECT clickstream.create_stream('l842', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 'l842');
SELECT test.feed('l842', (SELECT string_agg(format('v%s 0:%s /a', i, i), E'\n') FROM generate_series(0, 19) i));
CALL clickstream.process('l842', 15);
SET clickstream.batch_messages = 1;
SELECT clickstream.create_window('logged', stream => 'l842', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n', backfill => true);
CALL clickstream.process('l842', 1);
SELECT clickstream.seek('l842', 0, 18) AS passed_over;
CALL clickstream.process('l842');
SELECT count(*), bool_or(user_id IN ('v16', 'v17')) AS passed FROM logged_live;
RESET clickstream.batch_messages;
-- reset() reads all again, for all; a stream that was finished; a definition that goes in the middle
SELECT clickstream.drop_event_log('log');
SELECT clickstream.create_session('once', stream => 'l842', gap => '10 minutes', measures => 'count(*) AS n', backfill => true);
SELECT clickstream.reset('l842');
SELECT count(*) FROM clickstream.stat_progress;
CALL clickstream.finish('l842');
SELECT count(*), sum(n), min(closed_reason) FROM once;
SELECT clickstream.create_session('twice', stream => 'l842', gap => '10 minutes', measures => 'count(*) AS n', backfill => true);
SELECT clickstream.create_rollup('twice_hours', source => 'twice', size => '1 hour', measures => 'count(*) AS n', backfill => true);
CALL clickstream.process('l842');
SELECT test.differences('once', 'twice');
SELECT n, is_final FROM twice_hours;
SELECT clickstream.create_session('gone', stream => 'l842', gap => '10 minutes', measures => 'count(*) AS n', backfill => true);
SELECT clickstream.drop_session('gone');
CALL clickstream.process('l842');
SELECT (SELECT count(*) FROM clickstream.backfill), (SELECT count(*) FROM clickstream.backfill_partition);
SELECT clickstream.drop_stream('l842');
DROP SCHEMA t842 CASCADE;
