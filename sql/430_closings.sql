-- What a batch may not close at once is closed in parts: each table is as with
-- one large transaction, with late events, after restarts, read back from the
-- spill table, and in a definition that is filled with history.  Readers
-- see each window once while it goes on.  Another seed: CLICKSTREAM_SEED=…
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 430
\endif
\echo seed :seed
CREATE SCHEMA t430;
SET search_path = t430;
SELECT setseed(:seed / 1000000.0);
CREATE TABLE event AS
SELECT i, t AS event_time, 'u' || trunc(power(random(), 1.5) * 60)::int AS user_id, '/' || trunc(random() * 30)::int AS page_url,
	trunc(random() * 100)::int AS amount,
	t + (random() * 55 + CASE WHEN random() < 0.1 THEN random() * 2400 ELSE 0 END) * interval '1 second' AS arrival
FROM (SELECT i, '2024-06-01 20:30+00'::timestamptz + trunc(random() * 10800000) * interval '1 ms' AS t FROM generate_series(1, 900) AS i) AS times;
CREATE TABLE result (run text, name text, content text, revisions bigint);
CREATE PROCEDURE define(stream text, suffix text DEFAULT '', backfill boolean DEFAULT false) LANGUAGE plpgsql AS $$
DECLARE
	late text;
	tag text;
BEGIN
	FOREACH tag IN ARRAY '{now,late,shown}'::text[] LOOP
		late := CASE tag WHEN 'now' THEN ', emit => ''closed''' WHEN 'late' THEN ', emit => ''closed'', allowed_lateness => ''30 minutes'''
			ELSE ', emit_interval => ''0'', allowed_lateness => ''30 minutes''' END || format(', stream => %L, backfill => %L', stream, backfill);
		EXECUTE format($c$SELECT clickstream.create_window('t430.tumbling_%1$s%2$s', size => '20 minutes', group_by => 'user_id',
			measures => 'count(*) AS events, count(DISTINCT page_url) AS pages' %3$s)$c$, tag, suffix, late);
		-- carried from slide to slide, and put together from cells
		EXECUTE format($c$SELECT clickstream.create_window('t430.hopping_%1$s%2$s', size => '40 minutes', slide => '10 minutes', group_by => 'user_id',
			measures => 'count(*) AS events, count(DISTINCT page_url) AS pages' %3$s)$c$, tag, suffix, late);
		EXECUTE format($c$SELECT clickstream.create_window('t430.merged_%1$s%2$s', size => '30 minutes', slide => '10 minutes', group_by => 'user_id',
			measures => 'sum(amount) AS amount, count(DISTINCT page_url) AS pages' %3$s)$c$, tag, suffix, late);
		EXECUTE format($c$SELECT clickstream.create_window('t430.cumulative_%1$s%2$s', size => '1 hour', step => '10 minutes', group_by => 'user_id',
			measures => 'sum(amount) AS amount, count(DISTINCT page_url) AS pages' %3$s)$c$, tag, suffix, late);
		CONTINUE WHEN tag <> 'now'; -- who is one too many depends on batches with late events
		EXECUTE format($c$SELECT clickstream.create_window('t430.limited_%1$s%2$s', size => '1 hour', step => '20 minutes', group_by => 'user_id', group_limit => 20,
			measures => 'sum(amount) AS amount' %3$s)$c$, tag, suffix, late);
	END LOOP;
	EXECUTE format($c$SELECT clickstream.create_session('t430.visits%1$s', gap => '10 minutes', stream => %2$L, backfill => %3$L)$c$, suffix, stream, backfill);
END
$$;
CREATE PROCEDURE keep(run text, suffix text DEFAULT '') LANGUAGE plpgsql AS $$
DECLARE
	t text;
	name text;
BEGIN
	FOR t, name IN SELECT relname, left(relname, -length(suffix)) FROM clickstream.definition AS d JOIN pg_class AS c ON c.oid = d.table_oid
			WHERE relnamespace = 't430'::regnamespace AND relname <> 'log' AND suffix = CASE WHEN relname ~ '_filled$' THEN '_filled' ELSE '' END LOOP
		IF suffix = '' THEN
			name := t;
		END IF;
		EXECUTE format('INSERT INTO result SELECT %L, %L, string_agg(line, E''\n'' ORDER BY line), sum(revision)
			FROM (SELECT (to_jsonb(t) - ''{revision,session_id}''::text[])::text AS line, (to_jsonb(t) ->> ''revision'')::int AS revision FROM t430.%I AS t) AS l',
			run, name, t);
	END LOOP;
