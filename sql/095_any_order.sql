-- Every kind of definition, any order of arrival: the same tables.
--
-- Inside the lag condition a permutation of arrival, a cut into batches, a
-- spread over partitions changes nothing.  Outside of it, with an
-- allowed_lateness that covers it, nothing either.  Event times are all
-- different here, so only the offsets in ids depend on the order of arrival:
-- session_id and attempt_id are left out, and revision, which may differ.
-- Another seed: CLICKSTREAM_SEED=… in the environment.
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
CREATE SCHEMA t095;
SET search_path = t095;
SELECT setseed(:seed / 1000000.0);
-- Two hours around midnight in Berlin.  lag is inside the lag condition, delay beyond it.
CREATE TABLE event AS
SELECT t AS event_time,
	CASE WHEN random() < 0.97 THEN 'v' || trunc(power(random(), 2) * 20)::int END AS user_id,
	'/' || trunc(random() * 6)::int AS page_url, CASE WHEN random() < 0.8 THEN 'c' || trunc(random() * 3) END AS utm_campaign,
	round((random() * 100)::numeric, 2) AS amount, random() * 58 AS lag,
	CASE WHEN random() < 0.1 THEN random() * 1500 ELSE 0 END AS delay
FROM (SELECT DISTINCT '2024-06-01 21:00+00'::timestamptz + trunc(random() * 7200000) * interval '1 ms' AS t FROM generate_series(1, 1000)) times;
CREATE TABLE result (run text, name text, content text);
CREATE PROCEDURE define(lateness interval, emit text) LANGUAGE plpgsql AS $$
DECLARE
	late text := coalesce(format(', allowed_lateness => %L', lateness), '');
	show text := format(', emit => %L, emit_interval => %L', emit, '0');
	funnel text := $s$ARRAY[clickstream.step('a', $c$page_url IN ('/1', '/2')$c$), clickstream.step('b', $c$page_url IN ('/2', '/3')$c$),
		clickstream.step('c', $c$page_url = '/4'$c$)]$s$;
	call text;
