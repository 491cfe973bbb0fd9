-- Groups of every kind, and measures: FILTER, DISTINCT, aggregates of other
-- extensions, an approximate distinct count; each against the same asked of
-- the event log in plain SQL.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t053;
SET search_path = t053;
CREATE EXTENSION hll SCHEMA t053;
CREATE EXTENSION tdigest SCHEMA t053;
SELECT clickstream.create_stream('s053', extra_columns => 'amount numeric, score double precision, tags text[]') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's053');
CREATE FUNCTION measures() RETURNS text LANGUAGE sql RETURN $$
	count(*) AS events,
	count(amount) AS amounts,
	count(DISTINCT user_id) AS visitors,
	count(DISTINCT amount) FILTER (WHERE amount > 50) AS large_ones,
	sum(amount) FILTER (WHERE event_type = 'purchase') AS bought,
	avg(score) AS average,
	min(page_url) AS least,
	max(amount) AS most, bool_and(amount > 1) AS all_above,
	every(score IS NOT NULL) AS all_scored, stddev_samp(amount) AS deviation,
	bit_or(length(user_id)) AS bits,
	first(page_url) AS first_page,
	last(page_url) FILTER (WHERE page_url IS NOT NULL) AS last_page,
	clickstream.approx_count_distinct(user_id) AS about,
	clickstream.approx_count_distinct(amount) FILTER (WHERE amount > 50) AS about_large,
	t053.hll_cardinality(t053.hll_add_agg(t053.hll_hash_text(user_id))) AS hll,
	round(t053.tdigest_percentile(score, 100, 0.5)::numeric, 2) AS median,
	sum(amount) / nullif(count(DISTINCT user_id), 0) AS each$$;
SELECT clickstream.create_window('tumbling', stream => 's053', size => '1 hour', group_by => 'page_title, tags, country', measures => measures()) IS NOT NULL AS made;
SELECT clickstream.create_window('hopping', stream => 's053', size => '2 hours', slide => '30 minutes', group_by => 'page_title, tags, country', measures => measures()) IS NOT NULL AS made;
SELECT clickstream.create_window('cumulative', stream => 's053', size => '6 hours', step => '1 hour', group_by => 'page_title, tags, country', measures => measures()) IS NOT NULL AS made;
SELECT clickstream.create_window('days', stream => 's053', size => '1 day', time_zone => 'Asia/Kolkata', measures => measures()) IS NOT NULL AS made;
-- titles NULL, empty, of 10 kB that differ in the last byte only; arrays, one with a NULL
SELECT setseed(0.53);
SELECT count(clickstream.produce('s053', jsonb_build_object(
	'event_time', '2024-06-01 00:00+00'::timestamptz + i * interval '11 seconds' + (i % 7) * interval '1 second',
	'event_type', CASE WHEN i % 5 = 0 THEN 'purchase' ELSE 'page_view' END,
	'page_title', CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN repeat('x', 10240) || 'a' WHEN 3 THEN repeat('x', 10240) || 'b' ELSE 'NULL' END,
	'tags', CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN '{a,NULL}' ELSE '{a,"NULL"}' END,
	'country', CASE i % 2 WHEN 0 THEN 'at' END,
	'user_id', CASE WHEN i % 11 > 0 THEN 'u' || trunc(random() * 3000) END,
	'page_url', CASE WHEN i % 4 > 0 THEN '/' || trunc(random() * 50) END,
	'amount', CASE WHEN i % 6 > 0 THEN trunc(random() * 100) END,
	'score', CASE WHEN i % 9 > 0 THEN trunc(random() * 1000) / 8 END)::text, message_timestamp => '2024-06-02')) FROM generate_series(1, 4000) AS i;
SET clickstream.batch_messages = 333;
CALL clickstream.finish('s053');
RESET clickstream.batch_messages;
SELECT count(*) > 300 AS enough, count(DISTINCT page_title) AS titles, count(DISTINCT tags) AS tags, bool_or(page_title IS NULL) AS null_title FROM tumbling;
-- What the views of the definitions say, asked of the log, which has the columns of the event relation.
CREATE PROCEDURE ask(t text) LANGUAGE plpgsql AS $$
DECLARE
	query text := pg_get_viewdef((SELECT d.view_oid FROM clickstream.definition d WHERE d.table_oid = t::regclass));
BEGIN
	EXECUTE format('CREATE TABLE %s_asked AS %s', t, regexp_replace(rtrim(query, ';'), 'FROM (clickstream\.)?event_\d+ e',
		'FROM (SELECT *, clickstream.place(event_time, topic, partition, message_offset) AS place FROM t053.log) e'));
END
$$;
CALL ask('tumbling');
CALL ask('hopping');
CALL ask('cumulative');
CALL ask('days');
-- A t-digest depends on the order of its input and on what was merged, from some hundred values on; all others agree.
CREATE FUNCTION differences(t text, without text DEFAULT '') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	columns constant text := (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
		WHERE attrelid = (t || '_asked')::regclass AND attnum > 0 AND attname <> without);
	result bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM ((SELECT %1$s FROM %2$s EXCEPT ALL SELECT %1$s FROM %2$s_asked) UNION ALL '
		'(SELECT %1$s FROM %2$s_asked EXCEPT ALL SELECT %1$s FROM %2$s)) AS d', columns, t) INTO result;
	RETURN result;
END
$$;
SELECT differences('tumbling') AS tumbling, differences('hopping') AS hopping, differences('cumulative', 'median') AS cumulative,
	differences('days', 'median') AS days;
SELECT count(*) > 100 AS enough, avg(abs(c.median - a.median)) < 0.5 AND max(abs(c.median - a.median)) < 12.5 AS near FROM cumulative c JOIN cumulative_asked a
	ON c.window_start = a.window_start AND c.window_end = a.window_end AND (c.page_title, c.tags, c.country) IS NOT DISTINCT FROM (a.page_title, a.tags, a.country);
SELECT events, visitors, about, round(hll) AS hll, large_ones, about_large, round(median) AS median FROM days;
-- approx_count_distinct anywhere, in parallel too
CREATE TABLE v AS SELECT i % 70000 AS n, ('u' || i % 1000) COLLATE "C" AS t FROM generate_series(1, 140000) AS i;
SELECT clickstream.approx_count_distinct(n) AS n, clickstream.approx_count_distinct(t) AS t, clickstream.approx_count_distinct(n) FILTER (WHERE n < 2048) AS exact,
	clickstream.approx_count_distinct(NULL::int) AS none, clickstream.approx_count_distinct(1.0::numeric) + clickstream.approx_count_distinct(n::numeric) FILTER (WHERE n < 5) AS few FROM v;
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
ANALYZE v;
EXPLAIN (COSTS OFF) SELECT clickstream.approx_count_distinct(n) FROM v;
SELECT clickstream.approx_count_distinct(n) AS n, clickstream.approx_count_distinct(t) AS t FROM v;
RESET ALL;
SET client_min_messages = warning;
SET search_path = t053;
SELECT clickstream.approx_count_distinct(point(n, n)) FROM v;
SELECT clickstream.create_window('bad', stream => 's053', size => '1 hour', measures => 'clickstream.approx_count_distinct(point(1, amount::float)) AS n');
SELECT clickstream.create_window('bad', stream => 's053', size => '1 hour', measures => 'clickstream.approx_count_distinct(DISTINCT user_id) AS n');
SELECT clickstream.drop_stream('s053');
DROP SCHEMA t053 CASCADE;
