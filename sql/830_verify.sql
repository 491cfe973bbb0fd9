-- verify(): results made again from the event log, and compared.  Random streams with late events, duplicates and
-- filtered events, by batches of any size; what is right verifies as right at any time, and every kind of damage is listed.
-- Another seed: CLICKSTREAM_SEED=… in the environment.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 830
\endif
\echo seed :seed
CREATE SCHEMA t830;
SET search_path = t830;
SELECT setseed(:seed / 1000000.0);
-- three partitions; some events come hours late, some twice, some are of a bot
CREATE TABLE event AS
SELECT row_number() OVER w AS i, row_number() OVER w % 3 AS partition, e.*
FROM (
	SELECT v, k, 'u' || (v % 60) AS user_id, t0 + k * gap AS event_time, '/' || trunc(random() * 5)::int AS page_url,
		round((random() * 100)::numeric, 2) AS amount, random() AS share, CASE WHEN random() < 0.05 THEN 'bot' ELSE 'page_view' END AS event_type,
		v || '-' || CASE WHEN random() < 0.05 THEN 0 ELSE k END AS id,
		t0 + k * gap + CASE WHEN random() < 0.07 THEN interval '6 hours' + random() * interval '3 hours'
			WHEN random() < 0.2 THEN random() * interval '40 minutes' ELSE random() * interval '55 seconds' END AS arrives
	FROM (SELECT v, '2024-06-01 00:00+00'::timestamptz + trunc(random() * 86400) * interval '1 second' AS t0,
			1 + trunc(random() * 8)::int AS n, trunc(random() * 500) * interval '1 second' AS gap
		FROM generate_series(1, 300) v) AS visit, generate_series(0, n - 1) k
) AS e
WINDOW w AS (ORDER BY arrives, v, k);
SELECT clickstream.create_stream('s830', extra_columns => 'amount numeric, share double precision', watermark_delay => '60 seconds',
	filter => $$event_type <> 'bot'$$, dedupe_by => $$event_properties->>'id'$$, dedupe_horizon => '1 day') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's830');
