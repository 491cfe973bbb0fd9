-- A random stream of which some events come hours late: once they are applied,
-- in several goes, the tables are those of the same stream with nobody late.
-- Another seed: CLICKSTREAM_SEED=… in the environment.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\echo seed :seed
CREATE SCHEMA punctual;
CREATE SCHEMA t320;
SET search_path = t320;
SELECT setseed(:seed / 1000000.0);
-- visits of up to eight events; some of them reach us six to nine hours late, the others within the lag condition;
-- partitions get them in turn, so that with small batches none is hours ahead of the others
CREATE TABLE event AS
SELECT row_number() OVER w AS i, row_number() OVER w % 3 AS partition, e.*
FROM (
	SELECT v, k, 'u' || (v % 60) AS user_id, t0 + k * gap AS event_time,
		'/' || trunc(random() * 5)::int AS page_url, round((random() * 100)::numeric, 2) AS amount,
		t0 + k * gap + CASE WHEN random() < 0.07 THEN interval '6 hours' + random() * interval '3 hours'
			ELSE random() * interval '55 seconds' END AS arrives
	FROM (SELECT v, '2024-06-01 00:00+00'::timestamptz + trunc(random() * 86400) * interval '1 second' AS t0,
			1 + trunc(random() * 8)::int AS n, trunc(random() * 500) * interval '1 second' AS gap
		FROM generate_series(1, 400) v) AS visit, generate_series(0, n - 1) k
	UNION ALL
	-- and then the watermark goes on, so that who is late is hours late
	SELECT 1000 + p, k, 'w' || p, t, '/9', 1, t
	FROM generate_series(0, 2) p, generate_series(1, 120) k,
		LATERAL (SELECT '2024-06-02 00:00+00'::timestamptz + k * interval '5 minutes' AS t) AS tick
) AS e
WINDOW w AS (ORDER BY arrives, v, k);
CREATE PROCEDURE make(name text, delay interval, target text)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.create_stream(name, extra_columns => 'amount numeric', watermark_delay => delay);
	PERFORM clickstream.create_window(target || '.tumbling', stream => name, size => '10 minutes', group_by => 'page_url', allowed_lateness => '1 hour',
		measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors, sum(amount) AS amount, first(user_id) AS who');
	PERFORM clickstream.create_window(target || '.hopping', stream => name, size => '1 hour', slide => '15 minutes',
		measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, max(amount) AS most', filter => 'amount > 20');
	PERFORM clickstream.create_session(target || '.visits', stream => name, gap => '10 minutes',
		allowed_lateness => '40 minutes', measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, first(page_url) AS landing, last(page_url) AS leaving, sum(amount) AS amount');
	PERFORM clickstream.create_session(target || '.cut', stream => name, gap => '10 minutes', max_length => '20 minutes',
		measures => 'count(*) AS events');
	PERFORM clickstream.create_funnel(target || '.funnel', stream => name, within => '20 minutes', allowed_lateness => '30 minutes', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2')$s$),
		clickstream.step('c', $s$page_url = '/3'$s$)]);
	PERFORM clickstream.create_funnel(target || '.strict', stream => name, within => '20 minutes', mode => 'strict', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2', '/3')$s$)]);
	PERFORM clickstream.create_funnel(target || '.unordered', stream => name, within => '20 minutes', mode => 'unordered', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2')$s$),
		clickstream.step('c', $s$page_url = '/3'$s$)]);
	PERFORM clickstream.create_session(target || '.split', stream => name, gap => '10 minutes', split_on => 'page_url',
		measures => 'count(*) AS events, max(amount) AS most');
	PERFORM clickstream.create_rollup(target || '.starts', source => (target || '.visits')::regclass, size => '1 hour',
		measures => 'count(*) AS visits, sum(events) AS events, avg(pages) AS pages');
	PERFORM clickstream.create_rollup(target || '.levels', source => (target || '.funnel')::regclass, size => '1 hour',
		group_by => 'level', measures => 'count(*) AS attempts');
	PERFORM clickstream.create_event_log(target || '.log', stream => name);
END
$$;
CALL make('s320', '60 seconds', 't320');
CALL make('punctual', '100 days', 'punctual');
DO $$
DECLARE
	e record;
BEGIN
	FOR e IN SELECT *, (to_jsonb(event) - '{i,v,k,partition,arrives}'::text[])::text AS payload FROM event ORDER BY i LOOP
		PERFORM clickstream.produce('s320', e.payload, partition => e.partition::int, message_timestamp => e.event_time);
		PERFORM clickstream.produce('punctual', e.payload, partition => e.partition::int, message_timestamp => e.event_time);
	END LOOP;
END
$$;
CALL clickstream.finish('punctual');
CREATE FUNCTION apply() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FILTER (WHERE a.applied)
	FROM unnest('{tumbling,hopping,visits,cut,split,funnel,strict,unordered}'::regclass[]) t, clickstream.apply_late(t) a
$$;
-- rows that one has and the other has not
CREATE FUNCTION differences(t text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('WITH a AS (SELECT replace((to_jsonb(r) - ''revision'' - ''closed_reason'')::text, ''s320/'', ''/'') AS line FROM t320.%1$I r),
		b AS (SELECT replace((to_jsonb(r) - ''revision'' - ''closed_reason'')::text, ''punctual/'', ''/'') AS line FROM punctual.%1$I r)
		SELECT count(*) FROM ((TABLE a EXCEPT ALL TABLE b) UNION ALL (TABLE b EXCEPT ALL TABLE a)) x', t) INTO n;
	RETURN n;
END
$$;
SET clickstream.batch_messages = 30;
CALL clickstream.process('s320', 800);
SELECT apply() > 0 AS some_applied;
CALL clickstream.process('s320', 400);
SELECT apply() >= 0 AS some_applied;
CALL clickstream.finish('s320');
SELECT sum(differences(t)) > 0 AS it_matters FROM unnest('{tumbling,hopping,visits,cut,split,funnel,strict,unordered,starts,levels}'::text[]) t;
SELECT apply() > 0 AS some_applied;
SELECT t, differences(t) FROM unnest('{tumbling,hopping,visits,cut,split,funnel,strict,unordered,starts,levels}'::text[]) t;
SELECT definition, late FROM clickstream.stat_definition WHERE stream = 's320' AND late > 0;
SELECT count(*) FILTER (WHERE repaired > 0) AS repaired, sum(late) AS late, bool_and(balanced) AS balanced FROM clickstream.ledger WHERE stream = 's320';
SELECT count(*) FROM clickstream.audit('s320');
-- the comparison sees an event that is left out
SELECT clickstream.reset('s320');
CALL clickstream.finish('s320');
SET clickstream.mutant = 'late_left_out';
SELECT apply() > 0 AS some_applied;
RESET clickstream.mutant;
SELECT sum(differences(t)) > 0 AS seen FROM unnest('{tumbling,hopping,visits,cut,split,funnel,strict,unordered,starts,levels}'::text[]) t;
SELECT clickstream.drop_stream('s320');
SELECT clickstream.drop_stream('punctual');
DROP SCHEMA t320, punctual CASCADE;
