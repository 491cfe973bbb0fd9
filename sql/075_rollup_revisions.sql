-- Rollups over rows that change, move and vanish: after each batch they say
-- what plain SQL says of the same table.  CLICKSTREAM_SEED=… for another seed.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\echo seed :seed
CREATE SCHEMA t075;
SET search_path = t075;

-- By hand: a session grows, moves its start, bridges another, is closed.
SELECT clickstream.create_stream('s075') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's075', gap => '5 minutes', allowed_lateness => '1 hour');
SELECT clickstream.create_rollup('by_minute', source => 'visits', size => '1 minute', measures => 'count(*) AS visits, sum(event_count) AS events');
CREATE VIEW seen AS SELECT test.at(window_start) AS start, visits, events, is_final FROM by_minute ORDER BY window_start;
SELECT test.feed('s075', $$
	a 0:01:00 /a
	b 0:01:30 /b
	a 0:09:00 /c
	x 0:20:00 /x
$$);
CALL clickstream.process('s075');
TABLE seen;
-- late: a's first session begins 30 s earlier, in the minute before
SELECT test.feed('s075', 'a 0:00:40 /late');
CALL clickstream.process('s075');
TABLE seen;
-- late: both of a's sessions are one
SELECT test.feed('s075', 'a 0:05:00 /bridge');
CALL clickstream.process('s075');
TABLE seen;
SELECT test.at(session_start) AS start, event_count, closed_reason, is_final, revision FROM visits ORDER BY session_start;
-- a group of which nothing is left goes; only columns that are read count
SELECT clickstream.create_rollup('by_size', source => 'visits', size => '1 hour', group_by => 'event_count', measures => 'count(*) AS visits');
SELECT test.feed('s075', $$
	c 0:21:00 /c
	x 1:10:00 /x
$$);
CALL clickstream.process('s075');
SELECT test.at(window_start) AS start, event_count, visits FROM by_size ORDER BY 1, 2;
SELECT test.feed('s075', 'c 0:22:00 /c');
CALL clickstream.process('s075');
SELECT test.at(window_start) AS start, event_count, visits FROM by_size ORDER BY 1, 2;
CALL clickstream.finish('s075');
TABLE seen;
DROP VIEW seen;
SELECT clickstream.drop_stream('s075');
-- an attempt may yet begin in a bucket's last millisecond, which the watermark has reached: by an event that came in the same batch
SELECT clickstream.create_stream('m075', watermark_delay => '1 millisecond') > 0 AS made;
SELECT clickstream.create_funnel('tries', stream => 'm075', within => '20 seconds', steps => ARRAY[clickstream.step('a', $$page_url = '/a'$$), clickstream.step('b', $$page_url = '/b'$$)]);
SELECT clickstream.create_rollup('tries_by_minute', source => 'tries', size => '1 minute', measures => 'count(*) AS attempts', emit => 'closed');
CREATE VIEW seen AS SELECT test.at(window_start) AS start, attempts, is_final, revision FROM tries_by_minute ORDER BY window_start;
SELECT test.feed('m075', E'a 0:00:10 /a\na 0:00:12 /b\nx 0:00:30 /x');
CALL clickstream.process('m075');
SELECT test.feed('m075', E'x 0:01:00.0005 /x\nb 0:00:59.9998 /a');
CALL clickstream.process('m075');
TABLE seen;
SELECT test.feed('m075', 'x 0:01:30 /x');
CALL clickstream.process('m075');
TABLE seen;
DROP VIEW seen;
SELECT clickstream.drop_stream('m075');

-- At random: two partitions, late events, silences, batches of any size.
CREATE TABLE differing (round int, name text, n bigint);
CREATE TABLE seen (closed_reason text);
CREATE PROCEDURE compare(round int, name text, source text, size interval, grouping_column text, measures text, condition text) LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format($q$
		WITH asked AS (SELECT date_bin(%L, %s, '1970-01-01 00:00+00') AS window_start, (%s)::text AS g, to_jsonb(ARRAY[%s]) AS m
				FROM %s WHERE closed_reason IS NOT NULL AND %s GROUP BY 1, 2),
			rolled AS (SELECT window_start, g::text AS g, to_jsonb(m) AS m FROM %s)
		SELECT count(*) FROM ((TABLE asked EXCEPT ALL TABLE rolled) UNION ALL (TABLE rolled EXCEPT ALL TABLE asked)) d$q$,
		size, CASE source WHEN 'funnel' THEN 'started_at' ELSE 'session_start' END, grouping_column, measures, source, condition,
		format('(SELECT window_start, %s AS g, ARRAY[%s] AS m FROM %s) r', CASE WHEN grouping_column = 'NULL' THEN 'NULL' ELSE 'g' END,
			(SELECT string_agg('m' || i, ', ') FROM generate_series(1, 3) i), name)) INTO n;
	INSERT INTO differing VALUES (round, name, n);
	-- final is what nothing can change any more
	EXECUTE format($q$SELECT count(*) FROM %s r WHERE is_final AND EXISTS (SELECT FROM %s s WHERE NOT s.is_final AND %s AND s.%s >= r.window_start
		AND s.%4$s < r.window_end)$q$, name, source, condition, CASE source WHEN 'funnel' THEN 'started_at' ELSE 'session_start' END) INTO n;
	INSERT INTO differing VALUES (round, name || ', final too early', n);
