-- window_funnel(): what ClickHouse's cases do not ask.
SET timezone = 'UTC';
SET search_path = public, clickstream;
CREATE TABLE e801 (who text, t timestamptz, what text);
INSERT INTO e801 VALUES
	('a', '2024-06-01 10:00', 'view'), ('a', '2024-06-01 10:10', 'cart'), ('a', '2024-06-01 10:20', 'buy'),
	('b', '2024-06-01 10:00', 'view'), ('b', '2024-06-01 11:00', 'cart'), ('b', '2024-06-01 11:00:00.000001', 'buy'),
	('c', '2024-06-01 10:20', 'buy'), ('c', '2024-06-01 10:10', 'cart'), ('c', '2024-06-01 10:00', 'view'),
	('d', '2024-06-01 10:00', 'cart'), ('d', NULL, 'view'),
	('e', '2024-06-01 10:00', NULL), ('e', '2024-06-01 10:01', 'view');
-- Rows may come in any order; the bound is inclusive; rows without time are none; NULL is false.
SELECT who, window_funnel('1 hour', NULL, t, what = 'view', what = 'cart', what = 'buy') FROM e801 GROUP BY who ORDER BY who;
SELECT who, window_funnel('1 hour 1 microsecond', '', t, what = 'view', what = 'cart', what = 'buy') FROM e801 WHERE who = 'b' GROUP BY who;
SELECT window_funnel('1 hour', 'strict_order', t, what = 'view') AS blank_row_first, window_funnel('1 hour', 'strict_order', t, what = 'view', what = 'cart')
FROM e801 WHERE who = 'e';
-- No rows.
SELECT window_funnel('1 hour', NULL, t, what = 'view') FROM e801 WHERE false;
-- Within zero: one time only.
SELECT window_funnel('0', NULL, t, x = 1, x = 2, x = 3) FROM (VALUES ('2024-06-01'::timestamptz, 2), ('2024-06-01', 1), ('2024-06-01 00:00:00.000001', 3)) AS v(t, x);
SELECT window_funnel('10 days', '', t, x = 1, x = 2) FROM (VALUES ('-infinity'::timestamptz, 1), ('infinity', 2)) AS v(t, x);
-- Modes: words with blanks or commas, in any case.
SELECT window_funnel('1 hour', m, t, what = 'view', what = 'view', what = 'cart')
FROM e801, (VALUES (1, NULL), (2, ''), (3, ' Default'), (4, 'strict_once'), (5, E'strict_once,\n strict_increase'), (6, 'STRICT_ONCE strict_once')) AS v(n, m)
WHERE who = 'a' GROUP BY n, m ORDER BY n;
-- Where aggregates may stand.
SELECT who, window_funnel('1 hour', NULL, t, what = 'view', what = 'cart') FILTER (WHERE what <> 'view') AS filtered,
	window_funnel(DISTINCT '1 hour', NULL, t, what = 'view', what = 'cart') AS of_distinct,
	window_funnel('1 hour', NULL, t, what = 'view', what = 'cart' ORDER BY t DESC) AS ordered,
	window_funnel('1 hour', NULL, t, VARIADIC ARRAY[what = 'view', NULL, what = 'cart']) AS of_array
FROM e801 GROUP BY ROLLUP (who) ORDER BY who;
SELECT who, what, window_funnel('1 hour', NULL, t, what = 'view', what = 'cart', what = 'buy') OVER (PARTITION BY who ORDER BY t) AS so_far
FROM e801 WHERE who < 'd' ORDER BY who, t;
-- As many conditions as there may be, and one more.
SELECT format('SELECT window_funnel(''1 day'', %L, t, %s) FROM (SELECT ''2024-06-01''::timestamptz + i * interval ''1 second'' AS t, i FROM generate_series(1, %s) AS i) AS s',
	m, string_agg('i = ' || k, ', ' ORDER BY k), n) FROM (VALUES (32, ''), (32, 'strict_once'), (33, '')) AS v(n, m), generate_series(1, n) AS k GROUP BY n, m ORDER BY n, m \gexec
SELECT window_funnel('1 day', '', t, VARIADIC array_fill(true, ARRAY[33])) FROM e801;
-- What is refused.
SELECT window_funnel('-1 second', '', t, true) FROM e801;
SELECT window_funnel('1 month', '', t, true) FROM e801;
SELECT window_funnel(NULL, '', t, true) FROM e801;
SELECT window_funnel('1 hour', 'strict', t, true) FROM e801;
SELECT window_funnel('1 hour', 'allow_reentry', t, true) FROM e801;
SELECT window_funnel('1 hour', repeat('strict_once,', 30), t, true) FROM e801;
SELECT window_funnel('1 hour', '', t, true, what) FROM e801;
SELECT window_funnel('1 hour', '', t, 1) FROM e801;
SELECT window_funnel('1 hour', '', t, NULL) FROM e801;
SELECT window_funnel('1 hour', '', t, VARIADIC '{}'::boolean[]) FROM e801;
SELECT window_funnel('1 hour', '', t, VARIADIC NULL::boolean[]) FROM e801;
SELECT window_funnel('1 hour', '', t) FROM e801;
SELECT window_funnel('1 hour', '', 'today', true);
SELECT window_funnel(CASE what WHEN 'view' THEN interval '1 hour' ELSE '2 hours' END, '', t, true) FROM e801;
-- Arguments may differ between groups.
SELECT who, window_funnel(CASE who WHEN 'a' THEN interval '1 hour' ELSE '1 day' END, '', t, what = 'view', what = 'cart', what = 'buy')
FROM e801 WHERE who < 'c' GROUP BY who ORDER BY who;

