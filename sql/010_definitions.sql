-- The surface: what can be made, altered, dropped; what is said about it.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = notice;
CREATE SCHEMA t010;
SET search_path = t010;

-- Everything of the extension that a user can see has a comment.
CREATE VIEW member AS
SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'clickstream');
SELECT 'routine' AS kind, p.oid::regprocedure::text AS without_comment FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE obj_description(p.oid, 'pg_proc') IS NULL
UNION ALL
SELECT 'relation', c.oid::regclass::text FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
WHERE c.relkind IN ('r', 'v', 'm', 'p') AND obj_description(c.oid, 'pg_class') IS NULL
UNION ALL
SELECT 'column', format('%s.%s', c.oid::regclass, a.attname) FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'c') AND col_description(c.oid, a.attnum) IS NULL
UNION ALL
SELECT 'type', t.oid::regtype::text FROM pg_type t JOIN member m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
WHERE t.typtype = 'c' AND t.typrelid IN (SELECT oid FROM pg_class WHERE relkind = 'c') AND obj_description(t.oid, 'pg_type') IS NULL
ORDER BY 1, 2;
-- Volatility, strictness and parallel safety are chosen, not left: nothing
-- that changes anything is parallel safe or less than volatile.
SELECT p.proname FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE p.proname ~ '^(create|alter|drop|trim|advance|set|check|notify|schedule|unschedule|maintain)_|^(start|stop|reset|produce|quickstart)$' AND (p.provolatile <> 'v' OR p.proparallel <> 'u');
SELECT p.proname, p.provolatile, p.proisstrict, p.proparallel FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE p.prokind = 'f' AND p.proname !~ '^(create|alter|drop|trim|advance|set|check|notify|schedule|unschedule|maintain)_|^(start|stop|reset|produce|quickstart)$' ORDER BY 1, 2, 3;
-- Nothing that changes anything may be called by everybody.
SELECT p.oid::regprocedure FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE (p.provolatile = 'v' OR p.prokind = 'p') AND p.proname NOT IN ('stat_worker', 'stat_memory_facts')
	AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) WHERE grantee = 0)
ORDER BY 1::text;
SELECT c.relname FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid,
	LATERAL aclexplode(c.relacl) a WHERE a.grantee = 0 AND a.privilege_type <> 'SELECT';
-- Settings: at most 15, all with a description that begins alike; numbers of time or size have units.
SELECT count(*) <= 15 AS few_enough FROM pg_settings WHERE name LIKE 'clickstream.%' AND name NOT IN ('clickstream.mutant', 'clickstream.fault', 'clickstream.force_spill', 'clickstream.force_closings');
SELECT name, short_desc FROM pg_settings WHERE name LIKE 'clickstream.%' AND short_desc !~ '^Sets .*\.$';
-- clickstream.mutant, fault and force_... are there in test builds only
SELECT name, context, vartype, unit FROM pg_settings WHERE name LIKE 'clickstream.%' AND name NOT IN ('clickstream.mutant', 'clickstream.fault', 'clickstream.force_spill', 'clickstream.force_closings') ORDER BY name;
SET clickstream.no_such_setting = 1;

-- One of each, and what the catalog says of it.
SELECT clickstream.create_stream('s010', watermark_delay => '5 seconds', extra_columns => 'plan text', retention => '1 day') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's010');
SELECT clickstream.create_window('views', stream => 's010', size => '1 minute', group_by => 'page_url, lower(plan) AS plan',
	measures => 'count(*) AS view_count, count(DISTINCT effective_user_id) AS unique_visitors, avg(length(page_title)) AS title');
SELECT clickstream.create_window('rolling', stream => 's010', size => '15 minutes', slide => '1 minute', measures => 'count(*) AS view_count');
SELECT clickstream.create_funnel('buying', stream => 's010', within => '1 hour', key => 'user_id', steps => ARRAY[
	clickstream.step('look', $$page_url LIKE '%/product/%'$$), clickstream.step('buy', $$event_type = 'purchase'$$)]);
SELECT clickstream.create_rollup('visit_metrics', source => 'visits', size => '1 minute', measures => 'count(*) AS total');
SELECT clickstream.create_event_log('events', stream => 's010', retention => '30 days');
SELECT d.table_oid, d.kind, d.size, d.slide, d.gap, d.within, d.emit, d.emit_interval, d.retention, d.steps
FROM clickstream.definition d JOIN clickstream.stream s USING (stream_id) WHERE s.name = 's010' ORDER BY definition_id;
SELECT name, owner, brokers, topic, start_from, watermark_delay, idle_timeout, max_future, visitor, preset, extra_columns, on_error, retention, enabled, time_zone
FROM clickstream.stream WHERE name = 's010';
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS key, col_description(c.oid, a.attnum) AS comment
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relname IN ('views', 'buying', 'visit_metrics') AND c.relnamespace = 't010'::regnamespace ORDER BY c.relname, a.attnum;
SELECT c.relname, obj_description(c.oid, 'pg_class') AS comment, pg_get_userbyid(c.relowner) = current_user AS mine
FROM pg_class c WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 't010'::regnamespace ORDER BY 1;
SELECT stream, state, lag, watermark FROM clickstream.stat_stream WHERE stream = 's010';
-- room beside a row that may be written again; changes are counted as often as a growing row makes them
SELECT clickstream.create_session('belated', stream => 's010', allowed_lateness => '1 minute');
SELECT c.relname, c.reloptions FROM pg_class c WHERE c.relname IN ('visits', 'belated', 'views') AND c.relnamespace = 't010'::regnamespace ORDER BY 1;
SELECT clickstream.drop_session('belated');