END
$$;
-- Rows of the live view that are not what plain SQL makes of what was read, and windows that end with an event and are not shown.
CREATE FUNCTION cumulative_differing() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY WITH arrived AS (
		SELECT *, row_number() OVER w - 1 AS place, coalesce(max(event_time) OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), '-infinity') - interval '60 s' AS watermark
		FROM event WINDOW w AS (ORDER BY arrival, i)
	), read AS (
		SELECT a.* FROM arrived AS a, clickstream.partition AS p JOIN clickstream.stream AS s USING (stream_id) WHERE s.name = 's430' AND a.place < p.next_offset
	), counted AS (
		SELECT date_trunc('hour', event_time) AS window_start, date_trunc('hour', event_time) + step * interval '10 minutes' AS window_end, r.*
		FROM read AS r, generate_series(1, 6) AS step
		WHERE event_time < date_trunc('hour', event_time) + step * interval '10 minutes'
			AND watermark < date_trunc('hour', event_time) + step * interval '10 minutes' - interval '1 ms'
	), plain AS (
		SELECT window_start, window_end, user_id, sum(amount) AS amount, count(DISTINCT page_url) AS pages,
			bool_or(bool_or(event_time >= window_end - interval '10 minutes')) OVER (PARTITION BY window_end) AS must
		FROM counted GROUP BY 1, 2, 3
	)
	SELECT format('%s %s %s: %s/%s, is %s/%s', coalesce(l.window_start, p.window_start), coalesce(l.window_end, p.window_end), coalesce(l.user_id, p.user_id),
		l.amount, l.pages, p.amount, p.pages)
	FROM cumulative_now_live AS l FULL JOIN plain AS p ON p.window_start = l.window_start AND p.window_end = l.window_end AND p.user_id = l.user_id
	WHERE (l.amount, l.pages) IS DISTINCT FROM (p.amount, p.pages) AND (p.must OR l.user_id IS NOT NULL);
END
$$;
-- Each CALL is a process of its own to the state, which recovers; with a limit of
-- messages it ends between the parts of a closing.  No window is twice in a live view, nor away, nor counts
-- what it should not.
CREATE PROCEDURE run(run text, at_once int, batch int, calls int, entries int, OUT midway int, OUT wrong bigint) LANGUAGE plpgsql AS $$
DECLARE
	e event;
	n int := 0;
	twice bigint;
BEGIN
	PERFORM clickstream.create_stream('s430', extra_columns => 'amount int', watermark_delay => '60 seconds', idle_timeout => '1 day', max_future => NULL);
	PERFORM clickstream.create_event_log('t430.log', stream => 's430');
	CALL define('s430');
	PERFORM set_config('clickstream.batch_messages', batch::text, false), set_config('clickstream.force_spill', entries::text, false),
		set_config('clickstream.force_closings', at_once::text, false);
	midway := 0;
	wrong := 0;
	COMMIT;
	FOR e IN SELECT * FROM event ORDER BY arrival, i LOOP
		PERFORM clickstream.produce('s430', (to_jsonb(e) - ARRAY['i', 'arrival'])::text, message_timestamp => e.event_time);
		n := n + 1;
		CONTINUE WHEN n % (900 / calls) <> 0;
		COMMIT;
		CALL clickstream.process('s430', least(batch, 900 / calls));
		IF calls > 3 AND (SELECT closed IS DISTINCT FROM watermark FROM clickstream.progress JOIN clickstream.stream USING (stream_id) WHERE name = 's430') THEN
			midway := midway + 1;
			SELECT count(*) INTO twice FROM (
				SELECT FROM hopping_now_live GROUP BY window_start, user_id HAVING count(*) > 1
				UNION ALL SELECT FROM cumulative_now_live GROUP BY window_start, window_end, user_id HAVING count(*) > 1
				UNION ALL SELECT FROM tumbling_late_live GROUP BY window_start, user_id HAVING count(*) > 1) AS t;
			wrong := wrong + twice + (SELECT count(*) FROM (SELECT window_start, sum(amount) AS amount FROM merged_now_live GROUP BY 1) AS shown
				WHERE amount < (SELECT sum(m.amount) FROM merged_now AS m WHERE m.window_start = shown.window_start))
				+ (SELECT count(*) FROM cumulative_differing());
		END IF;
	END LOOP;
	CALL clickstream.process('s430');
	CALL clickstream.finish('s430');
	CALL keep(run);
