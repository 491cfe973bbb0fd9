-- The watermark: who holds it, what moves it, and that only content does.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t100;
SET search_path = t100;
CREATE VIEW wm AS SELECT test.at(watermark) AS watermark, held_back_by FROM clickstream.stat_stream WHERE stream = 's100';
CREATE VIEW parts AS
SELECT partition, next_offset, end_offset, lag, test.at(watermark) AS watermark, test.at(last_event_time) AS last_event, idle
FROM clickstream.stat_partition WHERE stream = 's100' ORDER BY partition;
-- a partition that has messages holds the watermark until it is read
SET clickstream.mock_clock = '2024-06-02 12:00:00+00';
SELECT clickstream.create_stream('s100') > 0 AS made;
SELECT clickstream.create_window('minute', stream => 's100', size => '1 minute', measures => 'count(*) AS events');
SELECT test.feed('s100', $$
	a   0:01    /
	a   0:10    /
	a   0:30    /
	b   0:02    /   part=1
	b   0:03    /   part=1
$$);
CALL clickstream.process('s100');
TABLE wm;
TABLE parts;
SELECT used, late FROM test.ledger WHERE stream = 's100';
SELECT test.at(window_start) AS start, events, is_final FROM minute ORDER BY 1;
-- the other way round, with the slow one in partition 0
SELECT test.feed('s100', 'b 0:20 / part=1');
CALL clickstream.process('s100');
TABLE wm;
-- an event of partition 0 that is older than its newest does not move it back
SELECT test.feed('s100', 'a 0:25 /');
CALL clickstream.process('s100');
TABLE wm;
-- a day of silence at the end: nobody holds it, it stands where the furthest has come
SET clickstream.mock_clock = '2024-06-03 12:00:00+00';
CALL clickstream.process('s100');
TABLE wm;
-- by hand, forward only
SELECT clickstream.advance_watermark('s100', '2024-06-01 00:40:00+00');
CALL clickstream.process('s100');
TABLE wm;
SELECT test.at(window_start) AS start, events, is_final FROM minute ORDER BY 1 DESC LIMIT 1;
SELECT clickstream.advance_watermark('s100', '2024-06-01 00:39:59.999999+00');
SELECT clickstream.advance_watermark('s100', 'infinity');
SELECT clickstream.advance_watermark('s100', NULL);
SELECT clickstream.advance_watermark('nowhere', '2024-06-01 00:39:59.999999+00');
CALL clickstream.finish('s100');
TABLE wm;
SELECT clickstream.advance_watermark('s100', '2024-06-01 02:00:00+00');
SELECT clickstream.drop_stream('s100');

-- The message's own timestamp bounds what an event can move: one phone whose
-- clock is half an hour fast does not close anything.
SELECT clickstream.create_stream('s100') > 0 AS made;
SELECT clickstream.create_window('minute', stream => 's100', size => '1 minute', measures => 'count(*) AS events');
SELECT test.feed('s100', $$
	a      0:01    /
	fast   0:31    /   sent=0:01:01
	a      0:01:02 /
$$);
CALL clickstream.process('s100');
TABLE wm;
SELECT used, late FROM test.ledger WHERE stream = 's100';
-- max_future, an hour: exactly that is taken, more is a dead letter, and does not move the watermark
SELECT test.feed('s100', $$
	fast   2:00    /   sent=1:00
	faster 2:00:00.001 /   sent=1:00
$$);
CALL clickstream.process('s100');
TABLE wm;
SELECT message_offset, cause, error, sqlstate FROM clickstream.dead_letter WHERE stream = 's100';
SELECT used, late, dead FROM test.ledger WHERE stream = 's100';
SELECT clickstream.drop_stream('s100');
-- off
SELECT clickstream.create_stream('s100', max_future => NULL) > 0 AS made;
SELECT clickstream.create_window('minute', stream => 's100', size => '1 minute', measures => 'count(*) AS events');
SELECT test.feed('s100', 'faster 2000:00 / sent=0:00');
CALL clickstream.finish('s100');
SELECT test.at(window_start) AS start, events FROM minute;
SELECT clickstream.drop_stream('s100');

-- A replay of old data: the clock is years ahead, and judges nothing.
-- What was produced today about last year moves the watermark as it did then.
SET clickstream.mock_clock = '2031-01-01 00:00:00+00';
SELECT clickstream.create_stream('s100') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's100', gap => '30 minutes', measures => 'count(*) AS events');
SELECT clickstream.produce('s100', format('{"user_id": "v%s", "event_time": "2024-06-01T%s:00:00Z"}', i % 3, to_char(i, 'FM00'))) AS message_offset
FROM generate_series(0, 5) i;
CALL clickstream.process('s100');
TABLE wm;
SELECT session_id, effective_user_id, closed_reason FROM visits ORDER BY session_start;
SELECT test.at(last_event) AS last, session_id FROM clickstream.open_sessions('visits');
CALL clickstream.finish('s100');
SELECT count(*) AS visits, sum(events) AS events FROM visits;
SELECT clickstream.drop_stream('s100');
RESET clickstream.mock_clock;

-- an empty message and a dead letter are read, and do not hold or move it
SELECT clickstream.create_stream('s100') > 0 AS made;
SELECT clickstream.create_window('minute', stream => 's100', size => '1 minute', measures => 'count(*) AS events');
SELECT clickstream.produce('s100', NULL, partition => 1), clickstream.produce('s100', 'x', partition => 2);
CALL clickstream.process('s100');
TABLE wm;
SELECT test.feed('s100', 'a 0:05 /');
CALL clickstream.process('s100');
TABLE wm;
SELECT consumed, used, dead, empty, balanced FROM test.ledger WHERE stream = 's100';
SELECT clickstream.drop_stream('s100');
-- Silent partitions: what comes during a pause is late on none of them, however it is read, once or message for message.
SET clickstream.mock_clock = '2024-06-02 12:00:00+00';
SELECT clickstream.create_stream('s100', idle_timeout => '1 minute') > 0 AS made;
SELECT clickstream.create_window('minute', stream => 's100', size => '1 minute', measures => 'count(*) AS events');
SELECT test.feed('s100', E'a 0:00 /\nb 0:00 / part=1\nc 0:00 / part=2');
CALL clickstream.process('s100');
SET clickstream.mock_clock = '2024-06-02 12:01:01+00';
CALL clickstream.process('s100');
TABLE parts;
SELECT test.feed('s100', E'a 1:00 /\na 2:00 /\nb 1:00 / part=1\nb 2:00 / part=1');
CALL clickstream.process('s100', 1);
-- partition 1 has messages that are not read, and holds it; partition 2 has none, and does not
TABLE wm;
TABLE parts;
CALL clickstream.process('s100');
TABLE wm;
TABLE parts;
SELECT used, late FROM test.ledger WHERE stream = 's100';
-- all at once; a message that is no event holds it until it is read, and what was silent is so without another minute
SET clickstream.mock_clock = '2024-06-02 12:03:00+00';
CALL clickstream.process('s100');
SELECT bool_and(idle) AS idle FROM parts;
SELECT test.feed('s100', E'a 3:00 /\na 4:00 /\nb 3:00 / part=1\nb 4:00 / part=1');
SELECT clickstream.produce('s100', 'x', partition => 2);
CALL clickstream.process('s100');
TABLE wm;
TABLE parts;
SELECT used, late, dead FROM test.ledger WHERE stream = 's100';
SELECT clickstream.drop_stream('s100');
SET clickstream.mock_clock = 'yesterday';
DROP SCHEMA t100 CASCADE;
