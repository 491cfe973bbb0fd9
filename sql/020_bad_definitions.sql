-- Bad input to definitions: each a clear error with a hint, before anything is
-- made.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t020;
SET search_path = t020;
SELECT clickstream.create_stream('s020') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's020');
CREATE TABLE before AS SELECT oid, relname FROM pg_class WHERE relnamespace IN ('t020'::regnamespace, 'clickstream'::regnamespace);

-- an expression with an error
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(* AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', filter => 'event_type == ''x''');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', filter => 'length(event_type)');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', filter => 'true) OR (true');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n; DROP TABLE x');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'sum(event_type) AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', group_by => '1 / 0 AS x');
SELECT clickstream.create_funnel('bad', stream => 's020', within => '1 hour', steps => ARRAY[
	clickstream.step('a', 'event_type = '), clickstream.step('b', 'true')]);
-- an unknown column
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', filter => 'event_type = "page_view"');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', group_by => 'page_ulr');
SELECT clickstream.create_session('bad', stream => 's020', measures => 'max(e.amount) AS amount');
SELECT clickstream.create_rollup('bad', source => 'visits', size => '1 minute', measures => 'sum(pages) AS n');
SELECT clickstream.create_stream('bad', visitor => 'uid');
SELECT clickstream.create_stream('bad', filter => 'effective_user_id IS NOT NULL');
-- an aggregate that cannot be combined
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'percentile_cont(0.5) WITHIN GROUP (ORDER BY length(page_url)) AS median');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'string_agg(page_url, '','' ORDER BY event_time) AS pages');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'sum(DISTINCT length(page_url)) AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'json_agg(page_url) AS pages');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'mode() WITHIN GROUP (ORDER BY page_url) AS page');
-- what changes from one run to the next, or is no expression of one event
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', filter => 'event_time > now()');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', group_by => 'CURRENT_DATE AS today');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', group_by => 'current_user AS me');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', group_by => 'random() AS x');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => '(SELECT count(*) FROM pg_class) AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) OVER () AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'page_url AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'generate_series(1, 2) AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) + 1');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n, sum(1) AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS is_final');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => '*');
SELECT clickstream.create_rollup('bad', source => 'visits', size => '1 minute', measures => 'first(landing_page) AS page');
SELECT clickstream.create_rollup('bad', source => 'before', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.first('outside'::text);
-- gap <= 0 and other lengths of time
SELECT clickstream.create_session('bad', stream => 's020', gap => '0');
SELECT clickstream.create_session('bad', stream => 's020', gap => '-1 minute');
SELECT clickstream.create_session('bad', stream => 's020', gap => '1 month');
SELECT clickstream.create_session('bad', stream => 's020', gap => '2000 days');
SELECT clickstream.create_session('bad', stream => 's020', max_length => '0');
-- options of sessions that are none, or contradict each other
SELECT clickstream.create_session('bad', stream => 's020', split_at_midnight => true, time_zone => 'Mars/Olympus');
SELECT clickstream.create_session('bad', stream => 's020', time_zone => 'Europe/Vienna');
SELECT clickstream.create_session('bad', stream => 's020', split_on => 'utm_campain');
SELECT clickstream.create_session('bad', stream => 's020', split_on => 'count(*)');
SELECT clickstream.create_session('bad', stream => 's020', split_on => 'utm_source, utm_campaign');
SELECT clickstream.create_session('bad', stream => 's020', split_on => 'event_properties::json');
SELECT clickstream.create_session('bad', stream => 's020', end_when => 'event_type');
SELECT clickstream.create_session('bad', stream => 's020', end_when => 'random() < 0.5');
SELECT clickstream.create_session('bad', stream => 's020', split_on => 'utm_source', measures => 'count(*) AS split_on');
SELECT clickstream.create_session('bad', stream => 's020', allowed_lateness => '-1 minute');
SELECT clickstream.create_session('bad', stream => 's020', allowed_lateness => '1 month');
SELECT clickstream.create_session('bad', stream => 's020', emit => 'final');
SELECT clickstream.create_session('bad', stream => 's020', emit => 'changes', emit_interval => '-1 second');
SELECT clickstream.alter_session('visits', split_on => 'utm_source');
SELECT clickstream.alter_session('visits', emit => 'changes');
SELECT clickstream.alter_session('visits', allowed_lateness => '-1 minute');
SELECT clickstream.create_window('bad', stream => 's020', size => '0', measures => 'count(*) AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 microsecond', measures => 'count(*) AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => NULL, measures => 'count(*) AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 day', slide => '1 millisecond', measures => 'count(*) AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', group_limit => 0);
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n', emit => 'final');
SELECT clickstream.create_stream('bad', watermark_delay => '-1 second');
-- slide not dividing size
SELECT clickstream.create_window('bad', stream => 's020', size => '15 minutes', slide => '4 minutes', measures => 'count(*) AS n');
SELECT clickstream.create_window('bad', stream => 's020', size => '1 minute', slide => '5 minutes', measures => 'count(*) AS n');
-- one step, forty, and steps that are none
SELECT clickstream.create_funnel('bad', stream => 's020', within => '1 hour', steps => ARRAY[clickstream.step('only', 'true')]);
SELECT clickstream.create_funnel('bad', stream => 's020', within => '1 hour', steps => ARRAY(SELECT clickstream.step('s' || i, 'true') FROM generate_series(1, 40) i));
SELECT clickstream.create_funnel('bad', stream => 's020', within => '1 hour', steps => '{}');
SELECT clickstream.create_funnel('bad', stream => 's020', within => '1 hour', steps => ARRAY[clickstream.step('a', 'true'), clickstream.step('a', 'true')]);
SELECT clickstream.create_funnel('bad', stream => 's020', within => '1 hour', steps => ARRAY[clickstream.step('a', 'true'), clickstream.step('b c', 'true')]);
SELECT clickstream.create_funnel('bad', stream => 's020', within => '1 hour', steps => ARRAY[clickstream.step('a', 'true'), NULL]);
SELECT clickstream.create_funnel('bad', stream => 's020', within => '1 hour', steps => ARRAY[clickstream.step('a', 'true'), clickstream.step('b', 'count(*) > 1')]);
SELECT clickstream.create_funnel('bad', stream => 's020', within => '1 hour', mode => 'sideways', steps => ARRAY[clickstream.step('a', 'true'), clickstream.step('b', 'true')]);
SELECT clickstream.create_funnel('bad', stream => 's020', within => '0', steps => ARRAY[clickstream.step('a', 'true'), clickstream.step('b', 'true')]);
-- a missing topic, an unreachable broker; that of port 1 of this machine, which nobody serves
SELECT clickstream.create_stream('bad', brokers => '127.0.0.1:1');
SELECT clickstream.create_stream('bad', brokers => '', topic => 'x');
SELECT clickstream.create_stream('bad', brokers => '127.0.0.1:1', topic => 'a/b');
\set VERBOSITY terse
SELECT clickstream.create_stream('bad', brokers => '127.0.0.1:1', topic => 'x');
\set VERBOSITY default
SELECT clickstream.create_stream('bad', topic => 'x');
SELECT clickstream.create_stream('bad', brokers => '127.0.0.1:1', topic => 'x', options => '{"plugin.library.paths": "/tmp/x"}');
SELECT clickstream.create_stream('bad', brokers => '127.0.0.1:1', topic => 'x', options => '{"sasl.password": {"secret": "../passwd"}}');
SELECT clickstream.create_stream('bad', start_from => 'yesterday');
SELECT clickstream.create_stream('bad', start_from => 'timestamp');
SELECT clickstream.create_stream('bad', start_from => 'offsets', start_offsets => '{"0": 1.5}');
SELECT clickstream.create_stream('bad', preset => 'matomo');
SELECT clickstream.create_stream('bad', mapping => '{"page": "/p"}');
SELECT clickstream.create_stream('bad', mapping => '{"page_url": "p"}');
SELECT clickstream.create_stream('bad', mapping => '{"event_time": null}');
SELECT clickstream.create_stream('bad', mapping => '[]');
SELECT clickstream.create_stream('bad', extra_columns => 'plan nosuchtype');
SELECT clickstream.create_stream('bad', extra_columns => 'page_url text');
SELECT clickstream.create_stream('bad', extra_columns => 'plan text PRIMARY KEY');
SELECT clickstream.create_stream('bad', on_error => 'ignore');
SELECT clickstream.create_stream('bad name!');
SELECT clickstream.create_stream(NULL);
SELECT clickstream.create_stream(repeat('x', 64));
-- a second stream of the same name, a second definition
SELECT clickstream.create_stream('s020');
SELECT clickstream.create_session('visits', stream => 's020');
SELECT clickstream.create_window('visits', stream => 's020', size => '1 minute', measures => 'count(*) AS n', if_not_exists => true);
SELECT clickstream.create_window('bad', stream => 'nowhere', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.create_window('nowhere.bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.create_window('pg_temp.bad', stream => 's020', size => '1 minute', measures => 'count(*) AS n');
-- a result table that exists with other columns
CREATE TABLE other (window_start timestamptz, n bigint);
SELECT clickstream.create_window('other', stream => 's020', size => '1 minute', measures => 'count(*) AS n');
DROP TABLE other;
CREATE TABLE other (window_start timestamptz, window_end timestamptz, n integer, is_final boolean, revision integer, is_rest boolean, group_key uuid, PRIMARY KEY (window_start, group_key));
SELECT clickstream.create_window('other', stream => 's020', size => '1 minute', measures => 'count(*) AS n');
ALTER TABLE other ALTER n TYPE bigint;
INSERT INTO other VALUES (now(), now(), 1, true, 0, false, '00000000-0000-0000-0000-000000000000');
SELECT clickstream.create_window('other', stream => 's020', size => '1 minute', measures => 'count(*) AS n');
TRUNCATE other;
CREATE VIEW looks AS TABLE other;
SELECT clickstream.create_window('looks', stream => 's020', size => '1 minute', measures => 'count(*) AS n');
DROP VIEW looks;

-- Nothing was made of all that.
SELECT name FROM clickstream.stream;
SELECT table_oid, kind FROM clickstream.definition;
SELECT c.relname FROM pg_class c WHERE relnamespace IN ('t020'::regnamespace, 'clickstream'::regnamespace)
	AND NOT EXISTS (SELECT FROM before b WHERE b.oid = c.oid) AND c.relname NOT IN ('before', 'other', 'other_pkey');
-- one that fits is taken
SELECT clickstream.create_window('other', stream => 's020', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.drop_window('other');
-- and bad calls of what moves a stream
CALL clickstream.process('nowhere');
CALL clickstream.process(NULL);
CALL clickstream.process('s020', -1);
BEGIN;
CALL clickstream.process('s020');
ROLLBACK;
CALL clickstream.finish('nowhere');
CALL clickstream.wait_for('s020', '-1 second');
SELECT clickstream.produce('nowhere', '{}');
SELECT clickstream.produce('s020', '{}', partition => -1);
SELECT clickstream.audit('nowhere');
SELECT clickstream.reset('nowhere');
SELECT clickstream.start('nowhere');
SELECT clickstream.open_sessions('before');
SELECT clickstream.drop_window('before');
SELECT clickstream.alter_stream('s020', brokers => 'x:1');
SELECT clickstream.alter_window('before');
SELECT clickstream.alter_session(NULL);
SELECT clickstream.alter_window(NULL);
SELECT clickstream.alter_funnel(NULL);
SELECT clickstream.alter_rollup(NULL);
SELECT clickstream.alter_event_log(NULL);
-- a subtransaction that is rolled back has written nothing: nothing of it is left for the COMMIT
BEGIN READ ONLY;
SAVEPOINT a;
SELECT clickstream.produce('s020', '{}');
ROLLBACK TO a;
COMMIT;
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT clickstream.produce('s020', '{"n": 0}', partition => 1);
RELEASE b;
SAVEPOINT c;
SELECT clickstream.produce('s020', '{"n": "rolled back"}', partition => 1);
ROLLBACK TO c;
RELEASE a;
COMMIT;
SELECT clickstream.produce('s020', '{"n": 1}', partition => 1);
SELECT partition, message_offset, payload FROM clickstream.local_message JOIN clickstream.stream USING (stream_id) WHERE name = 's020' ORDER BY 1, 2;
SELECT clickstream.drop_stream('s020');
DROP SCHEMA t020 CASCADE;
