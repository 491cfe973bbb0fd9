-- Windows: tumbling and hopping, groups, measures, late events, and when rows appear.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t050;
SET search_path = t050;

-- Tumbling, start included, end excluded; NULL is a group of its own.
SELECT clickstream.create_stream('s050', extra_columns => 'amount numeric, score integer') > 0 AS made;
SELECT clickstream.create_window('per_minute', stream => 's050', size => '1 minute', group_by => 'page_url', measures => $$
	count(*) AS events, count(DISTINCT effective_user_id) AS visitors,
	sum(amount) AS total, avg(amount) AS average, min(amount) AS least,
	min(device_type) AS first_device, max(device_type COLLATE "C") AS last_device,
	first(country) AS first_country, last(country) AS last_country,
	count(*) FILTER (WHERE event_type = 'purchase') AS purchases, sum(amount) FILTER (WHERE score > 5) AS high,
	bool_or(score > 5) AS any_high, round(100.0 * count(*) FILTER (WHERE event_type = 'purchase') / count(*), 1) AS percent$$);
SELECT test.feed('s050', $$
	ann     0:00            /a      amount=0.1  score=6 device_type=phone  country=at
	bob     0:00:59.999999  /a      amount=0.2  score=1 device_type=tablet country=ch
	ann     0:00:30         /a      amount=1e3  event_type=purchase        country=de
	ann     0:01            /a      amount=7
	-       0:00:10         -       score=9
	cid     0:00:11         -
$$);
CALL clickstream.finish('s050');
SELECT test.at(window_start) AS start, test.at(window_end) AS "end", page_url, events, visitors, total, average, least, first_device,
	last_device, first_country, last_country, purchases, high, any_high, percent, is_final, revision
FROM per_minute ORDER BY window_start, page_url;
-- the same asked in SQL, of the event that was fed: 1000.3, 333.43.., 0.1
SELECT sum(x), avg(x), min(x) FROM (VALUES (0.1), (0.2), (1e3::numeric)) v(x);
SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = 'per_minute'::regclass AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum);
SELECT clickstream.drop_stream('s050');

