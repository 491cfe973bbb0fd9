-- Windows with allowed_lateness that the watermark passes twice in one transaction: rows that the first time has written are not
-- looked at as late events the second time.  In verify() after finish(), in a definition that is filled with history, in a repair.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t849;
SET search_path = t849;
-- verify(): what the content has closed, then what finish() has
SELECT clickstream.create_stream('s849', watermark_delay => '1 minute') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's849');
SELECT clickstream.create_window('minutes', stream => 's849', size => '1 minute', allowed_lateness => '1 hour', emit => 'closed', measures => 'count(*) AS n');
SELECT test.feed('s849', E'a 0:00:10 /\nb 0:02:30 /');
CALL clickstream.process('s849');
CALL clickstream.finish('s849');
SELECT test.at(window_start) AS start, n, is_final FROM minutes ORDER BY 1;
SELECT * FROM clickstream.verify('minutes');
SELECT clickstream.drop_stream('s849');
-- History of some transactions, and of some pieces in each, as each message was a transaction of the log: windows close
-- in one of them whose groups an earlier one has left.
-- Some events come late, and some too late.
CREATE TABLE event AS
SELECT i, 'u' || i % 30 AS user_id, '2024-06-01 00:00+00'::timestamptz + i * interval '10 seconds'
	- CASE WHEN i % 23 = 0 THEN interval '20 minutes' WHEN i % 29 = 0 THEN interval '50 minutes' ELSE '0' END AS event_time
FROM generate_series(300, 600) AS i;
CREATE FUNCTION feed(since int, upto int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(clickstream.produce('s849', (to_jsonb(e) - 'i')::text, message_timestamp => e.event_time)) FROM (SELECT * FROM event WHERE i BETWEEN since AND upto ORDER BY i) AS e $$;
CREATE FUNCTION define(suffix text DEFAULT '', backfill boolean DEFAULT false) RETURNS void LANGUAGE sql AS $$
	SELECT clickstream.create_window('of_all' || suffix, stream => 's849', size => '5 minutes', allowed_lateness => '30 minutes', measures => 'count(*) AS n', backfill => backfill);
	SELECT clickstream.create_window('of_users' || suffix, stream => 's849', size => '5 minutes', group_by => 'user_id', allowed_lateness => '30 minutes',
		measures => 'count(*) AS n', backfill => backfill);
	SELECT clickstream.create_window('closed' || suffix, stream => 's849', size => '5 minutes', group_by => 'user_id', allowed_lateness => '30 minutes', emit => 'closed',
		measures => 'count(*) AS n', backfill => backfill);
	SELECT clickstream.create_window('steps' || suffix, stream => 's849', size => '1 hour', step => '5 minutes', allowed_lateness => '30 minutes', measures => 'count(*) AS n', backfill => backfill) $$;
-- plain SQL: what the watermark, a minute behind, had not passed 30 minutes ago
CREATE VIEW plain AS
SELECT date_bin('5 minutes', event_time, '2024-06-01') AS window_start, user_id, count(*) AS n
FROM (SELECT *, max(event_time) OVER (ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - interval '1 minute' AS watermark FROM event) AS e
WHERE watermark IS NULL OR watermark - interval '30 minutes' < date_bin('5 minutes', event_time, '2024-06-01') + interval '4 minutes 59.999 seconds'
GROUP BY 1, 2;
CREATE FUNCTION compare() RETURNS TABLE (name text, windows bigint, differ bigint) LANGUAGE plpgsql AS $$
BEGIN
	FOREACH name IN ARRAY '{of_all,of_users,closed,steps}'::text[] LOOP
		EXECUTE format('SELECT count(DISTINCT window_start) FROM %I', name || '_filled') INTO windows;
		differ := test.differences(name::regclass, (name || '_filled')::regclass);
		RETURN NEXT;
	END LOOP;
	name := 'plain SQL';
	SELECT count(DISTINCT window_start) INTO windows FROM plain;
	SELECT count(*) INTO differ FROM (SELECT window_start, user_id, n FROM closed_filled) AS f FULL JOIN plain AS p USING (window_start, user_id) WHERE f.n IS DISTINCT FROM p.n;
	RETURN NEXT;
END
$$;
CREATE VIEW fills AS SELECT count(*) FILTER (WHERE done > 0 AND todo > 0) AS underway, count(*) AS all FROM clickstream.stat_progress;
SELECT clickstream.create_stream('s849', watermark_delay => '1 minute') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's849');
SELECT define();
SELECT feed(300, 599);
SET clickstream.batch_messages = 1;
CALL clickstream.process('s849');
SELECT define('_filled', true);
SET clickstream.batch_messages = 10;
SELECT feed(600, 600);
CALL clickstream.process('s849', 1);
TABLE fills;
CALL clickstream.process('s849');
TABLE fills;
CALL clickstream.finish('s849');
SELECT * FROM compare();
SELECT t, v.* FROM unnest('{of_all_filled,of_users_filled,closed_filled,steps_filled}'::regclass[]) AS t, clickstream.verify(t) AS v;
SELECT clickstream.drop_stream('s849');
RESET clickstream.batch_messages;
-- A repair while a closing is under way, which it brings to its end first: what is retried then revises a row.
SELECT clickstream.create_stream('s849', watermark_delay => '1 minute') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's849');
SELECT clickstream.create_window('minutes', stream => 's849', size => '1 minute', group_by => 'user_id', allowed_lateness => '1 hour', emit => 'closed', measures => 'count(*) AS n');
SELECT test.feed('s849', (SELECT string_agg(format('u%s 0:00:%1$s /', i), E'\n') FROM generate_series(10, 39) AS i) || E'\nx 2:00 /\nu10 0:00:50 /\nnew 0:00:50 /\n'
	|| (SELECT string_agg(format('u%s 2:02:%1$s /', i), E'\n') FROM generate_series(10, 39) AS i) || E'\nd 2:02 / raw={"ts": "2024-06-01T02:02:50Z", "user_id": "u10"}');