CREATE PROCEDURE make(suffix text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.create_window('tumbling' || suffix, stream => 's830', size => '10 minutes', group_by => 'page_url', allowed_lateness => '1 hour',
		measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors, sum(amount) AS amount, first(user_id) AS who, sum(share) AS share, avg(share) AS avg_share');
	PERFORM clickstream.create_window('hopping' || suffix, stream => 's830', size => '1 hour', slide => '15 minutes',
		measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, max(amount) AS most', filter => 'amount > 20');
	PERFORM clickstream.create_window('cumulative' || suffix, stream => 's830', size => '1 day', step => '1 hour', time_zone => 'Europe/Berlin', measures => 'count(*) AS events');
	PERFORM clickstream.create_window('crowded' || suffix, stream => 's830', size => '1 hour', group_by => 'user_id', group_limit => 5, measures => 'count(*) AS events');
	PERFORM clickstream.create_session('visits' || suffix, stream => 's830', gap => '10 minutes', emit => 'changes', emit_interval => '0', allowed_lateness => '40 minutes',
		measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, first(page_url) AS landing, last(page_url) AS leaving, sum(amount) AS amount');
	PERFORM clickstream.create_session('cut' || suffix, stream => 's830', gap => '10 minutes', max_length => '20 minutes', measures => 'count(*) AS events');
	PERFORM clickstream.create_session('split' || suffix, stream => 's830', gap => '10 minutes', split_on => 'page_url', measures => 'count(*) AS events, max(amount) AS most');
	PERFORM clickstream.create_funnel('funnel' || suffix, stream => 's830', within => '20 minutes', allowed_lateness => '30 minutes', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2')$s$), clickstream.step('c', $s$page_url = '/3'$s$)]);
	PERFORM clickstream.create_funnel('strict' || suffix, stream => 's830', within => '20 minutes', mode => 'strict', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2', '/3')$s$)]);
	PERFORM clickstream.create_funnel('unordered' || suffix, stream => 's830', within => '20 minutes', mode => 'unordered', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2')$s$), clickstream.step('c', $s$page_url = '/3'$s$)]);
	PERFORM clickstream.create_rollup('starts' || suffix, source => ('visits' || suffix)::regclass, size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events, avg(pages) AS pages');
	PERFORM clickstream.create_rollup('levels' || suffix, source => ('funnel' || suffix)::regclass, size => '1 hour', group_by => 'level, is_conversion AS done', measures => 'count(*) AS attempts');
END
$$;
CALL make('');
CREATE VIEW ours AS SELECT table_oid AS t FROM clickstream.definition JOIN clickstream.stream s USING (stream_id) WHERE s.name = 's830' AND kind <> 'l';
CREATE FUNCTION wrong(start_time timestamptz DEFAULT NULL, end_time timestamptz DEFAULT NULL) RETURNS TABLE (t regclass, outcome text, key jsonb, detail jsonb) LANGUAGE sql AS $$
	SELECT t, v.* FROM ours, clickstream.verify(t, start_time, end_time) AS v
$$;
SELECT count(clickstream.produce('s830', (to_jsonb(e) - '{i,v,k,partition,arrives,id}'::text[] || jsonb_build_object('event_properties', jsonb_build_object('id', id)))::text,
	partition => partition::int, message_timestamp => event_time)) > 900 AS produced
FROM (SELECT * FROM event ORDER BY i) AS e;
-- nothing is wrong, wherever the stream stands; from the middle on there are definitions that have not seen the beginning
SET clickstream.batch_messages = 7;
CALL clickstream.process('s830', 200);
SELECT * FROM wrong();
SET clickstream.batch_messages = 100;
CALL clickstream.process('s830', 300);
CALL make('_later');
CALL clickstream.process('s830', 400);
SELECT * FROM wrong();
RESET clickstream.batch_messages;
CALL clickstream.process('s830');
SELECT * FROM wrong('2024-06-01 03:07+00', '2024-06-01 11:11+00');
-- late events that were applied
SELECT count(*) FILTER (WHERE applied) > 0 AS some_applied FROM unnest('{tumbling,hopping,cumulative,visits,cut,split,funnel,strict,unordered}'::regclass[]) t, clickstream.apply_late(t) a;
SELECT * FROM wrong();
SELECT clickstream.trim_letters('s830', '0') >= 0 AS trimmed;
CALL clickstream.finish('s830');
SELECT bool_or(repaired > 0) AS repaired, bool_or(duplicate > 0) AS duplicate, bool_or(filtered > 0) AS filtered FROM clickstream.ledger WHERE stream = 's830';
SELECT * FROM unnest('{tumbling_later,hopping_later,cumulative_later,crowded,crowded_later,visits_later,cut_later,split_later,funnel_later,strict_later,unordered_later,starts,starts_later,levels,levels_later}'::regclass[]) AS t, clickstream.verify(t);
-- Damage, of each table: a value changed, a row gone, one too many.  Exactly that is listed.
CREATE FUNCTION damage(t regclass, id text) RETURNS TABLE (was text, listed bigint, exact boolean) LANGUAGE plpgsql AS $$
DECLARE
	value name;
BEGIN
	SELECT name INTO value FROM clickstream.result_columns(t) c WHERE role = 'value' AND type = 'bigint' LIMIT 1;
	EXECUTE format('UPDATE %s SET %I = coalesce(%2$I, 0) + 1 WHERE ctid = (SELECT ctid FROM %1$s WHERE is_final ORDER BY random() LIMIT 1)', t, value);
	EXECUTE format('DELETE FROM %s WHERE ctid = (SELECT ctid FROM %1$s WHERE is_final AND xmin <> pg_current_xact_id()::xid ORDER BY random() LIMIT 1)', t);
	EXECUTE format('INSERT INTO %s SELECT (jsonb_populate_record(NULL::%1$s, to_jsonb(r) || $1::jsonb)).* FROM %1$s r WHERE is_final LIMIT 1', t)
		USING CASE id WHEN 'group_key' THEN '{"group_key": "00000000-0000-0000-0000-000000000001", "window_start": "2024-06-01 00:00:01+00"}' ELSE format('{"%s": "s830/9/9"}', id) END;
	RETURN QUERY SELECT v.outcome, count(*), bool_and(v.outcome <> 'different' OR (SELECT array_agg(d) FROM jsonb_object_keys(v.detail) d) = ARRAY[value::text])
	FROM clickstream.verify(t) v GROUP BY 1 ORDER BY 1;
END
$$;
SELECT t, d.was, d.listed, d.exact FROM (VALUES ('tumbling_later', 'group_key'), ('hopping_later', 'group_key'), ('cumulative_later', 'group_key'), ('crowded_later', 'group_key'),
	('visits_later', 'session_id'), ('cut_later', 'session_id'), ('split_later', 'session_id'), ('funnel_later', 'attempt_id'), ('strict_later', 'attempt_id'),
	('unordered_later', 'attempt_id'), ('starts', 'group_key'), ('levels', 'group_key')) AS x(t, id), damage(t::regclass, id) d;
-- who may
CREATE ROLE verifier;
GRANT USAGE ON SCHEMA t830 TO verifier;
GRANT SELECT ON starts_later, visits_later TO verifier;
SET ROLE verifier;
SELECT count(*) FROM clickstream.verify('visits_later');
SELECT * FROM clickstream.verify('cut_later');
RESET ROLE;
-- what the table or the log does not reach back to
SELECT clickstream.set_retention('cut_later', '6 hours');
SELECT clickstream.drop_event_log('log');
SELECT * FROM clickstream.verify('visits_later');
SELECT clickstream.create_event_log('log', stream => 's830');
SELECT * FROM clickstream.verify('visits_later');
SELECT clickstream.create_stream('t830', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_session('old', stream => 't830', gap => '10 minutes', max_length => '1 hour', measures => 'count(*) AS n');
SELECT clickstream.create_window('hours', stream => 't830', size => '1 hour', measures => 'count(*) AS n');
SELECT test.feed('t830', E'a 0:00 /a\na 0:05 /a\nb 1:00 /a');
CALL clickstream.process('t830');
SELECT clickstream.create_event_log('log2', stream => 't830');
SELECT test.feed('t830', E'a 2:01 /a\na 3:05 /a\nb 4:00 /a\na 6:05 /a\nb 8:00 /a');
CALL clickstream.process('t830');
SELECT clickstream.recompute_border('old') AS sessions, clickstream.recompute_border('hours') AS windows;
SELECT * FROM clickstream.verify('old');
SELECT * FROM clickstream.verify('hours');
SELECT * FROM clickstream.verify('old', '2024-06-01 01:00+00');
SELECT * FROM clickstream.verify('hours', '2024-06-01 01:00+00');
UPDATE hours SET n = 7 WHERE window_start = '2024-06-01 03:00+00';
SELECT * FROM clickstream.verify('hours');
-- names are only names, whatever they are
SELECT clickstream.create_stream('n830', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_event_log('log3', stream => 'n830');
SELECT clickstream.create_session('t830."it''s %source ""odd"" $1"', stream => 'n830', gap => '10 minutes',
	measures => 'count(*) AS "%source", max(page_url) AS v, min(page_url) AS k, count(*) AS "a "" b ''%s"');
SELECT clickstream.create_rollup('t830."%source"', source => 't830."it''s %source ""odd"" $1"', size => '1 hour', measures => 'sum("%source") AS "%source", count(*) AS v');
SELECT test.feed('n830', E'a 0:00 /a\na 0:05 /b\nb 1:00 /a\nb 5:00 /a');
CALL clickstream.process('n830');
SELECT count(*) AS sessions FROM "it's %source ""odd"" $1";
SELECT * FROM clickstream.verify('"it''s %source ""odd"" $1"');
SELECT * FROM clickstream.verify('"%source"');
UPDATE "it's %source ""odd"" $1" SET "%source" = 7 WHERE "%source" = 2;
SELECT outcome, detail FROM clickstream.verify('"it''s %source ""odd"" $1"');
SELECT outcome, detail FROM clickstream.verify('"%source"');
SELECT detail FROM clickstream.explain_event('n830', 0, 1) WHERE outcome = 'used' AND definition IS NOT NULL;
-- a superuser does not lend his rights to functions in the owner's expressions
CREATE ROLE regress_cs_maker IN ROLE clickstream_admin;
GRANT USAGE, CREATE ON SCHEMA t830 TO regress_cs_maker;
CREATE FUNCTION who(n bigint) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN current_user; END';
SET ROLE regress_cs_maker;
SELECT clickstream.create_stream('o830', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_event_log('log4', stream => 'o830');
SELECT clickstream.create_session('owned', stream => 'o830', gap => '10 minutes', measures => 'count(*) AS n, max(t830.who(1)) AS who');
SELECT clickstream.create_rollup('owned_hours', source => 'owned', size => '1 hour', measures => 'max(t830.who(n)) AS who');
RESET ROLE;
SELECT test.feed('o830', E'a 0:00 /a\nb 3:00 /a\nb 6:00 /a');
CALL clickstream.process('o830');
SELECT DISTINCT who FROM owned_hours WHERE is_final;
SELECT * FROM clickstream.verify('owned_hours');
SELECT detail ->> 'who' AS who FROM clickstream.explain_event('o830', 0, 0) WHERE definition = 'owned'::regclass;
SELECT clickstream.drop_stream('o830'), clickstream.drop_stream('n830');
DROP OWNED BY regress_cs_maker;
DROP ROLE regress_cs_maker;
-- bad input
SELECT * FROM clickstream.verify(NULL);
SELECT * FROM clickstream.verify('log2');
SELECT * FROM clickstream.verify('pg_class');
SELECT * FROM clickstream.verify('hours', '2024-06-02', '2024-06-01');
SELECT * FROM clickstream.recompute('hours', NULL, NULL) AS x(nobody integer);
SELECT * FROM clickstream.recompute('hours', NULL, NULL) AS x(n integer);
SELECT * FROM clickstream.recompute('starts', NULL, NULL) AS x(visits bigint);
SELECT * FROM clickstream.view_over('pg_class', 'SELECT 1') AS x(n integer);
SELECT * FROM clickstream.view_over('ours', 'SELECT 1') AS x(n integer);
SELECT * FROM clickstream.view_over((SELECT view_oid FROM clickstream.definition WHERE table_oid = 'hours'::regclass), 'SELECT 1; SELECT 2') AS x(n integer);
SELECT * FROM clickstream.view_over((SELECT view_oid FROM clickstream.definition WHERE table_oid = 'starts'::regclass), 'SELECT 1') AS x(n integer);
SELECT * FROM clickstream.view_over((SELECT view_oid FROM clickstream.definition WHERE table_oid = 'starts'::regclass), 'SELECT * FROM t830.visits') AS x(n integer);
SELECT clickstream.drop_stream('s830');
SELECT clickstream.drop_stream('t830');
DROP OWNED BY verifier;
DROP ROLE verifier;
DROP SCHEMA t830 CASCADE;