END
$$;
CREATE FUNCTION differing(run text, from_run text DEFAULT 'whole', OUT name text, OUT lines bigint) RETURNS SETOF record LANGUAGE sql AS $$
SELECT r.name, (SELECT count(*) FROM ((SELECT unnest(string_to_array(r.content, E'\n')) EXCEPT ALL SELECT unnest(string_to_array(o.content, E'\n')))
	UNION ALL (SELECT unnest(string_to_array(o.content, E'\n')) EXCEPT ALL SELECT unnest(string_to_array(r.content, E'\n')))) AS d)
FROM result AS r JOIN result AS o ON o.name = r.name AND o.run = from_run WHERE r.run = differing.run AND r.content IS DISTINCT FROM o.content ORDER BY 1
$$;
CALL run('whole', 0, 100000, 1, -1, NULL, NULL);
SELECT count(*) AS tables, count(content) AS with_rows FROM result;
-- what is there in the end, of history
SET clickstream.force_closings = 5;
CALL define('s430', '_filled', true);
CALL clickstream.process('s430');
SELECT count(*) FROM clickstream.stat_progress;
CALL keep('filled', '_filled');
SELECT count(*) AS filled FROM result WHERE run = 'filled' AND content IS NOT NULL;
SELECT * FROM differing('filled');
-- The most rows that one transaction has written: parts are as large as they should be.
CREATE FUNCTION most_at_once() RETURNS bigint LANGUAGE sql AS $$
SELECT max(n) FROM (SELECT count(*) AS n FROM t430.tumbling_now_filled GROUP BY xmin) AS commits
$$;
SELECT most_at_once() < 30 AS in_parts;
-- and by processes that end in the middle of it, each after a message that says nothing
CREATE PROCEDURE drop_filled() LANGUAGE plpgsql AS $$
DECLARE
	t text;
BEGIN
	FOR t IN SELECT d.table_oid::regclass FROM clickstream.definition AS d JOIN pg_class AS c ON c.oid = d.table_oid
			WHERE relnamespace = 't430'::regnamespace AND relname ~ '_filled$' LOOP
		PERFORM clickstream.drop_window(t) WHERE t !~ 'visits';
		PERFORM clickstream.drop_session(t) WHERE t ~ 'visits';
	END LOOP;
	DELETE FROM result WHERE run = 'filled';
END
$$;
CREATE PROCEDURE fill(OUT midway int) LANGUAGE plpgsql AS $$
BEGIN
	CALL drop_filled();
	CALL define('s430', '_filled', true);
	midway := 0;
	FOR i IN 1 .. 2000 LOOP
		PERFORM clickstream.produce('s430', NULL);
		COMMIT;
		CALL clickstream.process('s430', 1);
		midway := midway + (SELECT (count(*) > 0)::int FROM clickstream.backfill WHERE closing > coalesce(watermark, '-infinity'));
		EXIT WHEN NOT EXISTS (SELECT FROM clickstream.stat_progress);
	END LOOP;
	CALL keep('filled', '_filled');
