-- Rollups: closed sessions and attempts by the time they started.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t070;
SET search_path = t070;
SELECT clickstream.create_stream('s070') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's070', gap => '10 minutes');
SELECT clickstream.create_rollup('session_metrics', source => 'visits', size => '1 minute', measures => $$
	count(*) AS total_sessions, avg(session_duration_seconds) AS avg_session_duration,
	avg(pages_viewed) AS avg_pages_per_session, avg((pages_viewed = 1)::int) AS bounce_rate$$);
SELECT clickstream.create_rollup('by_device', source => 'visits', size => '1 hour', group_by => 'device_type', emit => 'closed',
	filter => 'event_count > 1', measures => 'count(*) AS sessions, sum(event_count) AS events');
CREATE VIEW seen AS
SELECT test.at(window_start) AS start, test.at(window_end) AS "end", total_sessions AS sessions, round(avg_session_duration, 2) AS duration,
	round(avg_pages_per_session, 2) AS pages, round(bounce_rate, 2) AS bounces, is_final, revision
FROM session_metrics ORDER BY window_start;
SELECT test.feed('s070', $$
	a   0:00:10 /a  device_type=phone
	b   0:00:20 /a  device_type=phone
	b   0:05    /b
	c   0:00:30 /a
	c   0:09    /b
$$);
CALL clickstream.process('s070');
TABLE seen;
-- The watermark is 0:12: a is closed.  Its bucket shows one session and is
-- not final, because b and c began in it and are open.
SELECT test.feed('s070', 'x 0:12:10 /x');
CALL clickstream.process('s070');
TABLE seen;
-- 0:15:10: b is closed, too; the bucket is not final yet
SELECT test.feed('s070', 'x 0:15:20 /x');
CALL clickstream.process('s070');
TABLE seen;
-- 0:19: c is closed, and nothing is open in the bucket
SELECT test.feed('s070', 'x 0:19:10 /x');
CALL clickstream.process('s070');
TABLE seen;
SELECT count(*) AS by_hour_yet FROM by_device;
-- y is extended back, behind the watermark, into the bucket of z, which is
-- closed: that bucket is not final until y is closed, too.
SELECT test.feed('s070', $$
	z   0:49:30 /z
	y   0:59:40 /y
	w   1:00:05 /w
	y   0:49:45 /y
$$);
CALL clickstream.process('s070');
SELECT test.at(session_start) AS start, test.at(session_end) AS "end", visitor FROM clickstream.open_sessions('visits') ORDER BY visitor;
TABLE seen;
CALL clickstream.finish('s070');
TABLE seen;
SELECT test.at(window_start) AS start, device_type, sessions, events, is_final FROM by_device ORDER BY window_start, device_type;
-- equal to the same asked of the table
CREATE VIEW asked AS
SELECT date_trunc('minute', session_start) AS window_start, count(*) AS total_sessions, avg(session_duration_seconds) AS avg_session_duration,
	avg(pages_viewed) AS avg_pages_per_session, avg((pages_viewed = 1)::int) AS bounce_rate FROM visits GROUP BY 1;
CREATE VIEW shown AS
SELECT window_start, total_sessions, avg_session_duration, avg_pages_per_session, bounce_rate FROM session_metrics;
SELECT count(*) AS differences FROM ((TABLE asked EXCEPT ALL TABLE shown) UNION ALL (TABLE shown EXCEPT ALL TABLE asked)) d;
DROP VIEW seen, asked, shown;
SELECT clickstream.drop_stream('s070');

-- Final, then changed: the bucket is made again from the source table.
SELECT clickstream.create_stream('s070') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's070', gap => '10 minutes', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('m', source => 'visits', size => '1 minute', measures => 'count(*) AS sessions, sum(events) AS events');
CREATE VIEW seen AS SELECT test.at(window_start) AS start, sessions, events, is_final, revision FROM m ORDER BY window_start;
SELECT test.feed('s070', $$
	a   0:00    /
	b   0:09:30 /
	w   0:10:20 /
$$);
-- a is closed, the bucket 0:00 final
CALL clickstream.process('s070');
TABLE seen;
-- b goes back to 0:00:30, then closes: the bucket has two
SELECT test.feed('s070', $$
	b   0:00:30 /
	w   0:30    /
$$);
CALL clickstream.process('s070');
TABLE seen;
DROP VIEW seen;
SELECT clickstream.drop_stream('s070');

-- over a funnel
SELECT clickstream.create_stream('s070') > 0 AS made;
SELECT clickstream.create_funnel('buying', stream => 's070', within => '10 minutes', steps => ARRAY[
	clickstream.step('a', $$page_url = 'a'$$), clickstream.step('b', $$page_url = 'b'$$)]);
SELECT clickstream.create_rollup('rates', source => 'buying', size => '5 minutes',
	measures => $$count(*) AS attempts, count(*) FILTER (WHERE is_conversion) AS conversions, avg(funnel_duration_seconds) FILTER (WHERE is_conversion) AS seconds$$);
CREATE VIEW seen AS SELECT test.at(window_start) AS start, attempts, conversions, round(seconds) AS seconds, is_final FROM rates ORDER BY window_start;
SELECT test.feed('s070', $$
	u   0:00    a
	v   0:01    a
	u   0:02    b
	w   0:06    a
	x   0:08    -
$$);
-- u has converted; v may yet: 0:00 is not final; w's bucket does not exist yet
CALL clickstream.process('s070');
TABLE seen;
-- the watermark is 0:11:00.001: v is over
SELECT test.feed('s070', 'x 0:11:10.001 -');
CALL clickstream.process('s070');
TABLE seen;
CALL clickstream.finish('s070');
TABLE seen;
DROP VIEW seen;
SELECT clickstream.drop_stream('s070');
DROP SCHEMA t070 CASCADE;
