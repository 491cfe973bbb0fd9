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
CREATE TABLE event AS SELECT * FROM test.random_visits(300, interval '1 day', 60);
SELECT test.create_visits_stream('s830') AS made;
SELECT clickstream.create_event_log('log', stream => 's830');
SELECT test.define_visits('s830', '');
CREATE VIEW ours AS SELECT table_oid AS t FROM clickstream.definition JOIN clickstream.stream s USING (stream_id) WHERE s.name = 's830' AND kind <> 'l';
CREATE FUNCTION wrong(start_time timestamptz DEFAULT NULL, end_time timestamptz DEFAULT NULL) RETURNS TABLE (t regclass, outcome text, key jsonb, detail jsonb) LANGUAGE sql AS $$
	SELECT t, v.* FROM ours, clickstream.verify(t, start_time, end_time) AS v
$$;
SELECT test.produce_visits('s830') > 900 AS produced;
-- nothing is wrong, wherever the stream stands; from the middle on there are definitions that have not seen the beginning
SET clickstream.batch_messages = 7;
CALL clickstream.process('s830', 200);
SELECT * FROM wrong();
SET clickstream.batch_messages = 100;
CALL clickstream.process('s830', 300);
SELECT test.define_visits('s830', '_later');
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
-- a session that ends in the very second in which the watermark stands, behind it, when finish() comes: what the content closed, and what finish()
-- closed, are told apart in one go, by verify() as by history
SELECT clickstream.create_stream('e830', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_event_log('log5', stream => 'e830');
SELECT clickstream.create_session('ends', stream => 'e830', gap => '10 minutes', measures => 'count(*) AS n');
SELECT test.feed('e830', E'a 0:00:00.5 /a\nb 0:00:00.1 /a\nc 0:05 /a\na 0:04 /a\nd 0:10:00.2 /a\na 0:05:00.5 /a\nd 0:15:00.2 /a');
CALL clickstream.process('e830');
CALL clickstream.finish('e830');
SELECT * FROM clickstream.verify('ends');
SELECT clickstream.create_session('ends_later', stream => 'e830', gap => '10 minutes', measures => 'count(*) AS n', backfill => true);
CALL clickstream.process('e830');
SELECT * FROM clickstream.verify('ends_later');
SELECT effective_user_id, session_end, n, closed_reason, is_final FROM ends_later ORDER BY 1;
SELECT clickstream.drop_stream('e830');
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
