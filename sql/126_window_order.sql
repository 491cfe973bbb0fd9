-- Arrival does not matter: the same events in any order that keeps the lag
-- condition, cut into any batches, with partitions interleaved in any way, give
-- the same tables; and with events days late where allowed_lateness is longer,
-- the same as sorted ones.  Another seed: CLICKSTREAM_SEED.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\echo seed :seed
CREATE SCHEMA wo;
SET search_path = wo;
SELECT setseed(:seed / 1000000.0);
-- no two events have one time: of two such the offset decides which is first
CREATE TABLE event AS
SELECT i, '2024-03-28 00:00+00'::timestamptz + i * interval '3 minutes' + random() * interval '2 minutes' AS event_time,
	'v' || trunc(random() * 30)::int AS user_id, '/' || trunc(random() * 4)::int AS page_url,
	round((random() * 100)::numeric, 2) AS amount, trunc(random() * 3)::int AS partition
FROM generate_series(1, 2500) AS i;
CREATE TABLE content (variant int, lateness interval, t text, content text);
CREATE PROCEDURE run(variant int, disorder interval, delay interval, lateness interval) LANGUAGE plpgsql AS $$
DECLARE
	measures constant text := 'count(*) AS events, count(DISTINCT page_url) AS pages, sum(amount) AS amount, first(page_url) AS first_page,
		last(page_url) AS last_page, stddev(amount) AS deviation';
	t text;
	e record;
	n int := 0;
BEGIN
	PERFORM clickstream.create_stream('wo', watermark_delay => delay, extra_columns => 'amount numeric');
	PERFORM clickstream.create_window('wo.tumbling', stream => 'wo', size => '1 hour', group_by => 'user_id', measures => measures, allowed_lateness => lateness);
	PERFORM clickstream.create_window('wo.hopping', stream => 'wo', size => '6 hours', slide => '2 hours', group_by => 'user_id', measures => measures, allowed_lateness => lateness);
	PERFORM clickstream.create_window('wo.rolling', stream => 'wo', size => '6 hours', slide => '1 hour', group_by => 'page_url',
		measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors', allowed_lateness => lateness);
	PERFORM clickstream.create_window('wo.cumulative', stream => 'wo', size => '1 day', step => '3 hours', group_by => 'user_id', measures => measures, allowed_lateness => lateness);
	PERFORM clickstream.create_window('wo.days', stream => 'wo', size => '1 day', time_zone => 'Europe/Berlin', group_by => 'user_id', measures => measures, allowed_lateness => lateness);
	PERFORM clickstream.create_window('wo.weeks', stream => 'wo', size => '7 days', slide => '1 day', time_zone => 'Europe/Berlin', group_by => 'page_url', measures => measures, allowed_lateness => lateness);
	COMMIT;
	PERFORM set_config('clickstream.batch_messages', (1 + trunc(power(random(), 3) * 2500))::text, false);
	-- a partition as a whole may be far behind the others, once it has begun (an empty one holds nobody back)
	FOR e IN SELECT x.* FROM event x JOIN (SELECT p, random() * interval '1 day' * sign(variant) AS behind FROM generate_series(0, 2) AS p) AS b ON b.p = x.partition
		ORDER BY i <> (SELECT min(y.i) FROM event y WHERE y.partition = x.partition), event_time + random() * disorder + behind, i LOOP
		PERFORM clickstream.produce('wo', (to_jsonb(e) - 'i' - 'partition')::text, partition => e.partition, message_timestamp => e.event_time);
		n := n + 1;
		IF random() < 0.004 THEN
			COMMIT;
			CALL clickstream.process('wo', trunc(random() * 500)::bigint);
		END IF;
	END LOOP;
	COMMIT;
	CALL clickstream.finish('wo');
	FOREACH t IN ARRAY '{tumbling,hopping,rolling,cumulative,days,weeks}'::text[] LOOP
		INSERT INTO content VALUES (variant, lateness, t, test.content(('wo.' || t)::regclass));
	END LOOP;
	INSERT INTO content SELECT variant, lateness, 'late', late::text FROM test.ledger WHERE stream = 'wo';
	PERFORM clickstream.drop_stream('wo');
END
$$;
-- sorted, in whole; then shuffled, in pieces
CALL run(0, '0', '1 hour', '0');
CALL run(1, '59 minutes', '1 hour', '0');
CALL run(2, '59 minutes', '1 hour', '0');
CALL run(3, '59 minutes', '1 hour', '0');
-- days late, and revised
CALL run(4, '3 days', '10 minutes', '5 days');
CALL run(5, '3 days', '10 minutes', '5 days');
SELECT t, count(*) AS variants, count(DISTINCT content) AS contents FROM content GROUP BY 1 ORDER BY 1;
-- it can differ: days late, and not allowed
CALL run(6, '3 days', '10 minutes', '0');
SELECT t, count(DISTINCT content) AS contents FROM content WHERE t <> 'late' GROUP BY 1 ORDER BY 1;
DROP SCHEMA wo CASCADE;
