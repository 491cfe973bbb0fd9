-- State that has no room in memory: the same tables as with plenty.
--
-- Every kind of definition, with a commit that leaves nothing in memory but
-- what it has touched: what an event, a closing, a rollup or a restart needs
-- comes back from the spill table.  Entries of several rows and large distinct sets
-- among it.  Another seed: CLICKSTREAM_SEED=… in the environment.
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
CREATE SCHEMA t410;
SET search_path = t410;
SELECT setseed(:seed / 1000000.0);
-- Three hours around midnight in Berlin; every tenth event up to 25 minutes late, every twelfth twice.
CREATE TABLE event AS
SELECT i, t AS event_time, CASE WHEN random() < 0.97 THEN 'v' || trunc(power(random(), 1.5) * 40)::int END AS user_id,
	'/' || trunc(power(random(), 2) * 200)::int AS page_url, CASE WHEN random() < 0.8 THEN 'c' || trunc(random() * 3) END AS utm_campaign,
	round((random() * 100)::numeric, 2) AS amount, 'id' || i AS id, t + (random() * 58 + CASE WHEN random() < 0.1 THEN random() * 1500 ELSE 0 END)
		* interval '1 second' AS arrival
FROM (SELECT row_number() OVER () AS i, '2024-06-01 20:30+00'::timestamptz + trunc(random() * 10800000) * interval '1 ms' AS t
	FROM generate_series(1, 900)) times;
INSERT INTO event SELECT 1000 + i, event_time, user_id, page_url, utm_campaign, amount, id, arrival + random() * interval '40 minutes'
FROM event WHERE i % 12 = 0;
CREATE TABLE result (run text, name text, content text, spilled bigint);
CREATE PROCEDURE define(lateness text, emit text) LANGUAGE plpgsql AS $$
DECLARE
	late text := format(', allowed_lateness => %s, emit => %L, emit_interval => ''0''', coalesce(quote_literal(lateness), '''0'''), emit);
	funnel text := $s$ARRAY[clickstream.step('a', $c$page_url ~ '[123]$'$c$), clickstream.step('b', $c$page_url ~ '[2345]$'$c$),
		clickstream.step('c', $c$page_url ~ '[6-9]$'$c$)]$s$;
	call text;
