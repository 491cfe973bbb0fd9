-- A definition made with backfill => true has what it would have if it had been there from the beginning: random streams with
-- late events, duplicates and filtered events, three partitions, batches of 1, 7 and 1000.
-- Another seed: CLICKSTREAM_SEED=… in the environment.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 840
\endif
\echo seed :seed
CREATE SCHEMA t840;
SET search_path = t840;
SELECT setseed(:seed / 1000000.0);
CREATE TABLE event AS
SELECT row_number() OVER w AS i, row_number() OVER w % 3 AS partition, e.*
FROM (
	SELECT v, k, 'u' || (v % 40) AS user_id, t0 + k * gap AS event_time, '/' || trunc(random() * 5)::int AS page_url,
		round((random() * 100)::numeric, 2) AS amount, CASE WHEN random() < 0.05 THEN 'bot' ELSE 'page_view' END AS event_type,
		v || '-' || CASE WHEN random() < 0.05 THEN 0 ELSE k END AS id,
		t0 + k * gap + CASE WHEN random() < 0.07 THEN interval '6 hours' + random() * interval '3 hours'
			WHEN random() < 0.2 THEN random() * interval '40 minutes' ELSE random() * interval '55 seconds' END AS arrives
	FROM (SELECT v, '2024-06-01 00:00+00'::timestamptz + trunc(random() * 43200) * interval '1 second' AS t0,
			1 + trunc(random() * 8)::int AS n, trunc(random() * 500) * interval '1 second' AS gap
		FROM generate_series(1, 90) v) AS visit, generate_series(0, n - 1) k
) AS e
WINDOW w AS (ORDER BY arrives, v, k);
CREATE PROCEDURE make(stream text, suffix text, backfill boolean) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.create_window('tumbling' || suffix, stream => stream, backfill => backfill, size => '10 minutes', group_by => 'page_url', allowed_lateness => '1 hour',
		measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors, sum(amount) AS amount, first(user_id) AS who');
	PERFORM clickstream.create_window('hopping' || suffix, stream => stream, backfill => backfill, size => '1 hour', slide => '15 minutes',
		measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, max(amount) AS most', filter => 'amount > 20');
	PERFORM clickstream.create_window('cumulative' || suffix, stream => stream, backfill => backfill, size => '1 day', step => '1 hour', time_zone => 'Europe/Berlin', measures => 'count(*) AS events');
	PERFORM clickstream.create_session('visits' || suffix, stream => stream, backfill => backfill, gap => '10 minutes', emit => 'changes', emit_interval => '0', allowed_lateness => '40 minutes',
		measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, first(page_url) AS landing, last(page_url) AS leaving, sum(1 / (amount <> 50)::int) AS amount');
	PERFORM clickstream.create_session('split' || suffix, stream => stream, backfill => backfill, gap => '10 minutes', split_on => 'page_url', measures => 'count(*) AS events, max(amount) AS most');
	PERFORM clickstream.create_session('cut' || suffix, stream => stream, backfill => backfill, gap => '10 minutes', max_length => '20 minutes',
		measures => 'count(*) AS events, sum(1 / (page_url <> ''/4'')::int) AS odd');
	PERFORM clickstream.create_funnel('funnel' || suffix, stream => stream, backfill => backfill, within => '20 minutes', allowed_lateness => '30 minutes', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2')$s$), clickstream.step('c', $s$page_url = '/3'$s$)]);
	PERFORM clickstream.create_funnel('strict' || suffix, stream => stream, backfill => backfill, within => '20 minutes', mode => 'strict', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2', '/3')$s$)]);
	PERFORM clickstream.create_funnel('unordered' || suffix, stream => stream, backfill => backfill, within => '20 minutes', mode => 'unordered', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2')$s$), clickstream.step('c', $s$page_url = '/3'$s$)]);
	-- over a source that is being filled itself, and over one that is complete
	PERFORM clickstream.create_rollup('starts' || suffix, source => ('visits' || suffix)::regclass, backfill => backfill, size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events, avg(pages) AS pages');
	PERFORM clickstream.create_rollup('ready' || suffix, source => 'visits', backfill => backfill, size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events');
	PERFORM clickstream.create_rollup('levels' || suffix, source => ('funnel' || suffix)::regclass, backfill => backfill, size => '1 hour', group_by => 'level, is_conversion AS done', measures => 'count(*) AS attempts');
END
$$;
CREATE FUNCTION produce(stream text, part int, parts int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(clickstream.produce(stream, (to_jsonb(e) - '{i,v,k,partition,arrives,id}'::text[] || jsonb_build_object('event_properties', jsonb_build_object('id', id)))::text,
		partition => partition::int, message_timestamp => event_time))
	FROM (SELECT * FROM event WHERE i * parts / (SELECT 1 + max(i) FROM event) = part ORDER BY i) AS e
$$;
CREATE TABLE kind (t text);
INSERT INTO kind SELECT unnest('{tumbling,hopping,cumulative,visits,split,cut,funnel,strict,unordered,starts,ready,levels}'::text[]);
-- rows that one has and the other has not, all columns but revision, which batches decide
CREATE FUNCTION differences(t text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM ((SELECT (to_jsonb(r) - ''revision'')::text FROM %1$I r EXCEPT ALL SELECT (to_jsonb(r) - ''revision'')::text FROM %2$I r) UNION ALL (SELECT (to_jsonb(r) - ''revision'')::text FROM %2$I r EXCEPT ALL SELECT (to_jsonb(r) - ''revision'')::text FROM %1$I r)) x', t, t || '_filled') INTO n;
	RETURN n;
END
$$;
CREATE TABLE outcome (size int, at text, t text, differs bigint);
CREATE PROCEDURE run(size int) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.create_stream('s840', extra_columns => 'amount numeric', watermark_delay => '60 seconds',
		filter => $f$event_type <> 'bot'$f$, dedupe_by => $d$event_properties->>'id'$d$, dedupe_horizon => '1 day');
	PERFORM clickstream.create_event_log('log', stream => 's840');
	CALL make('s840', '', false);
	PERFORM set_config('clickstream.batch_messages', size::text, false);
	PERFORM produce('s840', 0, 4);
	PERFORM produce('s840', 1, 4);
	COMMIT;
	CALL clickstream.process('s840');
	CALL make('s840', '_filled', true);
	COMMIT;
	-- some live messages, while history goes through
	PERFORM produce('s840', 2, 4);
	COMMIT;
	CALL clickstream.process('s840', 3);
	INSERT INTO outcome SELECT size, 'fills', definition::text, least(done, 1) FROM clickstream.stat_progress WHERE size = 1 AND todo > 0;
	CALL clickstream.process('s840');
	INSERT INTO outcome SELECT size, 'joined', t, differences(t) FROM kind;
	INSERT INTO outcome SELECT size, 'progress', 'none', count(*) FROM clickstream.stat_progress;
	PERFORM produce('s840', 3, 4);
	COMMIT;
	CALL clickstream.process('s840');
	INSERT INTO outcome SELECT size, 'later', t, differences(t) FROM kind;
	INSERT INTO outcome SELECT size, 'counts', t, (SELECT count(DISTINCT (used, late, dead, without_key)) - 1 FROM clickstream.stat_definition
		WHERE definition::text IN (t, t || '_filled')) FROM kind;
	INSERT INTO outcome SELECT size, 'letters', 'all', count(*) - 24 FROM clickstream.stat_definition WHERE stream = 's840' AND kind <> 'event log';
	PERFORM clickstream.audit('s840');
	CALL clickstream.finish('s840');
	INSERT INTO outcome SELECT size, 'finished', t, differences(t) FROM kind;
	INSERT INTO outcome SELECT size, 'verify', t, (SELECT count(*) FROM clickstream.verify((t || '_filled')::regclass)) FROM kind;
END
$$;
CALL run(1000);
SELECT clickstream.drop_stream('s840');
CALL run(7);
SELECT clickstream.drop_stream('s840');
CALL run(1);
SELECT at, count(*), sum(differs) FROM outcome GROUP BY 1 ORDER BY 1;
SELECT * FROM outcome WHERE differs > 0 AND at <> 'fills';
SELECT bool_or(duplicate > 0) AS duplicate, bool_or(filtered > 0) AS filtered FROM clickstream.ledger WHERE stream = 's840';
SELECT count(*) > 0 AS late FROM clickstream.late_event WHERE definition = 'visits_filled'::regclass;
SELECT count(*) > 0 AS dead, count(DISTINCT definition) FROM clickstream.dead_letter WHERE definition IN ('cut'::regclass, 'cut_filled'::regclass);
SELECT clickstream.drop_stream('s840');
-- While it is being filled it is not altered, but what its rows do not depend on is; and the log may not be another one.
RESET clickstream.batch_messages;
SELECT clickstream.create_stream('f840', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_event_log('history', stream => 'f840');
SELECT clickstream.create_session('before', stream => 'f840', gap => '10 minutes', measures => 'count(*) AS n');
SELECT test.feed('f840', E'a 0:00 /a\na 1:00 /a\na 2:00 /a');
CALL clickstream.process('f840');
SELECT clickstream.create_session('after', stream => 'f840', gap => '10 minutes', measures => 'count(*) AS n', backfill => true);
SELECT clickstream.create_window('hours', stream => 'f840', size => '1 hour', measures => 'count(*) AS n', backfill => true);
SELECT clickstream.create_rollup('days', source => 'before', size => '1 day', measures => 'count(*) AS n', backfill => true);
SELECT clickstream.alter_session('after', allowed_lateness => '1 hour');
SELECT clickstream.alter_window('hours', emit_interval => '1 s');
SELECT clickstream.alter_rollup('days', emit_interval => '1 s');
SELECT clickstream.set_retention('after', '3650 days'), clickstream.notify_changes('after', NULL);
SELECT clickstream.alter_session('before', allowed_lateness => '1 hour');
DROP TABLE history;
SELECT clickstream.create_event_log('history', stream => 'f840');
CALL clickstream.process('f840');
SELECT clickstream.drop_session('after');
SELECT clickstream.drop_window('hours');
CALL clickstream.process('f840');
SELECT clickstream.alter_rollup('days', emit_interval => '1 s');
SELECT clickstream.drop_stream('f840');
DROP SCHEMA t840 CASCADE;
