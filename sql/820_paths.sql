-- sessionize() and path_flow().
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
SET search_path = public, clickstream;
CREATE TABLE e820 (user_id text, effective_user_id text, event_time timestamptz, event_type text, page_url text);
INSERT INTO e820 SELECT split_part(l, ' ', 1), split_part(l, ' ', 1), '2024-06-01'::timestamptz + split_part(l, ' ', 2)::interval, 'page_view', split_part(l, ' ', 3)
FROM string_to_table('a 10:00 /|a 10:01 /|a 10:05 /product|a 10:35 /cart|a 11:05:00.000001 /|a 11:10 /blog|b 10:00 /|b 10:02 /product|b 10:03 /|b 10:04 /product|b 10:06 /cart'
	'|c 10:00 /blog|c 10:10 /|c 10:20 /product|d 09:00 /product|d 09:00 /|d 09:01 /about', '|') AS l;
INSERT INTO e820 VALUES (NULL, NULL, '2024-06-01 10:00', 'page_view', '/'), ('a', 'a', NULL, 'page_view', '/'), (NULL, 'x', '2024-06-01 12:00', 'click', NULL);

-- A distance of exactly the gap does not end a session.
SELECT user_id, event_time::time, sessionize(event_time, '30 minutes') OVER (PARTITION BY user_id ORDER BY event_time),
	sessionize(event_time, '2 minutes') OVER (PARTITION BY user_id ORDER BY event_time) AS short
FROM e820 WHERE user_id = 'a' ORDER BY event_time;
-- A gap for each row; frames do not matter; a filter below leaves rows out.
SELECT user_id, event_time::time, sessionize(event_time, CASE page_url WHEN '/cart' THEN interval '1 hour' ELSE '3 minutes' END)
	OVER (PARTITION BY user_id ORDER BY event_time ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING) FROM e820 WHERE user_id < 'c' AND event_time IS NOT NULL ORDER BY 1, 2;
SELECT sessionize(t, '1 day') OVER (ORDER BY t) FROM (VALUES ('-infinity'::timestamptz), ('2024-06-01'), ('infinity')) AS v(t);
-- The same sessions as a stream's.
WITH s AS (SELECT user_id, event_time, sessionize(event_time, '30 minutes') OVER (PARTITION BY user_id ORDER BY event_time) AS session FROM e820 WHERE event_time IS NOT NULL)
SELECT user_id, session, min(event_time)::time AS session_start, max(event_time)::time AS last_event, count(*) FROM s WHERE user_id IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2;
SELECT sessionize(event_time, '30 minutes') OVER (PARTITION BY user_id ORDER BY event_time DESC) FROM e820 WHERE event_time IS NOT NULL;
SELECT sessionize(event_time, '30 minutes') OVER () FROM e820;
SELECT sessionize(event_time, NULL) OVER (ORDER BY event_time) FROM e820;
SELECT sessionize(event_time, '0') OVER (ORDER BY event_time) FROM e820;
SELECT sessionize(event_time, '1 month') OVER (ORDER BY event_time) FROM e820;
SELECT sessionize(event_time, '1 hour') FROM e820;

-- Paths: repeats are one, sessions end paths, of equal times the page decides.
SELECT * FROM path_flow('e820');
SELECT * FROM path_flow('e820', collapse => false, max_steps => 2);
-- From a page on; many pages as one; bounds; other columns.
SELECT * FROM path_flow('e820', start_page => '/product', max_steps => 3);
SELECT * FROM path_flow('e820', max_pages => 1, max_steps => 2);
SELECT * FROM path_flow('e820', start_time => '2024-06-01 10:03', end_time => '2024-06-01 10:20', max_steps => 1);
SELECT * FROM path_flow('e820', page => $$split_part(page_url, '/', 2)$$, visitor => 'user_id', filter => $$event_type = 'page_view' AND user_id <> 'a'$$, gap => '2 minutes', max_steps => 1);
-- What flows in flows on or leaves: of each step but the first.
WITH f AS (SELECT * FROM path_flow('e820', max_pages => 2, max_steps => 4)),
	i AS (SELECT step + 1 AS step, target AS page, sum(paths) AS n FROM f WHERE target IS NOT NULL GROUP BY 1, 2),
	o AS (SELECT step, source AS page, sum(paths) AS n FROM f GROUP BY 1, 2)
SELECT count(*) AS pages, count(*) FILTER (WHERE i.n IS DISTINCT FROM o.n) AS differ FROM i FULL JOIN o USING (step, page) WHERE step BETWEEN 2 AND 4;
SELECT * FROM path_flow('e820', start_page => '/none');
-- expressions may end in a comment
SELECT count(*) AS differ FROM ((SELECT * FROM path_flow('e820', page => 'page_url -- the page', visitor => 'effective_user_id --', event_time => E'event_time --\n', filter => $$user_id <> 'a' -- not him$$,
		start_time => '2024-06-01 10:03', end_time => '2024-06-01 10:40'))
	EXCEPT (SELECT * FROM path_flow('e820', filter => $$user_id <> 'a'$$, start_time => '2024-06-01 10:03', end_time => '2024-06-01 10:40'))) AS d;
SELECT count(*) > 0 AS some FROM path_flow('e820', filter => $$user_id <> 'a' -- not him$$, start_time => '2024-06-01 10:03', end_time => '2024-06-01 10:40');
-- What is refused.
SELECT * FROM path_flow(NULL);
SELECT * FROM path_flow('e820', page => NULL);
SELECT * FROM path_flow('e820', max_steps => 0);
SELECT * FROM path_flow('e820', max_pages => 0);
\set VERBOSITY terse
SELECT * FROM path_flow('e820', gap => '-1 minute');
SELECT * FROM path_flow('e820', page => 'no_such_column');
SELECT * FROM path_flow('pg_class');
DROP TABLE public.e820;
