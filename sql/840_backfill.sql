-- A definition made with backfill => true has what it would have if it had been there from the beginning: random streams with
-- late events, duplicates and filtered events, three partitions, batches of 1, 7 and 1000.
-- Another seed: CLICKSTREAM_SEED=… in the environment.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 840
\endif
\echo seed :seed
CREATE SCHEMA t840;
SET search_path = t840;
SELECT setseed(:seed / 1000000.0);
CREATE TABLE event AS SELECT * FROM test.random_visits(90, interval '12 hours', 40);
CREATE TABLE kind (t text);
INSERT INTO kind SELECT test.visits_tables() UNION ALL SELECT 'ready';
CREATE FUNCTION differences(t text) RETURNS bigint LANGUAGE sql AS $$ SELECT test.differences(t::regclass, (t || '_filled')::regclass) $$;
CREATE PROCEDURE make(suffix text, backfill boolean) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM test.define_visits('s840', suffix, backfill);
	-- over a source that is complete; the others' are being filled themselves
	PERFORM clickstream.create_rollup('ready' || suffix, source => 'visits', backfill => backfill, size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events');
END
$$;
CREATE TABLE outcome (size int, at text, t text, differs bigint);
CREATE PROCEDURE run(size int) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM test.create_visits_stream('s840');
	PERFORM clickstream.create_event_log('log', stream => 's840');
	CALL make('', false);
	PERFORM set_config('clickstream.batch_messages', size::text, false);
	PERFORM test.produce_visits('s840', 0, 4);
	PERFORM test.produce_visits('s840', 1, 4);
	COMMIT;
	CALL clickstream.process('s840');
	CALL make('_filled', true);
	COMMIT;
	-- some live messages, while history goes through
	PERFORM test.produce_visits('s840', 2, 4);
	COMMIT;
	CALL clickstream.process('s840', 3);
	INSERT INTO outcome SELECT size, 'fills', definition::text, least(done, 1) FROM clickstream.stat_progress WHERE size = 1 AND todo > 0;
	CALL clickstream.process('s840');
	INSERT INTO outcome SELECT size, 'joined', t, differences(t) FROM kind;
	INSERT INTO outcome SELECT size, 'progress', 'none', count(*) FROM clickstream.stat_progress;
	PERFORM test.produce_visits('s840', 3, 4);
	COMMIT;
	CALL clickstream.process('s840');
	INSERT INTO outcome SELECT size, 'later', t, differences(t) FROM kind;
	INSERT INTO outcome SELECT size, 'counts', t, (SELECT count(DISTINCT (used, late, dead, without_key)) - 1 FROM clickstream.stat_definition
		WHERE definition::text IN (t, t || '_filled')) FROM kind;
	INSERT INTO outcome SELECT size, 'letters', 'all', count(*) - 26 FROM clickstream.stat_definition WHERE stream = 's840' AND kind <> 'event log';
	PERFORM clickstream.audit('s840');
	CALL clickstream.finish('s840');
	INSERT INTO outcome SELECT size, 'finished', t, differences(t) FROM kind;
	INSERT INTO outcome SELECT size, 'verify', t, (SELECT count(*) FROM clickstream.verify((t || '_filled')::regclass)) FROM kind;
END
$$;
CALL run(1000);
SELECT clickstream.drop_stream('s840');
CALL run(7);
SELECT clickstream.drop_stream('s840');
CALL run(1);
SELECT at, count(*), sum(differs) FROM outcome GROUP BY 1 ORDER BY 1;
SELECT * FROM outcome WHERE differs > 0 AND at <> 'fills';
SELECT bool_or(duplicate > 0) AS duplicate, bool_or(filtered > 0) AS filtered FROM clickstream.ledger WHERE stream = 's840';
SELECT count(*) > 0 AS late FROM clickstream.late_event WHERE definition = 'visits_filled'::regclass;
SELECT count(*) > 0 AS dead, count(DISTINCT definition) FROM clickstream.dead_letter WHERE definition IN ('cut'::regclass, 'cut_filled'::regclass);
SELECT clickstream.drop_stream('s840');
-- While it is being filled it is not altered, but what its rows do not depend on is; and the log may not be another one.
RESET clickstream.batch_messages;
SELECT clickstream.create_stream('f840', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_event_log('history', stream => 'f840');
SELECT clickstream.create_session('before', stream => 'f840', gap => '10 minutes', measures => 'count(*) AS n');
SELECT test.feed('f840', E'a 0:00 /a\na 1:00 /a\na 2:00 /a');
CALL clickstream.process('f840');
SELECT clickstream.create_session('after', stream => 'f840', gap => '10 minutes', measures => 'count(*) AS n', backfill => true);
SELECT clickstream.create_window('hours', stream => 'f840', size => '1 hour', measures => 'count(*) AS n', backfill => true);
SELECT clickstream.create_rollup('days', source => 'before', size => '1 day', measures => 'count(*) AS n', backfill => true);
SELECT clickstream.alter_session('after', allowed_lateness => '1 hour');
SELECT clickstream.alter_window('hours', emit_interval => '1 s');
SELECT clickstream.alter_rollup('days', emit_interval => '1 s');
SELECT clickstream.set_retention('after', '3650 days'), clickstream.notify_changes('after', NULL);
SELECT clickstream.alter_session('before', allowed_lateness => '1 hour');
DROP TABLE history;
SELECT clickstream.create_event_log('history', stream => 'f840');
CALL clickstream.process('f840');
SELECT clickstream.drop_session('after');
SELECT clickstream.drop_window('hours');
CALL clickstream.process('f840');
SELECT clickstream.alter_rollup('days', emit_interval => '1 s');
SELECT clickstream.drop_stream('f840');
DROP SCHEMA t840 CASCADE;
