-- An event that is too late for some of a definition's windows, and not for all, comes
-- behind what its watermark closes: in parts, too, where that is much.  Whatever
-- the size of parts and batches, live, spilled, from the event log and from the topic
-- the rows are those of plain SQL.  Another seed: CLICKSTREAM_SEED=…
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 434
\endif
\echo seed :seed
CREATE SCHEMA t434;
SET search_path = t434;
SELECT setseed(:seed / 1000000.0);
-- a quarter of them late by up to an hour; every now and then time makes a leap
CREATE TABLE event AS
SELECT i, '2024-06-01 10:00+00'::timestamptz + (i * 12 + i / 60 * 3000) * interval '1 second'
	- CASE WHEN random() < 0.25 THEN trunc(random() * 3600000) ELSE 0 END * interval '1 ms' AS event_time,
	'u' || trunc(random() * 30)::int AS user_id, trunc(random() * 100)::int AS amount FROM generate_series(0, 359) AS i;
CREATE VIEW met AS
SELECT *, max(event_time) OVER (ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - interval '1 minute' AS watermark FROM event;
CREATE VIEW plain AS
SELECT 'hops' AS name, s AS window_start, s + interval '1 hour' AS window_end, user_id, count(*) AS n, sum(amount) AS amount
FROM met, generate_series(date_bin('10 minutes', event_time, '2024-06-01+00') - interval '50 minutes', date_bin('10 minutes', event_time, '2024-06-01+00'), '10 minutes') AS s
WHERE watermark IS NULL OR watermark < s + interval '1 hour' - interval '1 ms' GROUP BY 2, 3, 4
UNION ALL
SELECT 'steps', date_bin('2 hours', event_time, '2024-06-01+00'), s, user_id, count(*), sum(amount)
FROM met, generate_series(date_bin('15 minutes', event_time, '2024-06-01+00') + interval '15 minutes', date_bin('2 hours', event_time, '2024-06-01+00') + interval '2 hours', '15 minutes') AS s
WHERE watermark IS NULL OR watermark < s - interval '1 ms' GROUP BY 2, 3, 4;
CREATE PROCEDURE define(suffix text, backfill boolean DEFAULT false) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format($c$SELECT clickstream.create_window('t434.hops%1$s', stream => 's434', size => '1 hour', slide => '10 minutes', emit => 'closed', backfill => %2$L,
		group_by => 'user_id', measures => 'count(*) AS n, sum(amount) AS amount')$c$, suffix, backfill);
	EXECUTE format($c$SELECT clickstream.create_window('t434.steps%1$s', stream => 's434', size => '2 hours', step => '15 minutes', emit => 'closed', backfill => %2$L,
		group_by => 'user_id', measures => 'count(*) AS n, sum(amount) AS amount')$c$, suffix, backfill);
END
$$;
CREATE TABLE result (run text, name text, differing bigint, rows bigint, late bigint, dead bigint, most bigint);
-- The most rows of one transaction are of before finish().
CREATE PROCEDURE run(run text, at_once int, spill int, log boolean DEFAULT false, batch int DEFAULT 400000) LANGUAGE plpgsql AS $$
DECLARE
	suffix text;
	name text;
	most bigint;
BEGIN
	PERFORM set_config('clickstream.force_closings', at_once::text, false), set_config('clickstream.force_spill', spill::text, false),
		set_config('clickstream.batch_messages', batch::text, false);
	PERFORM clickstream.create_stream('s434', extra_columns => 'amount int', watermark_delay => '1 minute', idle_timeout => '1 day', max_future => NULL);
	IF log THEN
		PERFORM clickstream.create_event_log('t434.log', stream => 's434');
	END IF;
	CALL t434.define('');
	PERFORM clickstream.produce('s434', m) FROM (SELECT i, (to_jsonb(e) - 'i')::text AS m FROM t434.event AS e
		UNION ALL SELECT i, '{broken' FROM generate_series(7, 359, 20) AS i ORDER BY 1, 2) AS m;
	COMMIT;
	CALL clickstream.process('s434');
	CALL t434.define('_again', true);
	COMMIT;
	CALL clickstream.process('s434');
	FOREACH suffix IN ARRAY '{"",_again}'::text[] LOOP
		FOREACH name IN ARRAY '{hops,steps}'::text[] LOOP
			EXECUTE format('INSERT INTO t434.result SELECT %L, %L, NULL, NULL, NULL, NULL, max(n) FROM (SELECT count(*) AS n FROM t434.%I GROUP BY xmin) AS x',
				run, name || suffix, name || suffix);
		END LOOP;
	END LOOP;
	CALL clickstream.finish('s434');
	FOREACH suffix IN ARRAY '{"",_again}'::text[] LOOP
		FOREACH name IN ARRAY '{hops,steps}'::text[] LOOP
			EXECUTE format($c$
				WITH ours AS (SELECT window_start, window_end, user_id, n, amount FROM t434.%1$I),
					plain AS (SELECT window_start, window_end, user_id, n, amount FROM t434.plain WHERE name = %2$L)
				UPDATE t434.result AS r SET rows = (SELECT count(*) FROM ours),
					differing = (SELECT count(*) FROM ((TABLE ours EXCEPT ALL TABLE plain) UNION ALL (TABLE plain EXCEPT ALL TABLE ours)) AS d),
					late = (SELECT count(*) FROM clickstream.late_event AS l WHERE l.stream = 's434' AND l.definition = 't434.%1$I'::regclass),
					dead = (SELECT count(*) FROM clickstream.dead_letter AS d WHERE d.stream = 's434')
				WHERE r.run = %3$L AND r.name = %1$L $c$, name || suffix, name, run);
		END LOOP;
	END LOOP;
	PERFORM clickstream.drop_stream('s434');
END
$$;
CALL run('whole', 0, -1);
CALL run('one', 1, -1);
CALL run('seven', 7, -1);
CALL run('seven, small batches', 7, -1, batch => 13);
CALL run('seven, log', 7, -1, log => true);
CALL run('seven, spilled', 7, 0);
CALL run('seven, spilled, log', 7, 0, log => true);
SELECT run, name, differing FROM result WHERE differing <> 0 ORDER BY 1, 2;
SELECT name, count(DISTINCT (rows, late)) AS results, max(dead) AS dead, count(*) AS runs FROM result GROUP BY 1 ORDER BY 1;
-- what one transaction would write otherwise, and what it does
SELECT run, bool_and(most > 100) AS much, bool_and(most < 60) AS little FROM result GROUP BY 1 ORDER BY 1;
RESET clickstream.force_closings;
RESET clickstream.force_spill;
RESET clickstream.batch_messages;
DROP SCHEMA t434 CASCADE;
