-- Hopping windows with more visitors than what is carried from slide to slide
-- first has room for: it is swept when it is full, or grows, and the counts
-- are those of plain SQL over the same events.  Visitors come once, come again
-- within a window, and after they have left; groups come and go; in the middle
-- some slides are empty.  Another seed: CLICKSTREAM_SEED.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\echo seed :seed
CREATE SCHEMA wc;
SET search_path = wc;
SELECT setseed(:seed / 1000000.0);
CREATE TABLE event AS
SELECT '2024-03-28 00:00+00'::timestamptz + (i / 2500 + CASE WHEN i > 40000 THEN 12 ELSE 0 END) * interval '1 minute'
		+ trunc(random() * 60000) * interval '1 ms' AS event_time,
	'v' || trunc(power(random(), 2) * 20000 + i * random())::int AS user_id,
	'/' || CASE WHEN random() < 0.8 THEN '' ELSE trunc(i / 6000.0 + random() * 2)::text END AS page_url,
	's' || trunc(random() * 9000)::int AS session
FROM generate_series(1, 70000) AS i;
SELECT count(clickstream.create_stream('wc', watermark_delay => '1 minute', extra_columns => 'session text'));
SELECT clickstream.create_window('wc.rolling', stream => 'wc', size => '5 minutes', slide => '1 minute', group_by => 'page_url',
	measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors, count(DISTINCT session) FILTER (WHERE user_id LIKE ''%7'') AS sessions');
-- in parts, so that batches end anywhere in a window
SELECT sum(clickstream.produce('wc', (to_jsonb(e))::text, message_timestamp => e.event_time)) > 0 AS produced
FROM (SELECT * FROM event ORDER BY event_time) AS e;
CALL clickstream.process('wc', 9000);
CALL clickstream.process('wc', 1);
CALL clickstream.process('wc', 17000);
CALL clickstream.finish('wc');
CREATE TABLE expected AS
SELECT w AS window_start, w + interval '5 minutes' AS window_end, page_url, count(*) AS events, count(DISTINCT user_id) AS visitors,
	count(DISTINCT session) FILTER (WHERE user_id LIKE '%7') AS sessions
FROM event, generate_series(date_trunc('minute', event_time) - interval '4 minutes', date_trunc('minute', event_time), interval '1 minute') AS w
GROUP BY w, page_url;
-- as large as it is meant to be: more visitors in a window than there is room for at first
SELECT max(visitors) > 9000 AS large, count(DISTINCT page_url) > 10 AS groups, count(DISTINCT window_start) AS windows
FROM (SELECT *, sum(visitors) OVER (PARTITION BY window_start) FROM expected) AS e (window_start, window_end, page_url, events, v, s, visitors);
SELECT late, dead FROM test.ledger WHERE stream = 'wc';
SELECT count(*) AS wrong FROM (
	(SELECT window_start, window_end, page_url, events, visitors, sessions FROM rolling EXCEPT ALL TABLE expected)
	UNION ALL
	(TABLE expected EXCEPT ALL SELECT window_start, window_end, page_url, events, visitors, sessions FROM rolling)) AS d;
SELECT clickstream.drop_stream('wc');
DROP SCHEMA wc CASCADE;