BEGIN
	FOREACH call IN ARRAY ARRAY[
		$c$create_session('t410.sessions', 's410', gap => '10 minutes'$c$ || late,
		-- an entry of several rows: 12 kB of text
		$c$create_session('t410.cut', 's410', gap => '10 minutes', max_length => '30 minutes', measures => 'count(*) AS events, sum(amount) AS amount,
			count(DISTINCT page_url) AS pages, last(page_url) AS last_page, length(max(repeat(page_url, 4000))) AS text'$c$ || late,
		$c$create_session('t410.split', 's410', gap => '10 minutes', split_on => 'utm_campaign', end_when => $f$page_url = '/5'$f$,
			measures => 'count(*) AS events, max(amount) AS greatest, first(utm_campaign) AS campaign'$c$ || late,
		$c$create_session('t410.daily', 's410', gap => '20 minutes', split_at_midnight => true, time_zone => 'Europe/Berlin'$c$ || late,
		-- one key with all events: a set that grows all the time
		$c$create_session('t410.everybody', 's410', key => $f$'all'$f$, gap => '20 minutes',
			measures => 'count(*) AS events, count(DISTINCT id) AS different, count(DISTINCT user_id) AS visitors'$c$ || late,
		$c$create_funnel('t410.ordered', 's410', within => '20 minutes', steps => $c$ || funnel || late,
		$c$create_funnel('t410.strict', 's410', within => '20 minutes', mode => 'strict', within_exclusive => true, steps => $c$ || funnel || late,
		$c$create_funnel('t410.unordered', 's410', within => '20 minutes', mode => 'unordered', steps => $c$ || funnel || late,
		$c$create_funnel('t410.optional', 's410', within => '30 minutes', breakdown => 'utm_campaign', strict_increase => true,
			exclusions => ARRAY[clickstream.exclusion($f$page_url = '/5'$f$, 'a', 'c')],
			steps => ARRAY[clickstream.step('a', $f$page_url ~ '[123]$'$f$), clickstream.step('b', $f$page_url ~ '2$'$f$, optional => true),
				clickstream.step('c', $f$page_url ~ '[67]$'$f$)]$c$ || late,
		$c$create_window('t410.tumbling', 's410', size => '10 minutes', group_by => 'utm_campaign', measures => 'count(*) AS events,
			count(DISTINCT user_id) AS visitors, count(DISTINCT id) AS different, sum(amount) AS amount, avg(amount) AS average,
			first(amount) AS first_amount, last(amount) AS last_amount'$c$ || late,
		$c$create_window('t410.few', 's410', size => '1 hour', group_by => 'page_url', group_limit => 20, measures => 'count(*) AS events'$c$ || late,
		$c$create_window('t410.hopping', 's410', size => '50 minutes', slide => '10 minutes', group_by => 'user_id',
			measures => 'count(*) AS events, count(DISTINCT page_url) AS pages'$c$ || late,
		$c$create_window('t410.merged', 's410', size => '50 minutes', slide => '10 minutes',
			measures => 'sum(amount) AS amount, last(page_url) AS page, count(DISTINCT id) AS different'$c$ || late,
		$c$create_window('t410.cumulative', 's410', size => '1 hour', step => '10 minutes', group_by => 'utm_campaign',
			measures => 'count(*) AS events, count(DISTINCT page_url) AS pages'$c$ || late,
		$c$create_window('t410.days', 's410', size => '1 day', time_zone => 'Europe/Berlin', group_by => 'utm_campaign',
			measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, avg(amount) AS average'$c$ || late,
		$c$create_rollup('t410.rolled', source => 't410.sessions', size => '10 minutes', emit_interval => '0',
			measures => 'count(*) AS total, avg(session_duration_seconds) AS duration, sum(event_count) AS events'$c$,
		$c$create_rollup('t410.by_day', source => 't410.split', size => '30 minutes', group_by => 'closed_reason, campaign', emit_interval => '0',
			measures => 'count(*) AS total, max(greatest) AS greatest, count(DISTINCT session_id) AS different'$c$,
		$c$create_rollup('t410.rates', source => 't410.ordered', size => '10 minutes', group_by => 'level', emit_interval => '0', measures => 'count(*) AS attempts'$c$,
		$c$create_rollup('t410.deeper', source => 't410.strict', size => '1 hour', filter => 'level > 1', emit_interval => '0',
			measures => 'count(*) AS attempts, max(level) AS level'$c$] LOOP
		EXECUTE 'SELECT clickstream.' || call || ')';
	END LOOP;
END
$$;
-- One run: so many entries stay in memory, batches of so many messages; each
-- CALL is a process of its own to the state, which recovers.
CREATE PROCEDURE run(run text, entries int, batch int, calls int, lateness text DEFAULT NULL, emit text DEFAULT 'closed') LANGUAGE plpgsql AS $$
DECLARE
	e event;
	n int := 0;
	id int;
	most bigint := 0;
	now bigint;
	t text;
	columns text;
BEGIN
	id := clickstream.create_stream('s410', extra_columns => 'amount numeric, id text', watermark_delay => '60 seconds', idle_timeout => '1 day',
		max_future => NULL, filter => $f$page_url <> '/end'$f$, dedupe_by => 'id', dedupe_horizon => '1 hour');
	CALL define(lateness, emit);
	PERFORM set_config('clickstream.batch_messages', batch::text, false), set_config('clickstream.force_spill', entries::text, false);
	COMMIT;
	FOR e IN SELECT * FROM event ORDER BY arrival, i LOOP
		PERFORM clickstream.produce('s410', (to_jsonb(e) - ARRAY['i', 'arrival'])::text, message_timestamp => e.event_time);
		n := n + 1;
		IF n % (1000 / calls) = 0 THEN
			COMMIT;
			CALL clickstream.process('s410');
			EXECUTE format('SELECT count(*) FROM clickstream.state_spill_%s', id) INTO now;
			most := greatest(most, now);
		END IF;
	END LOOP;
	PERFORM clickstream.produce('s410', '{"event_time": "2024-06-03T00:00Z", "page_url": "/end"}', message_timestamp => '2024-06-03 00:00+00');
	COMMIT;
	CALL clickstream.process('s410');
	CALL clickstream.finish('s410');
	EXECUTE format('SELECT count(*) FROM clickstream.state_spill_%s', id) INTO now;
	FOR t, columns IN SELECT c.relname, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
			FROM clickstream.definition d JOIN pg_class c ON c.oid = d.table_oid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
			WHERE c.relnamespace = 't410'::regnamespace AND a.attname <> 'revision' GROUP BY 1 LOOP
		EXECUTE format('INSERT INTO result SELECT %L, %L, string_agg(r::text, E''\n'' ORDER BY r::text) FROM (SELECT %s FROM t410.%I) r',
			run, t, columns, t);
	END LOOP;
	INSERT INTO result SELECT run, 'ledger', l::text FROM test.ledger l WHERE stream = 's410';
	INSERT INTO result VALUES (run, 'rows', NULL, most), (run, 'rows at the end', NULL, now);
	PERFORM clickstream.drop_stream('s410');
END
$$;
CREATE FUNCTION differing(run text, from_run text, OUT name text, OUT lines bigint) RETURNS SETOF record LANGUAGE sql AS $$
SELECT r.name, (SELECT count(*) FROM ((SELECT unnest(string_to_array(r.content, E'\n')) EXCEPT ALL SELECT unnest(string_to_array(o.content, E'\n')))
	UNION ALL (SELECT unnest(string_to_array(o.content, E'\n')) EXCEPT ALL SELECT unnest(string_to_array(r.content, E'\n')))) d)
FROM result r JOIN result o ON o.name = r.name AND o.run = from_run WHERE r.run = differing.run AND r.content IS DISTINCT FROM o.content ORDER BY 1
$$;
CALL run('plain', -1, 100000, 2);
CALL run('spilled', 0, 20, 2);
CALL run('spilled, restarts', 0, 100000, 40);
CALL run('some spilled', 150, 7, 10);
SELECT name, content IS NOT NULL AS has_rows FROM result WHERE run = 'plain' AND spilled IS NULL ORDER BY name;
SELECT run, d.* FROM (VALUES ('spilled'), ('spilled, restarts'), ('some spilled')) AS v (run), differing(run, 'plain') d;

-- late events that count, rows that are shown before
CALL run('late', -1, 100000, 2, '30 minutes');
CALL run('late, spilled', 0, 50, 5, '30 minutes');
CALL run('late, shown', -1, 100000, 10, '30 minutes', 'changes');
CALL run('late, shown, spilled', 0, 100, 10, '30 minutes', 'changes');
SELECT run, d.* FROM (VALUES ('late, spilled', 'late'), ('late, shown', 'late'), ('late, shown, spilled', 'late')) AS v (run, from_run), differing(run, from_run) d;
SELECT run, name, CASE WHEN name = 'rows' THEN spilled > 30 ELSE spilled > 0 END AS spilled FROM result WHERE spilled IS NOT NULL ORDER BY run, name;

-- what goes wrong is noticed: tables differ, or a row is in the way of another one
CREATE PROCEDURE run_wrong(mutant text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.drop_stream(name) FROM clickstream.stream WHERE name = 's410';
	PERFORM set_config('clickstream.mutant', mutant, false);
	CALL run(mutant, 0, 20, 2);
END
$$;
\set VERBOSITY sqlstate
CALL run_wrong('spill_not_due');
CALL run_wrong('spill_stale_row');
CALL run_wrong('spill_forgets');
\set VERBOSITY default
SELECT count(*) > 10 AS most_tables_differ FROM differing('spill_not_due', 'plain');
RESET clickstream.mutant;
RESET clickstream.batch_messages;
RESET clickstream.force_spill;
SELECT clickstream.drop_stream('s410');
DROP SCHEMA t410 CASCADE;
