-- Retention and the rollups over a table: what a bucket that is not final is made of stays, shown or not; a final one of which rows
-- have gone is not made anew.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t852;
SET search_path = t852;
SELECT clickstream.create_stream('s852', watermark_delay => '0 s', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's852', gap => '10 minutes', allowed_lateness => '1 hour', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('hours', source => 'visits', size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events', emit => 'closed');
SELECT clickstream.set_retention('visits', '2 hours');
CREATE VIEW shown AS SELECT test.at(window_start) AS start, visits, events, is_final, revision FROM hours ORDER BY 1;
-- a: a short visit; b: one of three hours that begins in the same bucket
SELECT test.feed('s852', $$
	a   0:00:00    /a
	b   0:08:00    /b
$$);
SELECT test.feed('s852', string_agg(format('b %s /b', make_interval(mins => m)), E'\n' ORDER BY m)) FROM generate_series(16, 300, 8) AS m;
CALL clickstream.process('s852');
SELECT test.at(session_start) AS start, is_final FROM visits ORDER BY 1;
-- final, and three hours old; its bucket is not final, and has not been shown
SELECT clickstream.trim_rows('visits');
TABLE shown;
-- b is closed, and then changed by an event that is late, but not too late: the bucket is made anew
SELECT test.feed('s852', '- 5:20:00 -');
CALL clickstream.process('s852');
SELECT test.feed('s852', 'b 5:04:00 /b');
CALL clickstream.process('s852');
SELECT test.feed('s852', '- 8:00:00 -');
CALL clickstream.process('s852');
TABLE shown;
-- now they may go
SELECT clickstream.trim_rows('visits');
SELECT test.at(deleted_before) AS deleted_before FROM clickstream.definition WHERE table_oid = 'visits'::regclass;
-- More may be late now. A visit that falls into that bucket counts nowhere, and the bucket stays as it is; one in a bucket that never had any counts there.
SELECT clickstream.alter_session('visits', allowed_lateness => '10 hours');
SELECT test.feed('s852', 'e 3:30:00 /e');
SELECT test.feed('s852', string_agg(format('c %s /c', make_interval(mins => m)), E'\n' ORDER BY m DESC)) FROM generate_series(8, 480, 8) AS m;
CALL clickstream.process('s852');
SELECT test.feed('s852', '- 19:00:00 -');
CALL clickstream.process('s852');
SELECT effective_user_id AS who, test.at(session_start) AS start, events, is_final FROM visits ORDER BY 1;
TABLE shown;
SELECT definition, cause, error, sqlstate FROM clickstream.dead_letter WHERE stream = 's852';
SELECT used, late, dead, balanced FROM test.ledger WHERE stream = 's852';
DROP VIEW shown;
SELECT clickstream.drop_stream('s852');

-- A visit that is open for longer than rows are kept begins in a bucket that has none, and counts there when it has closed.
-- A rollup whose bucket of a day is open holds back what it is over, and nothing else.
SELECT clickstream.create_stream('s852', watermark_delay => '0 s', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's852', gap => '10 minutes', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('hours', source => 'visits', size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events', emit => 'closed');
SELECT clickstream.create_session('others', stream => 's852', gap => '10 minutes', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('days', source => 'others', size => '1 day', measures => 'count(*) AS visits');
SELECT clickstream.set_retention('visits', '2 hours'), clickstream.set_retention('others', '2 hours');
SELECT test.feed('s852', string_agg(format('b %s /b', make_interval(mins => m)), E'\n' ORDER BY m)) FROM generate_series(0, 56, 8) AS m;
SELECT test.feed('s852', 'c 1:00:00 /c');
SELECT test.feed('s852', string_agg(format('b %s /b', make_interval(mins => m)), E'\n' ORDER BY m)) FROM generate_series(64, 272, 8) AS m;
CALL clickstream.process('s852');
SELECT clickstream.trim_rows('visits') AS visits, clickstream.trim_rows('others') AS others;
SELECT test.feed('s852', string_agg(format('b %s /b', make_interval(mins => m)), E'\n' ORDER BY m)) FROM generate_series(280, 304, 8) AS m;
SELECT test.feed('s852', '- 8:00:00 -');
CALL clickstream.process('s852');
SELECT test.at(window_start) AS start, visits, events, is_final FROM hours ORDER BY 1;
SELECT clickstream.trim_rows('visits') AS visits, clickstream.trim_rows('others') AS others;
SELECT count(*) AS dead FROM clickstream.dead_letter WHERE stream = 's852';
SELECT clickstream.drop_stream('s852');
DROP SCHEMA t852 CASCADE;
