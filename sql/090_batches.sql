-- The same events in other batches and with partitions interleaved otherwise:
-- identical tables.  Another seed: CLICKSTREAM_SEED=… in the environment.
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
CREATE SCHEMA t090;
SET search_path = t090;
SELECT setseed(:seed / 1000000.0);
-- 4 partitions; an event lags its partition's newest by less than 58 seconds
CREATE TABLE event AS
SELECT i, '2024-06-01 00:00+00'::timestamptz + trunc(random() * 7200) * interval '1 second' AS event_time,
	CASE WHEN random() < 0.97 THEN 'v' || trunc(power(random(), 2) * 20)::int END AS user_id,
	'/' || trunc(random() * 6)::int AS page_url, round((random() * 100)::numeric, 2) AS amount,
	trunc(random() * 4)::int AS partition, random() * 58 AS lag
FROM generate_series(1, 1200) i;
ALTER TABLE event ADD COLUMN nr bigint;
UPDATE event e SET nr = r.nr FROM (SELECT i, row_number() OVER (PARTITION BY partition ORDER BY event_time + lag * interval '1 second', i) AS nr
	FROM event) r WHERE r.i = e.i;
CREATE TABLE result (name text, what text, content text);
CREATE PROCEDURE say(e event) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.produce('s090', (to_jsonb(e) - ARRAY['i', 'lag', 'partition', 'nr'])::text, partition => e.partition,
		message_timestamp => e.event_time);
END
$$;
-- Each partition's messages keep their order, which is a part of the content;
-- which partition speaks when is random in the mixed runs.
CREATE PROCEDURE run(name text, batch int, mixed boolean, seed float) LANGUAGE plpgsql AS $$
DECLARE
	e event;
	next int[] := '{1,1,1,1}';
	part int;
	t text;
BEGIN
	PERFORM clickstream.create_stream('s090', extra_columns => 'amount numeric', watermark_delay => '60 seconds', idle_timeout => '1 day');
	PERFORM clickstream.create_session('t090.sessions', stream => 's090', gap => '3 minutes');
	PERFORM clickstream.create_session('t090.cut', stream => 's090', gap => '3 minutes', max_length => '10 minutes',
		measures => 'count(*) AS events, sum(amount) AS amount, first(page_url) AS first_page, last(page_url) AS last_page');
	PERFORM clickstream.create_window('t090.tumbling', stream => 's090', size => '1 minute', group_by => 'page_url',
		measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors, sum(amount) AS amount, avg(amount) AS average, '
			'min(user_id) AS least, max(user_id) AS greatest, first(amount) AS first_amount, last(amount) AS last_amount');
	PERFORM clickstream.create_window('t090.hopping', stream => 's090', size => '5 minutes', slide => '1 minute',
		group_by => 'user_id', measures => 'count(*) AS events, count(DISTINCT page_url) AS pages');
	PERFORM clickstream.create_window('t090.growing', stream => 's090', size => '5 minutes', slide => '1 minute', emit => 'changes',
		emit_interval => '0', measures => 'count(*) AS events, last(page_url) AS last_page');
	PERFORM clickstream.create_funnel('t090.funnel', stream => 's090', within => '5 minutes', steps => ARRAY[
		clickstream.step('a', $f$page_url IN ('/1', '/2')$f$), clickstream.step('b', $f$page_url IN ('/2', '/3')$f$),
		clickstream.step('c', $f$page_url = '/4'$f$)]);
	PERFORM clickstream.create_rollup('t090.rolled', source => 't090.sessions', size => '5 minutes',
		measures => 'count(*) AS total, avg(session_duration_seconds) AS duration, sum(event_count) AS events');
	PERFORM clickstream.create_rollup('t090.rates', source => 't090.funnel', size => '5 minutes', group_by => 'level',
		measures => 'count(*) AS attempts');
	PERFORM set_config('clickstream.batch_messages', batch::text, false);
	COMMIT;
	FOR e IN SELECT * FROM event WHERE nr = 1 ORDER BY partition LOOP
		CALL say(e);
	END LOOP;
	next := '{2,2,2,2}';
	PERFORM setseed(seed);
	WHILE mixed LOOP
		part := trunc(random() * 4);
		FOR e IN SELECT * FROM event WHERE partition = part AND nr >= next[part + 1] ORDER BY nr LIMIT 1 + trunc(random() * 60) LOOP
			CALL say(e);
			next[part + 1] := e.nr + 1;
		END LOOP;
		EXIT WHEN NOT EXISTS (SELECT FROM event WHERE nr >= next[partition + 1]);
		-- in pieces: engines end in the middle, and others recover
		IF random() < 0.3 THEN
			COMMIT;
			CALL clickstream.process('s090', trunc(random() * 200)::bigint);
		END IF;
	END LOOP;
	FOR e IN SELECT * FROM event WHERE NOT mixed AND nr > 1 ORDER BY nr, partition LOOP
		CALL say(e);
	END LOOP;
	COMMIT;
	CALL clickstream.process('s090');
	CALL clickstream.finish('s090');
	FOREACH t IN ARRAY '{sessions,cut,tumbling,hopping,growing,funnel,rolled,rates}'::text[] LOOP
		INSERT INTO result SELECT name, t, test.content(('t090.' || t)::regclass);
	END LOOP;
	INSERT INTO result SELECT name, 'ledger', l::text FROM test.ledger l WHERE stream = 's090';
	PERFORM clickstream.drop_stream('s090');
END
$$;
CALL run('at once', 200000, false, 0);
CALL run('batches of 1000', 1000, false, 0);
CALL run('batches of 7', 7, false, 0);
CALL run('batches of 1', 1, false, 0);
CALL run('mixed', 200000, true, :seed / 1000000.0);
CALL run('mixed, batches of 13', 13, true, (:seed + 1) / 1000000.0);
CALL run('mixed again', 100, true, (:seed + 2) / 1000000.0);
RESET clickstream.batch_messages;
SELECT what, count(*) AS runs, count(DISTINCT content) AS answers, bool_and(content <> 'empty') AS has_rows
FROM result GROUP BY what ORDER BY what;
-- which differ, if any do
SELECT r.name, r.what FROM result r JOIN result o ON o.what = r.what AND o.name = 'at once' WHERE r.content <> o.content ORDER BY 1, 2;
SELECT content FROM result WHERE name = 'mixed' AND what = 'ledger';
DROP SCHEMA t090 CASCADE;