-- Hopping: 15 minutes every minute; an event lies in 15 windows.
SELECT clickstream.create_stream('s050') > 0 AS made;
SELECT clickstream.create_window('rolling', stream => 's050', size => '15 minutes', slide => '1 minute',
	measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors, first(page_url) AS first_page');
SELECT test.feed('s050', $$
	ann     1:00    /a
	bob     1:05    /b
	ann     1:20    /c
$$);
CALL clickstream.process('s050');
-- closed: windows that end at or before the watermark, 1:19:50: from 0:46 to 1:04
SELECT count(*), test.at(min(window_start)) AS first, test.at(max(window_start)) AS last, bool_and(is_final) AS final FROM rolling;
-- 0:46 .. 0:50 hold ann only (5), 0:51 .. 1:00 both (10), 1:01 .. 1:04 bob only (4)
SELECT events, visitors, first_page, count(*), test.at(min(window_start)) AS first, test.at(max(window_start)) AS last
FROM rolling GROUP BY 1, 2, 3 ORDER BY min(window_start);
-- An event at 1:10 behind the watermark of 1:19:50: late for the windows that
-- ended, from 0:56 to 1:04; it counts in those from 1:05 to 1:10.
-- One at 1:04:59 is late for all: its last window ended at 1:19.
SELECT test.feed('s050', $$
	cid     1:10    /d
	dan     1:04:59 /d
$$);
CALL clickstream.process('s050');
SELECT message_offset, definition, test.at(event_time) AS at, lateness FROM clickstream.late_event WHERE stream = 's050';
CALL clickstream.finish('s050');
-- bob alone 1:01 .. 1:04, bob and cid 1:05, cid 1:06 .. 1:10 with ann, ann 1:11 .. 1:20
SELECT events, visitors, first_page, count(*), test.at(min(window_start)) AS first, test.at(max(window_start)) AS last
FROM rolling WHERE window_start > '2024-06-01 01:00+00' GROUP BY 1, 2, 3 ORDER BY min(window_start);
-- 3 x 15 + 6
SELECT sum(events), used, late FROM rolling, test.ledger WHERE stream = 's050' GROUP BY used, late;
SELECT clickstream.drop_stream('s050');

-- Late for a tumbling window: final from the window's last millisecond on.
SELECT clickstream.create_stream('s050', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_window('per_minute', stream => 's050', size => '1 minute', measures => 'count(*) AS events');
SELECT test.feed('s050', $$
	a   0:00:30
	a   0:00:59.998999
	b   0:00:01
	a   0:00:59.999
	c   0:00:02
	c   0:00:59.9995
$$);
-- b is in time, both of c are late, though the second comes at the watermark itself
CALL clickstream.process('s050');
SELECT test.at(window_start) AS start, events, is_final FROM per_minute;
SELECT message_offset, lateness FROM clickstream.late_event WHERE stream = 's050' ORDER BY 1;
SELECT used, filtered, late, balanced FROM test.ledger WHERE stream = 's050';
SELECT clickstream.drop_stream('s050');

-- origin; windows before it; sizes that do not divide the day
SELECT clickstream.create_stream('s050') > 0 AS made;
SELECT clickstream.create_window('shifted', stream => 's050', size => '7 minutes', origin => '2024-06-01 00:03+00', measures => 'count(*) AS events');
SELECT test.feed('s050', $$
	a   0:02:59.999
	a   0:03:00
	a   0:09:59.999
	a   0:10:00
$$);
CALL clickstream.finish('s050');
SELECT test.at(window_start) AS start, test.at(window_end) AS "end", events FROM shifted ORDER BY window_start;
SELECT clickstream.drop_stream('s050');

-- A group limit: the groups beyond it share one row, whose group_key is all zeros.
SELECT clickstream.create_stream('s050') > 0 AS made;
SELECT clickstream.create_window('limited', stream => 's050', size => '1 minute', group_by => 'page_url', group_limit => 2, measures => 'count(*) AS events');
SELECT test.feed('s050', $$
	a   0:00:00 /a
	a   0:00:01 /b
	a   0:00:02 /c
	a   0:00:03 /d
	a   0:00:04 /b
	a   0:01:04 /d
$$);
CALL clickstream.finish('s050');
SELECT test.at(window_start) AS start, page_url, events, is_rest,
	group_key = '00000000-0000-0000-0000-000000000000' AS zeros
FROM limited ORDER BY window_start, is_rest, page_url;
SELECT clickstream.drop_stream('s050');

-- An aggregate of the user's that can be combined, with a state of its own kind
-- and one over internal through a strict transition.
CREATE FUNCTION longest_step(text, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
	$$ SELECT CASE WHEN length($2) > length($1) OR length($2) = length($1) AND $2 < $1 THEN $2 ELSE $1 END $$;
CREATE AGGREGATE longest(text) (SFUNC = longest_step, STYPE = text, COMBINEFUNC = longest_step, PARALLEL = SAFE);
CREATE FUNCTION span_step(tstzrange, timestamptz) RETURNS tstzrange LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT range_merge(coalesce($1, 'empty'), tstzrange($2, $2, '[]')) $$;
CREATE FUNCTION span_combine(tstzrange, tstzrange) RETURNS tstzrange LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT range_merge(coalesce($1, 'empty'), coalesce($2, 'empty')) $$;
CREATE FUNCTION span_final(tstzrange) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT upper($1) - lower($1) $$;
CREATE AGGREGATE span(timestamptz) (SFUNC = span_step, STYPE = tstzrange, COMBINEFUNC = span_combine, FINALFUNC = span_final, PARALLEL = SAFE);
SELECT clickstream.create_stream('s050') > 0 AS made;
SELECT clickstream.create_window('own', stream => 's050', size => '1 hour', slide => '30 minutes',
	measures => 't050.longest(page_url) AS longest, t050.span(event_time) AS span, stddev(length(page_url)) AS deviation, regr_slope(length(page_url), length(user_id)) AS slope');
SELECT test.feed('s050', $$
	a   0:10 /a
	bb  0:20 /abc
	a   0:40 -
	ccc 0:50 /abd
$$);
SET clickstream.batch_messages = 1;
CALL clickstream.finish('s050');
RESET clickstream.batch_messages;
-- whole hour: /abc, 40 minutes; of 2, 4, 4: 1.1547..; slope over (1,2), (2,4), (3,4): 1
SELECT test.at(window_start) AS start, longest, span, round(deviation, 10) AS deviation, slope FROM own ORDER BY window_start;
SELECT clickstream.drop_stream('s050');

-- When rows appear.  changes: a new row with the batch that makes it, rewritten
-- when process() has reached the end; closed: when the watermark has passed it.
SELECT clickstream.create_stream('s050') > 0 AS made;
SELECT clickstream.create_window('growing', stream => 's050', size => '1 hour', measures => 'count(*) AS events');
SELECT clickstream.create_window('closing', stream => 's050', size => '1 hour', measures => 'count(*) AS events', emit => 'closed');
SELECT clickstream.create_window('hops', stream => 's050', size => '1 hour', slide => '30 minutes', measures => 'count(*) AS events');
SELECT clickstream.create_window('growing_hops', stream => 's050', size => '1 hour', slide => '30 minutes', measures => 'count(*) AS events', emit => 'changes', emit_interval => '0');
CREATE VIEW rows AS
SELECT 'closing' AS t, test.at(window_start) AS start, events, is_final FROM closing
UNION ALL SELECT 'growing', test.at(window_start), events, is_final FROM growing
UNION ALL SELECT 'growing_hops', test.at(window_start), events, is_final FROM growing_hops
UNION ALL SELECT 'hops', test.at(window_start), events, is_final FROM hops ORDER BY 1, 2;
SET clickstream.mock_clock = '2024-06-01 10:00:00+00';
SELECT test.feed('s050', 'a 0:40 /a');
CALL clickstream.process('s050');
TABLE rows;
SELECT test.feed('s050', 'a 0:41 /a');
CALL clickstream.process('s050');
TABLE rows;
SELECT test.feed('s050', 'a 1:00:09.999 /a');
CALL clickstream.process('s050');
TABLE rows;
RESET clickstream.mock_clock;
DROP VIEW rows;
SELECT clickstream.drop_stream('s050');
DROP SCHEMA t050 CASCADE;