END
$$;
CREATE PROCEDURE compare_all(round int) LANGUAGE plpgsql AS $$
BEGIN
	CALL compare(round, 'plain', 'visits', '1 minute', 'NULL', 'count(*)::numeric, sum(event_count), max(pages_viewed)', 'true');
	CALL compare(round, 'grouped', 'visits', '10 minutes', 'event_count > 2', 'count(*)::numeric, count(DISTINCT landing_page), max(session_duration_seconds)',
		'event_count > 1');
	CALL compare(round, 'quiet', 'closing', '5 minutes', 'exit_page', 'count(*)::numeric, avg(event_count), min(pages_viewed)', 'true');
	INSERT INTO seen SELECT closed_reason FROM closing;
	CALL compare(round, 'attempts', 'funnel', '5 minutes', 'level', 'count(*)::numeric, count(DISTINCT effective_user_id), max(level)', 'true');
END
$$;
SELECT setseed(:seed / 1000000.0);
SELECT clickstream.create_stream('s075', watermark_delay => '10 seconds', idle_timeout => '1 minute', max_future => NULL) > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's075', gap => '3 minutes', allowed_lateness => '20 minutes', emit => 'changes', emit_interval => '0');
SELECT clickstream.create_session('closing', stream => 's075', gap => '2 minutes');
SELECT clickstream.create_funnel('funnel', stream => 's075', within => '4 minutes', steps => ARRAY[
	clickstream.step('a', $$page_url IN ('/0', '/1')$$), clickstream.step('b', $$page_url IN ('/1', '/2')$$), clickstream.step('c', $$page_url = '/3'$$)]);
SELECT clickstream.create_rollup('plain', source => 'visits', size => '1 minute', emit_interval => '0',
	measures => 'count(*) AS m1, sum(event_count) AS m2, max(pages_viewed) AS m3');
SELECT clickstream.create_rollup('grouped', source => 'visits', size => '10 minutes', emit_interval => '0', group_by => 'event_count > 2 AS g',
	filter => 'event_count > 1', measures => 'count(*) AS m1, count(DISTINCT landing_page) AS m2, max(session_duration_seconds) AS m3');
SELECT clickstream.create_rollup('quiet', source => 'closing', size => '5 minutes', emit_interval => '0', group_by => 'exit_page AS g',
	measures => 'count(*) AS m1, avg(event_count) AS m2, min(pages_viewed) AS m3');
SELECT clickstream.create_rollup('attempts', source => 'funnel', size => '5 minutes', emit_interval => '0', group_by => 'level AS g',
	measures => 'count(*) AS m1, count(DISTINCT effective_user_id) AS m2, max(level) AS m3');
-- messages are sent when they happen, later by up to 15 minutes, or the clock jumps
CREATE PROCEDURE play(rounds int) LANGUAGE plpgsql AS $$
DECLARE
	now timestamptz := '2024-06-01 00:00+00';
	t timestamptz;
BEGIN
	FOR round IN 1 .. rounds LOOP
		now := now + CASE WHEN random() < 0.15 THEN random() * 600 ELSE random() * 60 END * interval '1 second';
		FOR i IN 1 .. trunc(random() * 12) LOOP
			t := now - CASE WHEN random() < 0.2 THEN random() * 900 ELSE random() * 9 END * interval '1 second';
			PERFORM clickstream.produce('s075', jsonb_build_object('event_time', t, 'event_type', 'page_view', 'user_id',
				'v' || trunc(random() * 12), 'page_url', '/' || trunc(random() * 4))::text, partition => trunc(random() * 2)::int,
				message_timestamp => now);
		END LOOP;
		PERFORM set_config('clickstream.mock_clock', (now + interval '1 second')::text, false);
		PERFORM set_config('clickstream.batch_messages', (ARRAY['1', '3', '1000'])[1 + trunc(random() * 3)], false);
		COMMIT;
		CALL clickstream.process('s075');
		CALL compare_all(round);
		IF random() < 0.3 THEN
			now := now + (60 + random() * 300) * interval '1 second';
			PERFORM set_config('clickstream.mock_clock', now::text, false);
			COMMIT;
			CALL clickstream.process('s075');
			CALL compare_all(round);
		END IF;
	END LOOP;
END
$$;
CALL play(200);
SELECT name, count(*) > 200 AS compared, sum(n) AS differences FROM differing GROUP BY name ORDER BY name;
-- it was worth the trouble: rows were revised, shown while silent, and went on
SELECT count(*) FILTER (WHERE revision > 0) > 10 AS revised FROM visits;
SELECT closed_reason, count(*) > 100 AS many FROM seen WHERE closed_reason IS NOT NULL GROUP BY 1 ORDER BY 1;
CALL clickstream.finish('s075');
CALL compare_all(1000);
SELECT name, n FROM differing WHERE round = 1000 ORDER BY name;
SELECT bool_and(is_final) AS all_final, count(*) > 100 AS many FROM plain;
SELECT count(*) AS not_balanced FROM clickstream.audit('s075') WHERE NOT balanced;
SELECT clickstream.drop_stream('s075');
RESET clickstream.mock_clock;
RESET clickstream.batch_messages;
DROP SCHEMA t075 CASCADE;
