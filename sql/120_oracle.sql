-- A random stream, out of order within the lag condition, against the same
-- questions asked in plain SQL over the same rows.
-- Another seed: CLICKSTREAM_SEED=… in the environment.
SET timezone = 'UTC';
SET datestyle = 'ISO';
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\echo seed :seed
CREATE SCHEMA oracle;
SET search_path = oracle;
SELECT setseed(:seed / 1000000.0);
-- whole seconds, so that ties and distances of exactly the gap are frequent;
-- an event lags its partition's newest by less than 58 seconds
CREATE TABLE event AS
SELECT i,
	'2024-06-01 00:00+00'::timestamptz + trunc(random() * 36000) * interval '1 second' AS event_time,
	CASE WHEN random() < 0.97 THEN 'v' || trunc(power(random(), 2) * 40)::int END AS user_id,
	CASE WHEN random() < 0.9 THEN '/' || trunc(random() * 12)::int END AS page_url,
	(ARRAY['page_view', 'page_view', 'click', 'purchase'])[1 + trunc(random() * 4)::int] AS event_type,
	CASE WHEN random() < 0.5 THEN (ARRAY['mobile', 'desktop'])[1 + trunc(random() * 2)::int] END AS device_type,
	round((random() * 100)::numeric, 2) AS amount,
	trunc(random() * 3)::int AS partition,
	random() * 58 AS lag,
	NULL::bigint AS message_offset
FROM generate_series(1, 5000) i;
ALTER TABLE event ADD PRIMARY KEY (i);
SELECT clickstream.create_stream('oracle', extra_columns => 'amount numeric', watermark_delay => '60 seconds') > 0 AS made;
SELECT clickstream.create_session('sessions', stream => 'oracle', gap => '10 minutes', max_length => NULL);
SELECT clickstream.create_session('cut_sessions', stream => 'oracle', gap => '10 minutes', max_length => '30 minutes',
	measures => 'count(*) AS event_count, sum(amount) AS amount, last(page_url) AS last_page', filter => $$event_type <> 'click'$$);
SELECT clickstream.create_window('tumbling', stream => 'oracle', size => '5 minutes', group_by => 'page_url',
	measures => $$count(*) AS events, count(DISTINCT user_id) AS visitors, sum(amount) AS amount, avg(amount) AS average,
		min(user_id) AS least, max(user_id) AS greatest, first(device_type) AS first_device, last(device_type) AS last_device,
		count(*) FILTER (WHERE event_type = 'purchase') AS purchases, sum(amount) / count(*) AS ratio$$);
SELECT clickstream.create_window('hopping', stream => 'oracle', size => '15 minutes', slide => '1 minute',
	group_by => 'device_type, event_type', filter => 'amount > 10',
	measures => $$count(*) AS events, count(DISTINCT user_id) AS visitors, max(amount) AS amount, first(page_url) AS first_page$$);
SELECT clickstream.create_rollup('rolled', source => 'sessions', size => '10 minutes',
	measures => $$count(*) AS total_sessions, avg(session_duration_seconds) AS avg_duration, sum(event_count) AS events,
		avg((pages_viewed = 1)::int) AS bounce_rate$$);
DO $$
DECLARE
	e record;
BEGIN
	FOR e IN SELECT * FROM event ORDER BY event_time + lag * interval '1 second', i LOOP
		UPDATE event SET message_offset = clickstream.produce('oracle', (to_jsonb(e) - 'i' - 'lag' - 'partition')::text,
			partition => e.partition, message_timestamp => e.event_time)
		WHERE i = e.i;
	END LOOP;
END
$$;
SET clickstream.batch_messages = 700;
CALL clickstream.process('oracle');
CALL clickstream.finish('oracle');
RESET clickstream.batch_messages;
SELECT consumed, late, dead, balanced FROM test.ledger WHERE stream = 'oracle';
-- the measures of a session table, over any division into sessions
CREATE VIEW placed AS
SELECT *, row_number() OVER (ORDER BY event_time, partition, message_offset) AS place,
	format('oracle/%s/%s', partition, message_offset) AS id FROM event;
