-- Live: what is open, workers, waiting, the idle rule, reset, and how long a
-- local topic keeps its messages.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t140;
SET search_path = t140;

-- open_sessions: measures, and the number of the commit that it shows
SELECT clickstream.create_stream('s140') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's140', gap => '30 minutes', measures => $$count(*) AS event_count, count(DISTINCT page_url) AS pages,
	first(page_url) AS landing, last(page_url) AS exit, sum(length(page_url)::numeric) AS total, max(event_time) - min(event_time) AS span$$);
SELECT count(*) AS before_anything FROM clickstream.open_sessions('visits');
SELECT test.feed('s140', $$
	ann 0:00    /a
	bob 0:01    /b
	ann 0:05    /c
	ann 0:05    -
$$);
CALL clickstream.process('s140');
SELECT session_id, visitor, test.at(session_start) AS start, test.at(session_end) AS "end", test.at(last_event) AS last, event_count, measures,
	commit_number = (SELECT commit_number FROM clickstream.stat_stream WHERE stream = 's140') AS newest
FROM clickstream.open_sessions('visits') ORDER BY visitor;
-- a snapshot sees what was open then
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT visitor, event_count FROM clickstream.open_sessions('visits') ORDER BY visitor;
ROLLBACK;
SELECT test.feed('s140', 'cid 0:40 /x');
CALL clickstream.process('s140');
SELECT visitor, event_count FROM clickstream.open_sessions('visits') ORDER BY visitor;
SELECT effective_user_id, event_count FROM visits ORDER BY 1;
SELECT clickstream.create_window('w', stream => 's140', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.open_sessions('w');
-- a definition that was added counts from the next event on
SELECT test.feed('s140', 'cid 0:41 /x');
CALL clickstream.process('s140');
SELECT test.at(window_start) AS start, n FROM w;

-- reset: everything anew, in one transaction, from where it is said
BEGIN;
SELECT clickstream.reset('s140');
SELECT count(*) FROM visits;
ROLLBACK;
SELECT count(*) FROM visits;
SELECT clickstream.reset('s140');
SELECT (SELECT count(*) FROM visits) AS rows, (SELECT count(*) FROM clickstream.open_sessions('visits')) AS open,
	(SELECT count(*) FROM clickstream.stat_partition WHERE stream = 's140') AS partitions, (SELECT watermark FROM clickstream.stat_stream WHERE stream = 's140') AS watermark;
CALL clickstream.process('s140');
SELECT effective_user_id, event_count FROM visits ORDER BY 1;
SELECT sum(n) FROM w;
SELECT clickstream.reset('s140', start_from => 'offsets', start_offsets => '{"0": 4}');
CALL clickstream.process('s140');
SELECT sum(n) FROM w;
SELECT * FROM clickstream.audit('s140');
SELECT clickstream.reset('s140', start_from => 'latest');
CALL clickstream.process('s140');
SELECT sum(n) FROM w;
SELECT clickstream.drop_stream('s140');

-- in pieces: process() takes no more than it is told to
SELECT clickstream.create_stream('s140') > 0 AS made;
SELECT clickstream.create_window('w', stream => 's140', size => '1 hour', measures => 'count(*) AS n');
SELECT clickstream.produce('s140', '{"event_time": "2024-06-01T00:00:00Z"}') AS o FROM generate_series(0, 9) i;
CALL clickstream.process('s140', 0);
SELECT coalesce(sum(n), 0) AS n FROM w;
CALL clickstream.process('s140', 3);
SELECT n FROM w;
SELECT next_offset, end_offset, lag FROM clickstream.stat_partition WHERE stream = 's140';
CALL clickstream.process('s140', 100);
SELECT n FROM w;
CALL clickstream.process('s140');
SELECT next_offset, end_offset, lag FROM clickstream.stat_partition WHERE stream = 's140';

-- How long the topic keeps: consumed messages older than that, from the front.
SELECT clickstream.trim_local_topic('s140', '1 day');
SELECT clickstream.produce('s140', '{"event_time": "2024-06-01T00:00:00Z"}', message_timestamp => '2024-06-01 00:00+00') AS o;
SELECT clickstream.trim_local_topic('s140', '0');
SELECT min(message_offset), max(message_offset) FROM clickstream.local_message JOIN clickstream.stream s USING (stream_id) WHERE name = 's140';
CALL clickstream.process('s140');
SELECT n FROM w;
SELECT clickstream.trim_local_topic('s140', '1 day');
SELECT clickstream.trim_local_topic('s140', '1 day');
SELECT clickstream.produce('s140', '{"event_time": "2024-06-01T00:00:00Z"}') AS o;
CALL clickstream.process('s140');
SELECT n FROM w;
SELECT * FROM clickstream.audit('s140');
-- begun again, it begins with what is left
SELECT clickstream.reset('s140', start_from => 'earliest');
CALL clickstream.process('s140');
SELECT n FROM w;
SELECT * FROM clickstream.audit('s140');
-- offsets that are gone are said to be gone
SELECT clickstream.reset('s140', start_from => 'offsets', start_offsets => '{"0": 5}');
CALL clickstream.process('s140');
SELECT clickstream.drop_stream('s140');

-- A worker: wait_for() until what was in the topic is committed.
SELECT clickstream.create_stream('s140', idle_timeout => '100 milliseconds') > 0 AS made;
SELECT clickstream.create_window('w', stream => 's140', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.create_session('visits', stream => 's140', gap => '10 minutes', measures => 'count(*) AS events');
CREATE PROCEDURE poll(condition text) LANGUAGE plpgsql AS $$
DECLARE
	done boolean;
BEGIN
	FOR i IN 1 .. 6000 LOOP
		EXECUTE 'SELECT ' || condition INTO done;
		COMMIT;
		EXIT WHEN done;
		PERFORM pg_sleep(0.05);
	END LOOP;
	RAISE INFO '%: %', condition, done;
END
$$;
SELECT test.feed('s140', $$
	a   0:00    /
	b   0:30    /
	c   0:01    /   part=1
$$);
SELECT clickstream.start('s140');
CALL clickstream.wait_for('s140', '5 minutes');
SELECT sum(n) FROM w;
CALL poll($$state = 'running' FROM clickstream.stat_stream WHERE stream = 's140'$$);
CALL clickstream.process('s140');
-- The idle rule: partition 1 falls silent, then partition 0, too; the
-- watermark is then where the furthest is: 0:29:50.  a, whose session ends at
-- 0:10, is closed by that; b is not: no clock closes it for good.
CALL poll($$bool_and(idle) FROM clickstream.stat_partition WHERE stream = 's140'$$);
CALL poll($$watermark = '2024-06-01 00:29:50+00' FROM clickstream.stat_stream WHERE stream = 's140'$$);
CALL poll($$count(*) = 2 FROM t140.visits WHERE is_final$$);
SELECT effective_user_id, closed_reason, is_final FROM visits WHERE is_final ORDER BY 1;
-- it speaks again, with an old event: late for the windows that are closed
SELECT test.feed('s140', 'c 0:02 / part=1');
CALL clickstream.wait_for('s140', '5 minutes');
SELECT partition, message_offset, definition FROM clickstream.late_event WHERE stream = 's140' ORDER BY definition::text;
-- finish() has the worker do it
CALL clickstream.finish('s140');
SELECT watermark FROM clickstream.stat_stream WHERE stream = 's140';
SELECT effective_user_id, events, is_final FROM visits ORDER BY 1;
SELECT clickstream.stop('s140');
CALL poll($$state = 'stopped' FROM clickstream.stat_stream WHERE stream = 's140'$$);
SELECT test.feed('s140', 'z 2:00 /');
CALL clickstream.wait_for('s140', '0');
SELECT sum(consumed) AS consumed, bool_and(balanced) AS balanced FROM clickstream.audit('s140');
SELECT clickstream.drop_stream('s140');
DROP SCHEMA t140 CASCADE;
