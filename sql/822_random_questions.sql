-- sessionize(), path_flow(), retention(), sequence_match() and sequence_count() over random events, against loops and regular
-- expressions that do the same by hand.  Another seed: CLICKSTREAM_SEED=… in the environment.
SET timezone = 'UTC';
SET search_path = public, clickstream;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 822
\endif
\echo seed :seed
SELECT setseed(:seed % 100000 / 100000.0);
-- each event a page of its own letter, at a time of its own; some without visitor, page or time
CREATE TABLE e822 AS
SELECT CASE WHEN random() < 0.02 THEN NULL ELSE 'u' || trunc(random() * 60)::int END AS effective_user_id,
	CASE WHEN random() < 0.02 THEN NULL ELSE '2024-06-01'::timestamptz + i * interval '11 seconds' END AS event_time,
	CASE WHEN random() < 0.02 THEN NULL ELSE chr(97 + trunc(random() * random() * 6)::int) END AS page_url, i
FROM generate_series(1, 4000) i ORDER BY md5(i::text);
-- sessions: walk through a visitor's events
CREATE FUNCTION walked(gap interval) RETURNS TABLE (i int, session int) LANGUAGE plpgsql AS $$
DECLARE
	e record;
	who text;
	before timestamptz;
BEGIN
	FOR e IN SELECT * FROM e822 WHERE effective_user_id IS NOT NULL AND event_time IS NOT NULL ORDER BY effective_user_id, event_time LOOP
		IF who IS DISTINCT FROM e.effective_user_id THEN
			session := 1;
		ELSIF e.event_time - before > gap THEN
			session := session + 1;
		END IF;
		who := e.effective_user_id;
		before := e.event_time;
		i := e.i;
		RETURN NEXT;
	END LOOP;
END
$$;
SELECT gap, count(*) > 500 AS many, count(*) FILTER (WHERE w.session IS DISTINCT FROM s.session) AS differ
FROM unnest('{1 minute,11 minutes,40 minutes}'::interval[]) gap, LATERAL walked(gap) w,
	LATERAL (SELECT session FROM (SELECT i, sessionize(event_time, gap) OVER (PARTITION BY effective_user_id ORDER BY event_time) AS session
		FROM e822 WHERE effective_user_id IS NOT NULL AND event_time IS NOT NULL OFFSET 0) x WHERE x.i = w.i AND w.i % 7 = 0) s
GROUP BY gap ORDER BY gap;
-- frames do not matter
SELECT count(*) FILTER (WHERE a IS DISTINCT FROM b OR a IS DISTINCT FROM c) AS differ FROM (SELECT
	sessionize(event_time, '11 minutes') OVER (PARTITION BY effective_user_id ORDER BY event_time) AS a,
	sessionize(event_time, '11 minutes') OVER (PARTITION BY effective_user_id ORDER BY event_time ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING EXCLUDE GROUP) AS b,
	sessionize(event_time, '11 minutes') OVER (PARTITION BY effective_user_id ORDER BY event_time RANGE BETWEEN interval '5 minutes' FOLLOWING AND UNBOUNDED FOLLOWING) AS c
	FROM e822 WHERE event_time IS NOT NULL) AS x;
-- paths: each session as a string of pages, cut by hand
CREATE FUNCTION flow(gap interval, first_page text, steps int, fold boolean) RETURNS TABLE (step int, source text, target text, paths bigint) LANGUAGE sql AS $$
	WITH path AS (
		SELECT string_agg(e.page_url, '' ORDER BY e.event_time) AS p
		FROM e822 e JOIN (SELECT x.i, sum(x.fresh::int) OVER (PARTITION BY x.effective_user_id ORDER BY x.event_time) AS session FROM (
			SELECT i, effective_user_id, event_time, event_time - lag(event_time) OVER (PARTITION BY effective_user_id ORDER BY event_time) > gap AS fresh
			FROM e822 WHERE num_nulls(effective_user_id, event_time, page_url) = 0) AS x) AS s USING (i)
		GROUP BY e.effective_user_id, coalesce(s.session, 0)
	), folded AS (
		SELECT CASE WHEN fold THEN regexp_replace(p, '(.)\1+', '\1', 'g') ELSE p END AS p FROM path
	), cut AS (
		SELECT CASE WHEN first_page IS NULL THEN p WHEN strpos(p, first_page) > 0 THEN substr(p, strpos(p, first_page)) END AS p FROM folded
	)
	SELECT n, substr(p, n, 1), nullif(substr(p, n + 1, 1), ''), count(*) FROM cut, generate_series(1, least(length(p), steps)) n WHERE p IS NOT NULL GROUP BY 1, 2, 3
