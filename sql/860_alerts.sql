-- Alerts: making, changing and looking at them; a worker evaluates them, see test/t/860_alerts.pl.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE ROLE regress_cs_watcher IN ROLE clickstream_admin;
CREATE ROLE regress_cs_passer IN ROLE clickstream_admin;
CREATE SCHEMA t860 AUTHORIZATION regress_cs_watcher;
GRANT USAGE ON SCHEMA test TO PUBLIC;
SET search_path = t860;
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';
SET ROLE regress_cs_watcher;
SELECT clickstream.create_stream('s860') > 0 AS made, clickstream.create_stream('t860') > 0 AS other;
SELECT clickstream.create_window('minutes', stream => 's860', size => '1 minute', measures => 'count(*) AS events');
SELECT clickstream.create_window('others', stream => 't860', size => '1 minute', measures => 'count(*) AS events');
-- which stream evaluates it: whose tables the query reads, in a view too, or the one that is named
CREATE VIEW busy AS SELECT window_start, events FROM minutes WHERE events > 2;
SELECT clickstream.create_alert('busy', 'SELECT * FROM busy ORDER BY window_start -- the first', hold_for => '1 minute');
SELECT clickstream.create_alert('dead', $$SELECT dead, next_offset FROM clickstream.stat_partition WHERE stream = 's860' AND dead > 0.01 * next_offset$$,
	channel => NULL, stream => 's860');
SELECT clickstream.create_alert('clock', 'SELECT now() AS now WHERE false', stream => 't860', channel => 'Uhr');
SELECT stream, name, state, since, detail, hold_for, channel, last_error FROM clickstream.alert ORDER BY name;
-- what each says now
SELECT holds, detail FROM clickstream.check_alert('busy');
SELECT test.feed('s860', E'a 0:00 /\na 0:00 /\nb 0:00 /\nb 0:05 /\nx 0:06 - raw=no JSON');
CALL clickstream.process('s860');
SELECT holds, detail FROM clickstream.check_alert('busy');
SELECT holds, detail FROM clickstream.check_alert('dead');
SELECT holds, detail FROM clickstream.check_alert('clock');
-- the names in the query are those of when it was made
SET search_path = pg_catalog;
SELECT holds FROM clickstream.check_alert('busy');
SET search_path = t860;
-- changed
SELECT clickstream.alter_alert('busy', query => 'SELECT 1 AS one', hold_for => '0', channel => 'loud', enabled => false);
SELECT name, state, query, hold_for, channel FROM clickstream.alert WHERE name = 'busy';
SELECT clickstream.alter_alert('busy', enabled => true);
SELECT name, state <> 'disabled' AS enabled, query, hold_for, channel FROM clickstream.alert WHERE name = 'busy';
SELECT clickstream.alter_alert('busy');
SELECT clickstream.drop_alert('clock');
SET client_min_messages = notice;
SELECT clickstream.drop_alert('clock', if_exists => true);
SET client_min_messages = warning;
SELECT name FROM clickstream.alert ORDER BY 1;
-- what is refused
SELECT clickstream.create_alert('busy', 'SELECT FROM minutes');
SELECT clickstream.create_alert(NULL, 'SELECT FROM minutes');
SELECT clickstream.create_alert('a', NULL);
SELECT clickstream.create_alert('a', 'SELECT no_column FROM minutes');
SELECT clickstream.create_alert('a', 'SELECT 1 WHERE');
SELECT clickstream.create_alert('a', 'DELETE FROM minutes RETURNING 1');
SELECT clickstream.create_alert('a', 'WITH gone AS (DELETE FROM minutes RETURNING 1) SELECT * FROM gone');
SELECT clickstream.create_alert('a', 'SELECT 1) AS alert_row; DELETE FROM minutes; SELECT (SELECT 1');
SELECT clickstream.create_alert('a', 'SELECT $1 FROM minutes');
SELECT clickstream.create_alert('a', 'SELECT 1');
SELECT clickstream.create_alert('a', 'SELECT 1 FROM minutes, others');
SELECT clickstream.create_alert('a', 'SELECT 1', stream => 'nowhere');
SELECT clickstream.create_alert('a', 'SELECT FROM minutes', hold_for => '-1 s');
SELECT clickstream.create_alert('a', 'SELECT FROM minutes', hold_for => NULL);
SELECT clickstream.create_alert('a', 'SELECT FROM minutes', channel => '');
SELECT clickstream.create_alert('a', 'SELECT FROM minutes', channel => repeat('c', 64));
SELECT clickstream.alter_alert('busy', query => 'SELECT');
SELECT clickstream.alter_alert('busy', query => 'VALUES (no)');
SELECT clickstream.alter_alert('none');
SELECT clickstream.drop_alert('none');
SELECT clickstream.check_alert('none');
-- a query can only read, here too
CREATE FUNCTION writes() RETURNS integer LANGUAGE sql AS 'DELETE FROM t860.minutes; SELECT 1';
SELECT clickstream.create_alert('writes', 'SELECT t860.writes() FROM minutes');
SELECT clickstream.check_alert('writes');
SELECT count(*) > 0 AS still_there FROM minutes;
-- what goes with its table stays away from nobody else; the alert is there until its stream is dropped
DROP FUNCTION writes;
SELECT clickstream.drop_window('others');
-- result tables that tell of their changes
SELECT clickstream.notify_changes('minutes', 'minutes changed');
SELECT clickstream.create_event_log('log', stream => 's860');
SELECT clickstream.notify_changes('log', 'log');
SELECT clickstream.notify_changes('minutes', '');
SELECT clickstream.notify_changes(NULL, 'x');
SELECT clickstream.notify_changes('minutes', NULL);
-- who may
RESET ROLE;
SET ROLE regress_cs_passer;
SELECT count(*) FROM clickstream.alert;
SELECT clickstream.create_alert('mine', 'SELECT 1', stream => 's860');
SELECT clickstream.alter_alert('busy', enabled => false);
SELECT clickstream.drop_alert('busy');
SELECT clickstream.check_alert('busy');
SELECT count(*) FROM clickstream.alert_definition;
RESET ROLE;
DROP VIEW busy;
SELECT clickstream.drop_stream('s860'), clickstream.drop_stream('t860');
SELECT count(*) FROM clickstream.alert;
DROP OWNED BY regress_cs_watcher, regress_cs_passer;
DROP ROLE regress_cs_watcher, regress_cs_passer;
