-- max_drift: a partition far ahead of the others waits for them, so that state stays small; the tables do not change.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t330;
SET search_path = t330;
SET clickstream.mock_clock = '2024-06-10 12:00:00+00';
CREATE PROCEDURE make(name text, drift interval)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', name);
	PERFORM clickstream.create_stream(name, max_drift => drift);
	PERFORM clickstream.create_window(name || '.hours', stream => name, size => '1 hour', group_by => 'user_id', measures => 'count(*) AS events');
	PERFORM clickstream.create_session(name || '.visits', stream => name, gap => '30 minutes', measures => 'count(*) AS events');
END
$$;
-- five days in each partition: a few events in partition 0, many in partition 1; both are read message for message
CREATE PROCEDURE fill(name text)
LANGUAGE sql AS $$
	SELECT count(clickstream.produce(name, jsonb_build_object('user_id', 'u' || part || '_' || i % 7, 'page_url', '/', 'event_time', t)::text,
		partition => part, message_timestamp => t))
	FROM (SELECT part, i, '2024-06-01 00:00+00'::timestamptz + i * CASE part WHEN 0 THEN interval '20 minutes' ELSE interval '2 minutes' END AS t
		FROM generate_series(0, 1) part, LATERAL generate_series(0, CASE part WHEN 0 THEN 359 ELSE 3599 END) i ORDER BY part, i) e
$$;
CALL make('aligned', '2 hours');
CALL make('loose', NULL);
CALL fill('aligned');
CALL fill('loose');
CREATE TABLE seen (stream text, entries numeric, paused int[], behind interval);
-- a commit each hundred messages, and a look at the state after each
\set ECHO none
SELECT x.sql FROM unnest('{aligned,loose}'::text[]) s, generate_series(1, 40) i, LATERAL (VALUES
	(format('CALL clickstream.process(%L, 100)', s)),
	(format('INSERT INTO seen SELECT %1$L, (SELECT sum(state_entries) FROM clickstream.stat_definition WHERE stream = %1$L), array_agg(partition) FILTER (WHERE paused),
		max(watermark) - min(watermark) FROM clickstream.stat_partition WHERE stream = %1$L', s))) x(sql)
\gexec
\set ECHO all
SELECT stream, count(paused) > 0 AS waits, bool_and(paused = '{0}') AS the_sparse_one, max(behind) < '1 day' AS together, max(entries) < 150 AS small FROM seen GROUP BY 1 ORDER BY 1;
-- all of it was read, and nobody waits at the end
SELECT stream, partition, next_offset, lag, paused FROM clickstream.stat_partition WHERE stream IN ('aligned', 'loose') ORDER BY 1, 2;
CALL clickstream.finish('aligned');
CALL clickstream.finish('loose');
CREATE FUNCTION differences() RETURNS TABLE (what text, differences bigint) LANGUAGE sql AS $$
	SELECT 'hours', count(*) FROM ((TABLE aligned.hours EXCEPT ALL TABLE loose.hours) UNION ALL (TABLE loose.hours EXCEPT ALL TABLE aligned.hours)) x
	UNION ALL
	SELECT 'visits', count(*) FROM ((SELECT to_jsonb(v) - '{session_id,revision,closed_reason}'::text[] FROM aligned.visits v EXCEPT ALL SELECT to_jsonb(v) - '{session_id,revision,closed_reason}'::text[] FROM loose.visits v)
		UNION ALL (SELECT to_jsonb(v) - '{session_id,revision,closed_reason}'::text[] FROM loose.visits v EXCEPT ALL SELECT to_jsonb(v) - '{session_id,revision,closed_reason}'::text[] FROM aligned.visits v)) x
$$;
SELECT * FROM differences();
SELECT count(*) > 500 AS hours, sum(events) AS events FROM aligned.hours;
SELECT partition, consumed, used, late FROM clickstream.audit('aligned');

-- days apart: partition 1 begins where 0 has ended; a third is empty, a fourth ends early
SELECT clickstream.reset(s) FROM unnest('{aligned,loose}'::text[]) s;
DELETE FROM clickstream.local_message m USING clickstream.stream s WHERE s.stream_id = m.stream_id AND s.name IN ('aligned', 'loose');
UPDATE clickstream.local_partition p SET next_offset = 0 FROM clickstream.stream s WHERE s.stream_id = p.stream_id AND s.name IN ('aligned', 'loose');
CREATE PROCEDURE fill_apart(name text)
LANGUAGE sql AS $$
	SELECT count(clickstream.produce(name, jsonb_build_object('user_id', 'u' || part || '_' || i % 7, 'page_url', '/', 'event_time', t)::text,
		partition => part, message_timestamp => t))
	FROM (SELECT part, i, '2024-06-01 00:00+00'::timestamptz + part * interval '2 days' + i * interval '10 minutes' AS t
		FROM generate_series(0, 1) part, generate_series(0, 287) i ORDER BY part, i) e;
	SELECT clickstream.produce(name, NULL, partition => 2);
	SELECT clickstream.produce(name, '{"user_id": "x", "event_time": "2024-06-01 00:00:00"}', partition => 3, message_timestamp => '2024-06-01 00:00+00');
$$;
CALL fill_apart('aligned');
CALL fill_apart('loose');
SET clickstream.batch_messages = 50;
CALL clickstream.process('aligned', 50);
SELECT partition, next_offset < 100 AS begun, paused FROM clickstream.stat_partition WHERE stream = 'aligned' ORDER BY 1;
-- none is waited for at its end
CALL clickstream.process('aligned');
SELECT partition, next_offset, lag, paused, idle FROM clickstream.stat_partition WHERE stream = 'aligned' ORDER BY 1;
CALL clickstream.process('loose');
CALL clickstream.finish('aligned');
CALL clickstream.finish('loose');
RESET clickstream.batch_messages;
SELECT * FROM differences();
SELECT partition, consumed, used, late, empty FROM clickstream.audit('aligned');

-- a worker waits for none that is at its end
RESET clickstream.mock_clock;
SELECT clickstream.alter_stream('aligned', idle_timeout => '2 seconds', max_drift => '1 hour');
SELECT clickstream.reset('aligned');
SELECT clickstream.start('aligned');
CALL clickstream.wait_for('aligned', '5 minutes');
SELECT partition, next_offset FROM clickstream.stat_partition WHERE stream = 'aligned' ORDER BY 1;
CALL clickstream.finish('aligned');
SELECT clickstream.stop('aligned');
SELECT * FROM differences();

SELECT clickstream.alter_stream('aligned', max_drift => '0 seconds');
SELECT clickstream.create_stream('bad', max_drift => '-1 hour');
SELECT clickstream.create_stream('bad', max_drift => '1 month');
SELECT clickstream.drop_stream(s) FROM unnest('{aligned,loose}'::text[]) s;
DROP SCHEMA t330, aligned, loose CASCADE;