$$;
SELECT c.*, (SELECT count(*) > 1 FROM flow(gap, first_page, steps, fold)) AS many,
	(SELECT count(*) FROM (SELECT step, source, target, paths FROM path_flow('e822', gap => gap, start_page => first_page, max_steps => steps, collapse => fold, max_pages => 100)
		EXCEPT ALL SELECT * FROM flow(gap, first_page, steps, fold)) x) AS too_many,
	(SELECT count(*) FROM (SELECT * FROM flow(gap, first_page, steps, fold)
		EXCEPT ALL SELECT step, source, target, paths FROM path_flow('e822', gap => gap, start_page => first_page, max_steps => steps, collapse => fold, max_pages => 100)) x) AS too_few
FROM (VALUES ('5 minutes'::interval, NULL, 5, true), ('30 minutes', NULL, 3, false), ('30 minutes', 'b', 4, true), ('2 hours', 'c', 9, false), ('1 minute', 'd', 1, true)) AS c(gap, first_page, steps, fold);
-- retention: the first, and each of the others with it; 32 conditions at most
SELECT count(*) > 50 AS many, count(*) FILTER (WHERE got IS DISTINCT FROM wanted) AS differ FROM (
	SELECT retention(page_url = 'b' AND i < 2000, page_url = 'c' AND i >= 2000, page_url IN ('e', 'f'), i > 3990, NULL::boolean) AS got,
		ARRAY[coalesce(bool_or(page_url = 'b' AND i < 2000), false)] || ARRAY(SELECT coalesce(bool_or(page_url = 'b' AND i < 2000), false) AND coalesce(x, false)
			FROM unnest(ARRAY[bool_or(page_url = 'c' AND i >= 2000), bool_or(page_url IN ('e', 'f')), bool_or(i > 3990), NULL]) x) AS wanted
	FROM e822 GROUP BY effective_user_id) AS r;
SELECT cardinality(retention(VARIADIC array_fill(true, ARRAY[32]))) FROM e822;
SELECT retention(VARIADIC array_fill(true, ARRAY[33])) FROM e822;
-- patterns: of pages that are all conditions, as regular expressions over their string
CREATE TABLE pattern (pattern text, regexp text);
INSERT INTO pattern VALUES ('(?1)(?2)', 'ab'), ('(?1).*(?3)', 'a.*?c'), ('(?2).(?2)', 'b.b'), ('(?1)(?1)(?1)', 'aaa'), ('(?2).*(?3).*(?1)', 'b.*?c.*?a'), ('(?3).*(?1)(?2)', 'c.*?ab');
SELECT p.pattern, count(*) > 500 AS many, count(*) FILTER (WHERE matches) BETWEEN 1 AND count(*) - 1 AS both, count(*) FILTER (WHERE matches IS DISTINCT FROM s ~ regexp) AS match_differs,
	count(*) FILTER (WHERE n IS DISTINCT FROM (SELECT count(*) FROM regexp_matches(s, regexp, 'g'))) AS count_differs
FROM pattern p, LATERAL (
	SELECT effective_user_id, (i / 400) AS part, string_agg(page_url, '' ORDER BY event_time) AS s,
		sequence_match(p.pattern, event_time, page_url = 'a', page_url = 'b', page_url = 'c', page_url = 'd', page_url = 'e', page_url = 'f') AS matches,
		sequence_count(p.pattern, event_time, page_url = 'a', page_url = 'b', page_url = 'c', page_url = 'd', page_url = 'e', page_url = 'f') AS n
	FROM e822 WHERE num_nulls(event_time, page_url) = 0 GROUP BY 1, 2) AS x
GROUP BY p.pattern ORDER BY p.pattern;
DROP TABLE e822, pattern;
DROP FUNCTION walked, flow;
