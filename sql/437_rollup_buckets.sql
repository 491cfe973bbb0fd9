-- A rollup's bucket becomes final in one commit, however little a batch may close: a row that falls into it later finds it final
-- or open, and never a part of it.  Another seed: CLICKSTREAM_SEED=… in the environment.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 437
\endif
\echo seed :seed
CREATE SCHEMA t437;
SET search_path = t437;
SELECT setseed(:seed / 1000000.0);

CREATE PROCEDURE define(stream text, suffix text DEFAULT '') LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.create_stream(stream, watermark_delay => '0 s', idle_timeout => '1 day');
	PERFORM clickstream.create_session('visits' || suffix, stream => stream, gap => '30 minutes', measures => 'first(page_url) AS page, count(*) AS events');
	PERFORM clickstream.create_rollup('closed' || suffix, source => ('visits' || suffix)::regclass, size => '1 hour', group_by => 'page',
		measures => 'count(*) AS visits, sum(events) AS events', emit => 'closed');
	PERFORM clickstream.create_rollup('shown' || suffix, source => ('visits' || suffix)::regclass, size => '1 hour', group_by => 'page',
		measures => 'count(*) AS visits, sum(events) AS events', emit_interval => '0');
END
$$;

-- Two sessions close in one bucket, then a late event moves a longer one's start into it: after 1 to 8 messages, so that the
-- closing has come some way.
CREATE TABLE outcome (run text, t text, content text);
CREATE PROCEDURE move(closings int, after int) LANGUAGE plpgsql AS $$
DECLARE
	n int := 0;
	m record;
BEGIN
	PERFORM set_config('clickstream.force_closings', closings::text, false);
	CALL define('s437');
	FOR m IN SELECT * FROM (VALUES (1, 'a', interval '10:05', '/p'), (2, 'b', '10:06', '/q'), (9, 'd', '10:50', '/p'), (10, 'e', '12:30', '/x'), (11, 'e', '12:31', '/x'), (12, 'f', '14:30', '/x')) AS m(i, visitor, at, page)
			UNION ALL SELECT 2 + k, 'd', interval '11:05' + k * interval '2 minutes', '/x' FROM generate_series(1, after) AS k ORDER BY 1 LOOP
		PERFORM clickstream.produce('s437', json_build_object('user_id', m.visitor, 'event_time', '2024-06-01'::timestamptz + m.at, 'page_url', m.page)::text);
		CALL clickstream.process('s437', 1);
	END LOOP;
	CALL clickstream.finish('s437');
	INSERT INTO outcome SELECT format('closings %s, after %s', closings, after), 'closed', string_agg(format('%s %s: %s/%s', window_start::time, page, visits, events), ', ' ORDER BY window_start, page) FROM closed WHERE is_final
		UNION ALL SELECT format('closings %s, after %s', closings, after), 'shown', string_agg(format('%s %s: %s/%s', window_start::time, page, visits, events), ', ' ORDER BY window_start, page) FROM shown WHERE is_final;
	PERFORM clickstream.drop_stream('s437');
END
$$;
CALL move(1, 1);
CALL move(0, 2);
CALL move(1, 2);
CALL move(1, 3);
CALL move(1, 5);
SELECT * FROM outcome ORDER BY t, substr(run, 12), run;
-- Random visits, some of whose events come late, in one batch and in parts.
CREATE TABLE event AS
SELECT i, 'u' || trunc(random() * 10) AS visitor, '2024-06-01 09:00+00'::timestamptz + trunc(random() * 36000) * interval '1 s' AS at, '/' || trunc(random() * 6) AS page, random() AS r
FROM generate_series(1, 120) AS i;
ALTER TABLE event ADD arrival interval;
UPDATE event SET arrival = at - '2024-06-01' + CASE WHEN r < 0.15 THEN random() * interval '2 hours' ELSE '0' END;
CREATE TABLE compared (run text, t text, rows bigint, differs bigint);
CREATE PROCEDURE run(suffix text, closings int, parts int) LANGUAGE plpgsql AS $$
DECLARE
	t text;
BEGIN
	CALL define('r' || suffix, '_' || suffix);
	PERFORM count(clickstream.produce('r' || suffix, json_build_object('user_id', visitor, 'event_time', at, 'page_url', page)::text)) FROM (SELECT * FROM event ORDER BY arrival, i) AS e;
	PERFORM set_config('clickstream.force_closings', closings::text, false), set_config('clickstream.batch_messages', (120 / parts)::text, false);
	COMMIT;
	FOR i IN 1 .. parts LOOP
		CALL clickstream.process('r' || suffix, 120 / parts);
	END LOOP;
	CALL clickstream.finish('r' || suffix);
	FOREACH t IN ARRAY '{closed,shown}'::text[] LOOP
		EXECUTE format($c$
			WITH plain AS (SELECT date_trunc('hour', session_start) AS window_start, page, count(*) AS visits, sum(events)::bigint AS events FROM visits_whole WHERE closed_reason IS NOT NULL GROUP BY 1, 2),
			made AS (SELECT window_start, page, visits, events::bigint FROM %I WHERE is_final)
			INSERT INTO compared SELECT %L, %L, (SELECT count(*) FROM made),
				(SELECT count(*) FROM ((TABLE plain EXCEPT ALL TABLE made) UNION ALL (TABLE made EXCEPT ALL TABLE plain)) AS d)$c$, t || '_' || suffix, suffix, t);
	END LOOP;
END
$$;
CALL run('whole', 0, 1);
CALL run('parts', 1, 120);
CALL run('some', 3, 12);
SELECT run, t, rows = (SELECT rows FROM compared WHERE run = 'whole' AND t = 'closed') AS as_many, differs FROM compared ORDER BY 1, 2;
SELECT count(*) > 0 AS late FROM clickstream.late_event WHERE stream = 'rwhole';
SELECT clickstream.drop_stream(s) FROM unnest('{rwhole,rparts,rsome}'::text[]) AS s;
DROP SCHEMA t437 CASCADE;