-- Many events: parallel plans, sorted groups and what is on disk, all alike.
CREATE TABLE many801 AS
SELECT abs(hashint4(i) % 1000) AS who, '2024-06-01'::timestamptz + abs(hashint4(-i) % 600007) * interval '1 second' AS t, abs(hashint8(i) / 9 % 7) AS what
FROM generate_series(1, 60000) AS i;
ALTER TABLE many801 SET (parallel_workers = 2);
ANALYZE many801;
CREATE FUNCTION answer801() RETURNS TABLE (levels text, of_all text) LANGUAGE sql AS $$
	WITH s AS MATERIALIZED (SELECT window_funnel('8 h', '', t, what = 1, what = 2, what = 3, what = 4) AS level FROM many801 GROUP BY who)
	SELECT (SELECT string_agg(n::text, ' ' ORDER BY level) FROM (SELECT level, count(*) AS n FROM s GROUP BY 1) AS l),
		(SELECT concat_ws(' ', window_funnel('2 s', '', t, what = 1, what = 2, what = 3, what = 4, what = 5, what = 6),
			window_funnel('1 h', 'strict_once, strict_increase', t, what = 1, what = 1, what = 1, what = 1),
			window_funnel('1 min', 'strict_order', t, what < 7, what = 7),
			sequence_match('(?1)(?2)(?3)(?1)(?2)', t, what = 1, what = 2, what = 3)) FROM many801)
$$;
CREATE FUNCTION plan801(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || query;
END
$$;
SET max_parallel_workers_per_gather = 0;
SELECT * FROM answer801();
SET enable_hashagg = off;
SELECT * FROM answer801();
RESET enable_hashagg;
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT plan801($$SELECT window_funnel('1 h', '', t, what = 1, what = 2) FROM many801$$);
SELECT plan801($$SELECT who, window_funnel('1 h', '', t, what = 1, what = 2) FROM many801 GROUP BY who$$);
SELECT * FROM answer801();
SET work_mem = '64kB';
SELECT * FROM answer801();
SET max_parallel_workers_per_gather = 0;
SELECT * FROM answer801();
-- Temporary files are used, and gone.
BEGIN;
DECLARE c CURSOR FOR SELECT window_funnel('2 s', '', t, what = 1, what = 2), pg_sleep(0) FROM many801;
FETCH c;
SELECT count(*) AS files FROM pg_ls_tmpdir();
CLOSE c;
COMMIT;
SELECT 1 / (window_funnel('2 s', '', t, what = 7) - 0) FROM many801;
SELECT who % 2, window_funnel('20 s', '', t, what = 1, what = 2, what = 3) FROM many801 GROUP BY 1 ORDER BY 1;
SELECT count(*) AS files FROM pg_ls_tmpdir();
-- Where there is no end at which to close a file, and where all events are needed at once.
SELECT max(n) FROM (SELECT window_funnel('2 s', '', t, what < 7) OVER () AS n FROM many801) AS s;
SELECT sequence_count('(?1)(?2)', t, what = 1, what < 7) FROM many801;
SELECT sequence_match('(?1)(?t<=1)(?2)', t, what = 1, what < 7) FROM many801;
RESET work_mem;
SELECT sequence_count('(?1)(?2)', t, what = 1, what < 7), sequence_match('(?1)(?t<=1)(?2)', t, what = 1, what < 7) FROM many801;
RESET ALL;
-- As a measure of a definition: levels of sessions, in batches, with a restart in between.
SET client_min_messages = warning;
SET timezone = 'UTC';
SELECT clickstream.create_stream('s801') > 0 AS made;
SELECT clickstream.create_session('public.sessions801', stream => 's801', gap => '30 minutes', measures => $$
	count(*) AS events, clickstream.window_funnel('10 minutes', '', event_time, page_url = '/a', page_url = '/b', page_url = '/c') AS level,
	clickstream.retention(page_url = '/a', page_url = '/c') AS retained,
	clickstream.sequence_match('(?1).*(?2)', event_time, page_url = '/a', page_url = '/c') AS matched$$);
SELECT test.feed('s801', $$
	u 0:00 /a
	v 0:01 /c$$);
CALL clickstream.process('s801');
SELECT test.feed('s801', $$
	u 0:09 /b
	v 0:02 /a
	u 0:09:30 /c
	v 0:20 /b$$);
CALL clickstream.finish('s801');
SELECT effective_user_id, events, level, retained, matched FROM sessions801 ORDER BY 1;
SELECT clickstream.drop_stream('s801');
DROP TABLE e801, many801;
DROP FUNCTION answer801, plan801;