-- again: refused, or skipped
SELECT clickstream.create_stream('s010', if_not_exists => true) > 0 AS skipped;
SELECT clickstream.create_session('visits', stream => 's010', if_not_exists => true);
SELECT clickstream.create_window('views', stream => 's010', size => '1 minute', measures => 'count(*) AS n', if_not_exists => true);
SELECT clickstream.create_funnel('buying', stream => 's010', within => '1 hour', steps => NULL, if_not_exists => true);
SELECT clickstream.create_rollup('visit_metrics', source => 'visits', size => '1 minute', measures => 'count(*) AS n', if_not_exists => true);
SELECT clickstream.create_event_log('events', stream => 's010', if_not_exists => true);
-- altered: what can be
SELECT clickstream.alter_stream('s010', watermark_delay => '7 seconds', on_error => 'stop', retention => '2 days');
SELECT watermark_delay, idle_timeout, on_error, retention FROM clickstream.stream WHERE name = 's010';
SELECT clickstream.alter_window('views', emit_interval => '1 second', group_limit => 5);
SELECT clickstream.alter_rollup('visit_metrics', emit_interval => '2 seconds');
SELECT clickstream.alter_event_log('events', retention => '3 days');
SELECT table_oid, emit_interval, group_limit, retention FROM clickstream.definition WHERE table_oid IN ('views'::regclass, 'visit_metrics'::regclass, 'events'::regclass) ORDER BY table_oid::regclass::text;
-- and what would change the meaning of what is kept
SELECT clickstream.alter_session('visits', gap => '10 minutes');
SELECT clickstream.alter_window('views', size => '10 minutes');
SELECT clickstream.alter_funnel('buying', within => '10 minutes');
SELECT clickstream.alter_rollup('visit_metrics', size => '10 minutes');
SELECT clickstream.alter_window('visits', emit_interval => '1 second');
SELECT clickstream.alter_stream('s010', visitor => 'user_id');
SELECT clickstream.alter_stream('s010', partitions => '{0}');
-- dropped
SELECT clickstream.drop_session('visits');
SELECT clickstream.drop_rollup('visit_metrics');
SELECT clickstream.drop_session('visits');
SELECT clickstream.drop_session('visits');
SELECT clickstream.drop_session('visits', if_exists => true);
SELECT clickstream.drop_window('buying');
SELECT clickstream.drop_funnel('buying');
SELECT clickstream.drop_event_log('events');
-- a table that its owner drops takes its definition along
DROP TABLE rolling;
SELECT clickstream.create_window('rolling', stream => 's010', size => '15 minutes', slide => '5 minutes', measures => 'count(*) AS view_count');
SELECT clickstream.drop_stream('s010');
SELECT clickstream.drop_stream('s010', if_exists => true);
SELECT clickstream.drop_stream('s010');
-- nothing is left
SELECT relname FROM pg_class WHERE relnamespace = 't010'::regnamespace AND relname <> 'member';
SELECT relname FROM pg_class WHERE relnamespace = 'clickstream'::regnamespace AND relname ~ '^(event|state_log|state_spill|definition|stream)_\d' ORDER BY 1;
SELECT count(*) AS streams FROM clickstream.stream;

-- the whole pipeline in one call
SET client_min_messages = warning;
SELECT clickstream.quickstart('q010', target_schema => 't010_web', event_log => true, start => false);
-- again: its own hint can be followed
SELECT clickstream.quickstart('q010', target_schema => 't010_web', event_log => true, start => false);
SELECT clickstream.quickstart('q010', target_schema => 't010_web', event_log => true, start => false, if_not_exists => true);
-- nothing listens there
SELECT clickstream.quickstart('q010_away', brokers => '127.0.0.1:1', topic => 't', target_schema => 't010_away', start => false, check_broker => false);
SELECT clickstream.drop_stream('q010_away');
DROP SCHEMA t010_away;
SELECT c.relname, string_agg(a.attname, ', ' ORDER BY a.attnum) AS columns FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 't010_web'::regnamespace AND NOT c.relispartition GROUP BY 1 ORDER BY 1;
SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 't010_web'::regnamespace AND NOT c.relispartition AND col_description(c.oid, a.attnum) IS NULL ORDER BY 1, 2;
SELECT clickstream.drop_stream('q010');
DROP SCHEMA t010_web;
DROP SCHEMA t010 CASCADE;