END
$$;
\t on
\o /dev/null
CALL fill(NULL) \gset
\o
\t off
SELECT :midway > 20 AS often_in_the_middle, most_at_once() < 30 AS in_parts;
SELECT count(*) FROM clickstream.stat_progress;
SELECT count(*) AS filled FROM result WHERE run = 'filled' AND content IS NOT NULL;
SELECT * FROM differing('filled');
-- of the topic itself
SELECT clickstream.drop_event_log('t430.log');
CALL drop_filled();
CALL define('s430', '_filled', true);
CALL clickstream.process('s430');
SELECT most_at_once() < 30 AS in_parts;
SELECT count(*) FROM clickstream.stat_progress;
CALL keep('filled', '_filled');
SELECT count(*) AS filled FROM result WHERE run = 'filled' AND content IS NOT NULL;
SELECT * FROM differing('filled');
SELECT clickstream.drop_stream('s430');
CALL run('batches', 0, 20, 1, -1, NULL, NULL);
SELECT * FROM differing('batches');
SELECT clickstream.drop_stream('s430');
CALL run('in parts', 5, 20, 1, -1, NULL, NULL);
SELECT * FROM differing('in parts');
SELECT * FROM differing('in parts', 'batches');
SELECT clickstream.drop_stream('s430');
-- one at a time, and each batch in another process
\t on
\o /dev/null
CALL run('restarts', 7, 10, 90, -1, NULL, NULL) \gset
\o
\t off
SELECT :midway > 5 AS often_in_the_middle, :wrong AS wrong;
SELECT * FROM differing('restarts');
SELECT clickstream.drop_stream('s430');
-- the watermark passes some ends of windows at once
\t on
\o /dev/null
CALL run('leaps', 60, 100, 9, -1, NULL, NULL) \gset
\o
\t off
SELECT :midway > 2 AS often_in_the_middle, :wrong AS wrong;
SELECT * FROM differing('leaps');
SELECT clickstream.drop_stream('s430');
-- each message in a batch of its own: then each late one is a revision, wherever the process ended
CALL run('one by one', 0, 1, 1, -1, NULL, NULL);
SELECT clickstream.drop_stream('s430');
\t on
\o /dev/null
CALL run('one by one, restarts', 3, 1, 180, -1, NULL, NULL) \gset
\o
\t off
SELECT :midway > 5 AS often_in_the_middle, :wrong AS wrong;
SELECT * FROM differing('one by one, restarts', 'one by one');
SELECT name, one.revisions, r.revisions AS with_restarts FROM result AS r JOIN result AS one USING (name)
WHERE one.run = 'one by one' AND r.run = 'one by one, restarts' AND r.revisions IS DISTINCT FROM one.revisions ORDER BY 1;
SELECT count(*) AS with_revisions FROM result WHERE run = 'one by one' AND revisions > 0;
SELECT clickstream.drop_stream('s430');
CALL run('spilled', 5, 50, 3, 0, NULL, NULL);
SELECT * FROM differing('spilled');
SELECT name, balanced FROM clickstream.audit('s430') AS a, (VALUES ('s430')) AS s (name) WHERE NOT balanced;
SELECT clickstream.drop_stream('s430');
RESET clickstream.force_spill;
SET clickstream.force_closings = 5;
-- The entry that says how far it has come cannot be given up.
SET clickstream.batch_messages = 10;
SELECT clickstream.create_stream('s430', idle_timeout => '1 day', watermark_delay => '10 seconds') > 0 AS made;
SELECT clickstream.create_window('hourly', stream => 's430', size => '1 hour', slide => '30 minutes', group_by => 'user_id', measures => 'count(*) AS n', emit => 'closed');
SELECT count(clickstream.produce('s430', format('{"user_id": "u%s", "event_time": "2024-06-01T10:%s:00Z"}', i, lpad(i::text, 2, '0')))) FROM generate_series(30, 59) AS i;
CALL clickstream.process('s430');
SELECT clickstream.produce('s430', '{"user_id": "fast", "event_time": "2024-06-01T15:00:00Z"}');
SET clickstream.mutant = 'damage_entry';
CALL clickstream.process('s430', 1);
RESET clickstream.mutant;
CALL clickstream.process('s430');
SELECT test.at(window_start) AS start, problem, loss FROM clickstream.damaged_state('s430') ORDER BY window_start;
SELECT * FROM clickstream.discard_damaged_state('s430');
SELECT clickstream.drop_window('hourly');
CALL clickstream.process('s430');
SELECT clickstream.drop_stream('s430');
RESET clickstream.force_closings;
RESET clickstream.force_spill;
RESET clickstream.batch_messages;
DROP SCHEMA t430 CASCADE;