CALL clickstream.process('s849');
SELECT count(*) AS late FROM clickstream.late_event WHERE stream = 's849';
CREATE VIEW closing AS
SELECT closed IS DISTINCT FROM watermark AS midway, m.* FROM clickstream.progress JOIN clickstream.stream USING (stream_id),
	(SELECT count(*) BETWEEN 1 AND 29 AS some, count(*) = 30 AS all, max(revision) AS revision FROM minutes WHERE window_start = '2024-06-01 02:02+00') AS m
WHERE name = 's849';
SET clickstream.force_closings = 5;
SELECT test.feed('s849', 'y 2:20 /');
CALL clickstream.process('s849', 1);
TABLE closing;
BEGIN;
SELECT message_offset, applied, reason FROM clickstream.apply_late('minutes') ORDER BY 1;
TABLE closing;
SELECT * FROM clickstream.verify('minutes');
ROLLBACK;
TABLE closing;
SELECT message_offset, outcome, reason FROM clickstream.retry_dead_letters('s849', fix => $$replace(message, '"ts"', '"event_time"')$$);
TABLE closing;
CALL clickstream.process('s849');
SELECT message_offset, applied, reason FROM clickstream.apply_late('minutes') ORDER BY 1;
CALL clickstream.finish('s849');
SELECT count(*) AS n_rows, count(*) FILTER (WHERE m.n IS DISTINCT FROM l.n) AS differ
FROM minutes AS m FULL JOIN (SELECT date_bin('1 minute', event_time, '2024-06-01') AS window_start, user_id, count(*) AS n FROM log GROUP BY 1, 2) AS l USING (window_start, user_id);
SELECT * FROM clickstream.verify('minutes');
RESET clickstream.force_closings;
DROP VIEW closing;
SELECT clickstream.drop_stream('s849');
DROP SCHEMA t849 CASCADE;
