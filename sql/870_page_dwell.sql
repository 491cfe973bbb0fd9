-- page_dwell(): how long each page was looked at. Over any table, and as a
-- measure of sessions that come in any order, in parts, late, and are split:
-- against lead() over the event log. Another seed: CLICKSTREAM_SEED.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t870;
SET search_path = t870;
CREATE FUNCTION lines(page_stay clickstream.page_stay[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s %s %s', coalesce(left(p.page, 8), '-'), p.began::time, coalesce(p.seconds::text, '?'), p.views), ', ' ORDER BY n)
	FROM unnest(page_stay) WITH ORDINALITY AS p(page, began, seconds, views, n) $$;

-- over a table: rows in any order; the last one's end is not known, unless the visitor is seen once more
CREATE TABLE e (who text, page text, t timestamptz);
INSERT INTO e SELECT split_part(l, ' ', 1), nullif(split_part(l, ' ', 2), '-'), '2024-06-01'::timestamptz + split_part(l, ' ', 3)::interval
FROM string_to_table('a /pricing 10:00:30|a / 10:00|a /signup 10:02:00.5|b / 11:00|b - 11:00:12|b - 11:00:07|c - 12:00|d - 09:00|d / 10:00|d - 10:00'
	'|e /b 10:00|e /a 10:00|e /a 10:00|e - 10:01', '|') AS l;
SELECT who, lines(clickstream.page_dwell(page, t)) AS stays FROM e GROUP BY 1 ORDER BY 1;
SELECT lines(clickstream.page_dwell(page, t ORDER BY t DESC)) AS any_order, lines(clickstream.page_dwell(page, t) FILTER (WHERE page IS NOT NULL)) AS views
FROM e WHERE who = 'b';
SELECT who, lines(clickstream.page_dwell(page, t) OVER (PARTITION BY who ORDER BY t)) AS running FROM e WHERE who = 'a' ORDER BY t;
SELECT pg_typeof(clickstream.page_dwell(page, t)), to_jsonb(clickstream.page_dwell(page, t)) FROM e WHERE who = 'b';
SELECT clickstream.page_dwell(page, t) IS NULL AS none FROM e WHERE false;
INSERT INTO e VALUES ('f', '/', NULL);
SELECT clickstream.page_dwell(page, t) IS NULL AS none FROM e WHERE who = 'f';
-- what is summed and averaged
SELECT p.page, count(*) AS views, sum(p.seconds) AS total, avg(p.seconds) AS average
FROM (SELECT who, clickstream.page_dwell(page, t) AS stays FROM e GROUP BY 1) v, unnest(v.stays) AS p GROUP BY 1 ORDER BY 1;

-- what is refused
SELECT clickstream.page_dwell(page) FROM e;
SELECT clickstream.page_dwell(page, 'infinity'::timestamptz) FROM e;
SELECT clickstream.page_dwell(page, '\x0102'::bytea) FROM e;

-- no more than 1000 page views, or 64 kB of pages: the others are one stay without a page
CREATE FUNCTION last_stays(page_stay clickstream.page_stay[]) RETURNS text LANGUAGE sql AS $$
	SELECT cardinality(page_stay) || ': ' || lines(page_stay[cardinality(page_stay) - 1:]) $$;
SELECT n, last_stays(clickstream.page_dwell('/' || i, '2024-06-01'::timestamptz + i * interval '1 second' ORDER BY i * 7919 % n))
FROM unnest('{999,1000,1001,1002,5000}'::int[]) AS n, generate_series(0, n - 1) AS i GROUP BY n ORDER BY n;
SELECT n, last_stays(clickstream.page_dwell(repeat('x', 7000), '2024-06-01'::timestamptz + i * interval '1 second' ORDER BY i * 7919 % n))
FROM unnest('{9,10,11}'::int[]) AS n, generate_series(0, n - 1) AS i GROUP BY n ORDER BY n;
SELECT last_stays(clickstream.page_dwell(CASE WHEN i < 1001 THEN '/' || i END, '2024-06-01'::timestamptz + i * interval '1 second')) FROM generate_series(0, 1002) AS i;
SELECT lines(clickstream.page_dwell(repeat('x', 65537), '2024-06-01'::timestamptz));

\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 870
\endif
\echo seed :seed
SELECT setseed(:seed / 1000000.0);
-- parts of a group, in parallel workers too, give what the whole gives; many are over the limits
CREATE TABLE many (g int, page text, t timestamptz) WITH (parallel_workers = 2);
INSERT INTO many SELECT g, CASE WHEN random() < 0.95 THEN repeat(chr(97 + (random() * 3)::int), (random() * (g % 7) * 50)::int + 1) END,
	'2024-06-01'::timestamptz + (random() * 3000)::int * interval '1 second'
FROM generate_series(1, 30) AS g, generate_series(1, 40 * g) AS i ORDER BY random();
ANALYZE many;
CREATE TABLE whole AS SELECT g, clickstream.page_dwell(page, t ORDER BY t) AS stays FROM many GROUP BY 1;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT g, clickstream.page_dwell(page, t) FROM many GROUP BY 1;
SELECT count(*) AS groups, count(*) FILTER (WHERE whole.stays IS DISTINCT FROM p.stays) AS differ,
	count(*) FILTER (WHERE (p.stays[cardinality(p.stays)]).page IS NULL) > 0 AS some_are_cut,
	bool_and((SELECT sum(views) FROM unnest(p.stays)) = v.views) AS all_views
FROM whole FULL JOIN (SELECT g, clickstream.page_dwell(page, t) AS stays FROM many GROUP BY 1) p USING (g)
FULL JOIN (SELECT g, count(page) AS views FROM many GROUP BY 1) v USING (g);
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

-- sessions: of two partitions, out of order, bridged by what comes late, and cut
SELECT clickstream.create_stream('s870', watermark_delay => '4 minutes', visitor => 'user_id') > 0 AS made;
CREATE AGGREGATE members(bigint) (SFUNC = array_append, STYPE = bigint[], COMBINEFUNC = array_cat, INITCOND = '{}');
CREATE FUNCTION measures() RETURNS text LANGUAGE sql RETURN $$
	count(*) AS events, t870.members(partition * 10000 + message_offset) AS members,
	page_dwell(page_url) FILTER (WHERE event_type = 'page_view') AS stays,
	page_dwell(CASE WHEN event_type = 'page_view' THEN page_url END) AS seen$$;
SELECT clickstream.create_event_log('log', stream => 's870');
SELECT clickstream.create_session('plain', stream => 's870', gap => '3 minutes', measures => measures());
SELECT clickstream.create_session('revised', stream => 's870', gap => '3 minutes', allowed_lateness => '10 minutes', emit => 'changes', emit_interval => '0', measures => measures());
SELECT clickstream.create_session('cut', stream => 's870', gap => '3 minutes', split_on => 'country', end_when => 'page_url = ''3''', max_length => '5 minutes', measures => measures());
SELECT test.feed('s870', string_agg(format('u%s %s %s event_type=%s country=%s part=%s', (random() * 25)::int,
	make_interval(secs => t * 4 + (CASE WHEN random() < 0.1 THEN 600 ELSE 120 END * random())::int), CASE WHEN random() < 0.1 THEN '-' ELSE (random() * 5)::int::text END,
	CASE WHEN random() < 0.7 THEN 'page_view' ELSE 'click' END, chr(65 + (random() * 1.6)::int), (random() * 1)::int), E'\n')) FROM generate_series(0, 1500) AS t;
-- a visitor with more page views than are kept
SELECT test.feed('s870', string_agg(format('bot %s /%s', make_interval(secs => 6000 + i), i), E'\n' ORDER BY i / 10, random())) FROM generate_series(1, 1100) AS i;
SET clickstream.batch_messages = 70;
CALL clickstream.finish('s870');
RESET clickstream.batch_messages;
-- What the log says of the events of each session.
CREATE TABLE event AS SELECT l.partition * 10000 + l.message_offset AS number, l.event_time, l.event_type, l.page_url,
	clickstream.place(l.event_time, l.topic, l.partition, l.message_offset) AS place FROM log l;
CREATE FUNCTION differences(t regclass, OUT sessions bigint, OUT differ bigint, OUT differ_seen bigint, OUT pages numeric) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format($query$
		WITH member AS (
			SELECT s.session_id, e.* FROM %1$s s, unnest(s.members) AS m, event e WHERE e.number = m
		), viewed AS (
			SELECT session_id, place, event_time, page_url, lead(event_time) OVER (PARTITION BY session_id ORDER BY place) AS ended
			FROM member WHERE event_type = 'page_view' AND page_url IS NOT NULL
		), sign AS (
			SELECT session_id, max(event_time) FILTER (WHERE event_type = 'page_view') AS on_page, max(event_time) AS at
			FROM member WHERE event_type <> 'page_view' OR page_url IS NULL GROUP BY 1
		), expected AS (
			SELECT session_id, v.page_url, v.place, v.event_time,
				extract(epoch FROM CASE WHEN ended IS NULL AND on_page > event_time THEN on_page ELSE ended END - event_time)::float8 AS stay,
				extract(epoch FROM CASE WHEN ended IS NULL AND at > event_time THEN at ELSE ended END - event_time)::float8 AS stay_seen
			FROM viewed v LEFT JOIN sign USING (session_id)
		), whole AS (
			SELECT session_id, array_agg((page_url, event_time, stay, 1)::clickstream.page_stay ORDER BY place) AS stays,
				array_agg((page_url, event_time, stay_seen, 1)::clickstream.page_stay ORDER BY place) AS seen
			FROM expected GROUP BY 1
		)
		SELECT count(*), count(*) FILTER (WHERE s.stays IS DISTINCT FROM w.stays), count(*) FILTER (WHERE s.seen IS DISTINCT FROM w.seen),
			sum(cardinality(s.stays))
		FROM (SELECT * FROM %1$s WHERE effective_user_id <> 'bot') s LEFT JOIN whole w USING (session_id) $query$, t) INTO sessions, differ, differ_seen, pages;
END
$$;
SELECT t, d.sessions > 50 AS many, differ, differ_seen, pages > 500 AS many_pages FROM unnest('{plain,revised,cut}'::regclass[]) AS t, differences(t) AS d;
SELECT count(*) > 0 AS some_late, (SELECT count(*) > 0 FROM revised WHERE revision > 0) AS some_revised,
	(SELECT count(DISTINCT closed_reason) > 3 FROM cut) AS reasons FROM clickstream.late_event WHERE stream = 's870';
-- the bot: as if they had come in order
SELECT events, last_stays(stays) FROM plain WHERE effective_user_id = 'bot';
-- a wrong version is noticed: its state is refused when it is read again
SELECT clickstream.create_stream('w870', watermark_delay => '4 minutes', visitor => 'user_id') > 0 AS made;
SELECT clickstream.create_session('wrong', stream => 'w870', gap => '3 minutes', measures => 'page_dwell(page_url) AS stays');
SELECT test.feed('w870', E'a 0:01 /2\na 0:00 /1\na 0:02 /3');
SET clickstream.mutant = 'unsorted_apply';
CALL clickstream.process('w870');
RESET clickstream.mutant;
SELECT lines(stays) FROM wrong_live;
SELECT state_key, problem FROM clickstream.discard_damaged_state('w870');

-- one row a page view
SELECT bool_and(p.visitor = s.effective_user_id AND p.session_start = s.session_start) AS same FROM clickstream.page_stays('plain') AS p JOIN plain s USING (session_id);
SELECT count(*) = (SELECT sum(cardinality(stays)) FROM plain) AS all_there, count(*) FILTER (WHERE is_exit) = (SELECT count(*) FROM plain WHERE stays IS NOT NULL) AS one_exit,
	bool_and(is_exit OR seconds IS NOT NULL) AS all_but_exits_are_known FROM clickstream.page_stays('plain');
SELECT count(*) < (SELECT count(*) FROM clickstream.page_stays('plain')) AS fewer, min(session_start) >= '2024-06-01 00:10' AS from_there, max(session_start) < '2024-06-01 00:20' AS to_there
FROM clickstream.page_stays('plain', start_time => '2024-06-01 00:10', end_time => '2024-06-01 00:20');
SELECT * FROM clickstream.page_stays(NULL);
SELECT * FROM clickstream.page_stays('e');
SELECT clickstream.create_session('other', stream => 's870');
SELECT * FROM clickstream.page_stays('other');
-- open sessions, too
SELECT test.feed('w870', E'b 9:00 /1\nb 9:01 /2');
CALL clickstream.process('w870');
SELECT effective_user_id, lines(stays) FROM wrong_live ORDER BY 1;
-- of a rollup's rows there is no place; and a definition of windows may have it
SELECT clickstream.create_rollup('r', source => 'plain', size => '1 minute', measures => 'page_dwell(landing_page) AS x');
SELECT clickstream.create_window('w', stream => 'w870', size => '1 hour', measures => 'page_dwell(page_url) AS stays, clickstream.page_dwell(page_url, event_time) AS by_time');
SELECT test.feed('w870', E'b 9:01:10 /4\nb 9:01:09 /3');
CALL clickstream.finish('w870');
SELECT lines(stays), stays = by_time AS same FROM w;
SELECT visitor, session_start::time AS session, page, began::time, seconds, views, is_exit FROM clickstream.page_stays('wrong') ORDER BY began;
-- the whole pipeline with it
SELECT clickstream.quickstart('q870', target_schema => 't870', start => false, time_on_page => true);
SELECT attname, format_type(atttypid, -1) AS type FROM pg_attribute WHERE attrelid = 'user_sessions'::regclass AND attnum > 0 ORDER BY attnum;
SELECT clickstream.drop_stream(stream) FROM clickstream.stat_stream WHERE stream ~ '870';
DROP SCHEMA t870 CASCADE;