CREATE VIEW expected_sessions AS
WITH begun AS (
	SELECT *, coalesce(event_time - lag(event_time) OVER w > interval '10 minutes', true) AS begins
	FROM placed WHERE user_id IS NOT NULL WINDOW w AS (PARTITION BY user_id ORDER BY place)
), numbered AS (
	SELECT *, count(*) FILTER (WHERE begins) OVER (PARTITION BY user_id ORDER BY place) AS nr FROM begun
)
SELECT (array_agg(id ORDER BY place))[1] AS session_id, user_id AS effective_user_id, min(event_time) AS session_start,
	max(event_time) + interval '10 minutes' AS session_end, count(*) AS event_count,
	count(DISTINCT page_url) AS pages_viewed, min(event_time) AS first_event, max(event_time) AS last_event,
	trunc(extract(epoch FROM max(event_time) - min(event_time)))::bigint AS session_duration_seconds,
	(array_agg(page_url ORDER BY place))[1] AS landing_page,
	(array_agg(page_url ORDER BY place DESC) FILTER (WHERE page_url IS NOT NULL))[1] AS exit_page,
	(array_agg(device_type ORDER BY place))[1] AS device_type
FROM numbered GROUP BY user_id, nr;
CREATE FUNCTION differences(one text, other text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM ((%1$s EXCEPT ALL %2$s) UNION ALL (%2$s EXCEPT ALL %1$s)) d', one, other) INTO n;
	RETURN n;
END
$$;
SELECT count(*) > 100 AS enough, bool_and(is_final) AS all_final, bool_and(closed_reason IN ('gap', 'finish')) AS closed FROM sessions;
SELECT differences($$SELECT session_id, effective_user_id, session_start, session_end, event_count, pages_viewed, first_event,
		last_event, session_duration_seconds, landing_page, exit_page, device_type FROM sessions$$,
	'SELECT * FROM expected_sessions') AS sessions;
-- with a greatest length: one pass in place order
CREATE FUNCTION expected_cuts(OUT session_id text, OUT visitor text, OUT session_start timestamptz, OUT session_end timestamptz,
	OUT event_count bigint, OUT amount numeric, OUT last_page text, OUT closed_reason text)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	e record;
BEGIN
	FOR e IN SELECT * FROM placed WHERE user_id IS NOT NULL AND event_type <> 'click' ORDER BY user_id, place LOOP
		IF visitor = e.user_id AND e.event_time <= session_end AND e.event_time - session_start <= interval '30 minutes' THEN
			event_count := event_count + 1;
			amount := amount + e.amount;
		ELSE
			closed_reason := CASE WHEN visitor = e.user_id AND e.event_time <= session_end THEN 'max_length' ELSE 'gap' END;
			IF visitor IS NOT NULL THEN
				RETURN NEXT;
			END IF;
			session_id := e.id; visitor := e.user_id; session_start := e.event_time; event_count := 1; amount := e.amount;
		END IF;
		session_end := e.event_time + interval '10 minutes';
		last_page := e.page_url;
	END LOOP;
	closed_reason := 'gap';
	RETURN NEXT;
END
$$;
SELECT differences($$SELECT session_id, effective_user_id, session_start, session_end, event_count, amount, last_page,
	replace(closed_reason, 'finish', 'gap') FROM cut_sessions$$, 'SELECT * FROM expected_cuts()') AS cut_sessions;
SELECT differences($$SELECT window_start, page_url, events, visitors, amount, average, least, greatest, first_device, last_device,
		purchases, ratio FROM tumbling$$, $$
	SELECT date_bin('5 minutes', event_time, '1970-01-01 00:00+00'), page_url, count(*), count(DISTINCT user_id), sum(amount),
		avg(amount), min(user_id), max(user_id), (array_agg(device_type ORDER BY place))[1],
		(array_agg(device_type ORDER BY place DESC))[1], count(*) FILTER (WHERE event_type = 'purchase'), sum(amount) / count(*)
	FROM placed GROUP BY 1, 2$$) AS tumbling;
SELECT differences($$SELECT window_start, window_end, device_type, event_type, events, visitors, amount, first_page FROM hopping$$, $$
	SELECT s, s + interval '15 minutes', device_type, event_type, count(*), count(DISTINCT user_id), max(amount),
		(array_agg(page_url ORDER BY place))[1]
	FROM placed, generate_series(date_trunc('minute', event_time) - interval '14 minutes', event_time, '1 minute') s
	WHERE amount > 10 GROUP BY 1, 3, 4$$) AS hopping;
SELECT differences('SELECT window_start, total_sessions, avg_duration, events, bounce_rate FROM rolled', $$
	SELECT date_bin('10 minutes', session_start, '1970-01-01 00:00+00'), count(*), avg(session_duration_seconds), sum(event_count),
		avg((pages_viewed = 1)::int)
	FROM expected_sessions GROUP BY 1$$) AS rolled;
SELECT bool_and(is_final) AS final, count(DISTINCT group_key) AS keys FROM rolled;
SELECT clickstream.drop_stream('oracle');
SET client_min_messages = warning;
DROP SCHEMA oracle CASCADE;
