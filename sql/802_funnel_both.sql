-- The live funnel and window_funnel() over the event log answer alike: of each
-- key the furthest attempt has the level that strict_once gives, for they share
-- the core.  Random events with many ties, repeats and events that meet several
-- conditions, in any order; a time is late for nobody.
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\echo seed :seed
SET timezone = 'UTC';
SET client_min_messages = warning;
SELECT setseed(:seed % 1000 / 1000.0);
SELECT clickstream.create_stream('s802', watermark_delay => '1 day') > 0 AS made;
SELECT clickstream.create_event_log('log802', stream => 's802');
SELECT clickstream.create_funnel('f802_' || n, stream => 's802', within => within * interval '1 second', strict_increase => increase, max_length => '1 day',
	steps => ARRAY(SELECT clickstream.step('s' || k, format('page_url LIKE %L', '%' || chr(96 + k) || '%')) FROM generate_series(1, steps) AS k))
FROM (VALUES (1, 3, 5, false), (2, 4, 20, false), (3, 5, 8, true), (4, 2, 1, true), (5, 3, 3600, false)) AS f(n, steps, within, increase);
-- The page says which conditions an event meets.
SELECT count(clickstream.produce('s802', jsonb_build_object('event_time', to_char('2024-06-01'::timestamp + floor(random() * 40) * interval '1 s', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
	'user_id', 'u' || i % 400, 'event_type', 'page_view', 'page_url',
	substr('abcde', 1 + floor(random() * 5)::int, 1) || CASE WHEN random() < 0.3 THEN substr('abcde', 1 + floor(random() * 5)::int, 1) ELSE '' END)::text))
FROM generate_series(1, 4000) AS i;
CALL clickstream.process('s802', 1500);
CALL clickstream.finish('s802');
CREATE VIEW both802 AS
SELECT n, effective_user_id, live, stored FROM (
	SELECT 1 AS n, effective_user_id, max(level) AS live FROM f802_1 GROUP BY effective_user_id UNION ALL
	SELECT 2, effective_user_id, max(level) FROM f802_2 GROUP BY effective_user_id UNION ALL
	SELECT 3, effective_user_id, max(level) FROM f802_3 GROUP BY effective_user_id UNION ALL
	SELECT 4, effective_user_id, max(level) FROM f802_4 GROUP BY effective_user_id UNION ALL
	SELECT 5, effective_user_id, max(level) FROM f802_5 GROUP BY effective_user_id) AS l
FULL JOIN (
	SELECT n, effective_user_id, clickstream.window_funnel(within * interval '1 second', 'strict_once' || CASE WHEN increase THEN ', strict_increase' ELSE '' END,
		event_time, VARIADIC ARRAY(SELECT page_url LIKE '%' || chr(96 + k) || '%' FROM generate_series(1, steps) AS k)) AS stored
	FROM log802, (VALUES (1, 3, 5, false), (2, 4, 20, false), (3, 5, 8, true), (4, 2, 1, true), (5, 3, 3600, false)) AS f(n, steps, within, increase)
	GROUP BY n, effective_user_id) AS s USING (n, effective_user_id);
SELECT n, count(*) > 390 AS keys, count(DISTINCT stored) > 1 AS many_levels, count(*) FILTER (WHERE coalesce(live, 0) <> coalesce(stored, 0)) AS differ
FROM both802 GROUP BY n ORDER BY n;
-- It would see a difference.
SET clickstream.mutant = 'within_exclusive';
SELECT count(*) FILTER (WHERE coalesce(live, 0) <> coalesce(stored, 0)) > 0 AS differ FROM both802;
SET clickstream.mutant = 'tie_overwrites';
SELECT count(*) FILTER (WHERE coalesce(live, 0) <> coalesce(stored, 0)) > 0 AS differ FROM both802;
RESET clickstream.mutant;
DROP VIEW both802;
SELECT clickstream.drop_stream('s802');