BEGIN
	FOREACH call IN ARRAY ARRAY[
		$c$create_session('t095.sessions', 's095', gap => '3 minutes'$c$ || late || show,
		$c$create_session('t095.cut', 's095', gap => '3 minutes', max_length => '10 minutes', measures => 'count(*) AS events, sum(amount) AS amount,
			first(page_url) AS first_page, last(page_url) AS last_page'$c$ || late || show,
		$c$create_session('t095.split', 's095', gap => '5 minutes', split_on => 'utm_campaign', end_when => $f$page_url = '/5'$f$,
			measures => 'count(*) AS events, max(amount) AS greatest, first(utm_campaign) AS campaign'$c$ || late || show,
		$c$create_session('t095.daily', 's095', gap => '10 minutes', split_at_midnight => true, time_zone => 'Europe/Berlin'$c$ || late || show,
		$c$create_funnel('t095.ordered', 's095', within => '5 minutes', steps => $c$ || funnel || late || show,
		$c$create_funnel('t095.strict', 's095', within => '5 minutes', mode => 'strict', within_exclusive => true, steps => $c$ || funnel || late || show,
		$c$create_funnel('t095.unordered', 's095', within => '5 minutes', mode => 'unordered', steps => $c$ || funnel || late || show,
		$c$create_funnel('t095.optional', 's095', within => '10 minutes', breakdown => 'utm_campaign', strict_increase => true,
			exclusions => ARRAY[clickstream.exclusion($f$page_url = '/5'$f$, 'a', 'c')],
			steps => ARRAY[clickstream.step('a', $f$page_url = '/1'$f$), clickstream.step('b', $f$page_url = '/2'$f$, optional => true),
				clickstream.step('c', $f$page_url = '/3'$f$)]$c$ || late || show,
		$c$create_window('t095.tumbling', 's095', size => '1 minute', group_by => 'page_url', measures => 'count(*) AS events,
			count(DISTINCT user_id) AS visitors, sum(amount) AS amount, avg(amount) AS average, min(user_id) AS least,
			first(amount) AS first_amount, last(amount) AS last_amount'$c$ || late || show,
		$c$create_window('t095.hopping', 's095', size => '5 minutes', slide => '1 minute', group_by => 'user_id',
			measures => 'count(*) AS events, count(DISTINCT page_url) AS pages'$c$ || late || show,
		$c$create_window('t095.merged', 's095', size => '5 minutes', slide => '1 minute', measures => 'sum(amount) AS amount, last(page_url) AS page'$c$ || late || show,
		$c$create_window('t095.cumulative', 's095', size => '30 minutes', step => '5 minutes', group_by => 'page_url',
			measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors'$c$ || late || show,
		$c$create_window('t095.days', 's095', size => '1 day', time_zone => 'Europe/Berlin', group_by => 'utm_campaign',
			measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors, avg(amount) AS average'$c$ || late || show,
		$c$create_rollup('t095.rolled', source => 't095.sessions', size => '5 minutes', emit_interval => '0',
			measures => 'count(*) AS total, avg(session_duration_seconds) AS duration, sum(event_count) AS events'$c$,
		$c$create_rollup('t095.by_day', source => 't095.split', size => '30 minutes', group_by => 'closed_reason, campaign', emit_interval => '0',
			measures => 'count(*) AS total, max(greatest) AS greatest'$c$,
		$c$create_rollup('t095.rates', source => 't095.ordered', size => '5 minutes', group_by => 'level', emit_interval => '0', measures => 'count(*) AS attempts'$c$,
		$c$create_rollup('t095.deeper', source => 't095.strict', size => '1 hour', filter => 'level > 1', emit_interval => '0',
			measures => 'count(*) AS attempts, max(level) AS level'$c$] LOOP
		EXECUTE 'SELECT clickstream.' || call || ')';
	END LOOP;
END
$$;
-- One run: events in the given order, over so many partitions, in batches of
-- so many, with silences in which rows are shown before their time.
CREATE PROCEDURE run(run text, arrival text, partitions int, batch int, lateness interval DEFAULT NULL, emit text DEFAULT 'closed', seed float DEFAULT 0)
LANGUAGE plpgsql AS $$
DECLARE
	e record;
	n bigint := 0;
	t text;
	columns text;
BEGIN
	PERFORM setseed(seed);
	PERFORM clickstream.create_stream('s095', extra_columns => 'amount numeric', watermark_delay => '60 seconds', idle_timeout => '1 minute',
		max_future => NULL, filter => $f$page_url <> '/end'$f$);
	CALL define(lateness, emit);
	PERFORM set_config('clickstream.batch_messages', batch::text, false);
	PERFORM set_config('clickstream.mock_clock', '2024-06-01 21:00+00', false);
	COMMIT;
	-- every partition speaks first: one that has said nothing lets the others go on without it
	FOR i IN 0 .. partitions - 1 LOOP
		PERFORM clickstream.produce('s095', '{"event_time": "2024-06-01T20:00Z", "page_url": "/end"}', partition => i,
			message_timestamp => '2024-06-01 20:00+00');
	END LOOP;
	FOR e IN EXECUTE format('SELECT to_jsonb(e) - ARRAY[''lag'', ''delay''] AS payload, event_time FROM event e ORDER BY %s', arrival) LOOP
		PERFORM clickstream.produce('s095', e.payload::text, partition => trunc(random() * partitions)::int, message_timestamp => e.event_time);
		n := n + 1;
		IF n % 100 = 0 THEN
			-- the clock is where the events are; now and then it is silent for a while
			PERFORM set_config('clickstream.mock_clock', (e.event_time + CASE WHEN random() < 0.5 THEN interval '1 minute 30 seconds'
				ELSE interval '1 second' END)::text, false);
			COMMIT;
			CALL clickstream.process('s095');
		END IF;
	END LOOP;
	-- filtered events, which move every partition's watermark to the same end
	FOR i IN 0 .. partitions - 1 LOOP
		PERFORM clickstream.produce('s095', '{"event_time": "2024-06-03T00:00Z", "page_url": "/end"}', partition => i,
			message_timestamp => '2024-06-03 00:00+00');
	END LOOP;
	COMMIT;
	CALL clickstream.process('s095');
	CALL clickstream.finish('s095');
	FOR t, columns IN SELECT c.relname, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
			FROM clickstream.definition d JOIN pg_class c ON c.oid = d.table_oid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
			WHERE c.relnamespace = 't095'::regnamespace AND a.attname NOT IN ('session_id', 'attempt_id', 'revision') GROUP BY 1 LOOP
		EXECUTE format('INSERT INTO result SELECT %L, %L, string_agg(r::text, E''\n'' ORDER BY r::text) FROM (SELECT %s FROM t095.%I) r',
			run, t, columns, t);
	END LOOP;
	PERFORM clickstream.drop_stream('s095');
END
$$;
-- which differ from another run, if any do, and in how many lines
CREATE FUNCTION differing(run text, from_run text, OUT name text, OUT lines bigint) RETURNS SETOF record LANGUAGE sql AS $$
SELECT r.name, (SELECT count(*) FROM ((SELECT unnest(string_to_array(r.content, E'\n')) EXCEPT ALL SELECT unnest(string_to_array(o.content, E'\n')))
	UNION ALL (SELECT unnest(string_to_array(o.content, E'\n')) EXCEPT ALL SELECT unnest(string_to_array(r.content, E'\n')))) d)
FROM result r JOIN result o ON o.name = r.name AND o.run = from_run WHERE r.run = differing.run AND r.content IS DISTINCT FROM o.content ORDER BY 1
$$;

CALL run('sorted', 'event_time', 1, 100000);
CALL run('permuted', $$event_time + lag * interval '1 second'$$, 1, 1000);
CALL run('permuted otherwise', $$event_time + (58 - lag) * interval '1 second'$$, 1, 7, seed => :seed / 1000000.0);
CALL run('over partitions', $$event_time + lag * interval '1 second'$$, 3, 100, seed => (:seed + 1) / 1000000.0);
CALL run('one by one', $$event_time + random() * 58 * interval '1 second'$$, 4, 1, emit => 'changes', seed => (:seed + 2) / 1000000.0);
SELECT name, content IS NOT NULL AS has_rows FROM result WHERE run = 'sorted' ORDER BY name;
SELECT run, d.* FROM (VALUES ('permuted'), ('permuted otherwise'), ('over partitions'), ('one by one')) AS v (run), differing(run, 'sorted') d;

-- With events up to 25 minutes late, and half an hour allowed: the same again.
CALL run('late', $$event_time + (lag + delay) * interval '1 second'$$, 1, 1000, '30 minutes');
CALL run('late, shown', $$event_time + (lag + delay) * interval '1 second'$$, 2, 13, '30 minutes', 'changes', seed => (:seed + 3) / 1000000.0);
CALL run('late otherwise', $$event_time + random() * 1500 * interval '1 second'$$, 3, 250, '30 minutes', seed => (:seed + 4) / 1000000.0);
SELECT run, d.* FROM (VALUES ('late'), ('late, shown'), ('late otherwise')) AS v (run), differing(run, 'sorted') d;
-- without it they are missing: the comparison can fail
CALL run('late, not allowed', $$event_time + (lag + delay) * interval '1 second'$$, 1, 1000);
SELECT count(*) > 12 AS most_tables_differ FROM differing('late, not allowed', 'sorted');
RESET clickstream.batch_messages;
RESET clickstream.mock_clock;
DROP SCHEMA t095 CASCADE;
