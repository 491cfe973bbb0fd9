-- Sinks: what is written into the outbox, and when; what cannot be made.  No broker answers here.
SET timezone = 'Asia/Tokyo';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t530;
SET search_path = t530;
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';
SET timezone = 'UTC';
SELECT clickstream.create_stream('s530', watermark_delay => '1 minute', idle_timeout => '1 day') > 0 AS made;
SET timezone = 'Asia/Tokyo';
SELECT clickstream.create_window('hours', stream => 's530', size => '1 hour', group_by => 'page_url', measures => 'count(*) AS events');
SELECT clickstream.create_session('visits', stream => 's530', gap => '10 minutes', measures => 'count(*) AS events, count(*) AS t', emit => 'changes', emit_interval => '0');
SELECT clickstream.create_rollup('starts', source => 'visits', size => '1 hour', measures => 'count(*) AS visits');
SELECT clickstream.create_event_log('log', stream => 's530');
CREATE TABLE mine (a integer PRIMARY KEY);
CREATE VIEW sent AS SELECT s.name, o.position, o.key, o.value FROM clickstream.outbox o JOIN clickstream.sink s USING (sink_id) ORDER BY s.name, o.position;
CREATE FUNCTION send(minute text, page text) RETURNS void LANGUAGE sql AS $$
	SELECT clickstream.produce('s530', format('{"event_time": "2024-06-01T10:%s:00Z", "user_id": "u", "page_url": "%s"}', minute, page)) $$;

-- what cannot be made, before anything is
SELECT clickstream.create_sink(NULL, 'hours', 'x');
SELECT clickstream.create_sink('', 'hours', 'x', brokers => '127.0.0.1:1');
SELECT clickstream.create_sink('x', 'hours', NULL, brokers => '127.0.0.1:1');
SELECT clickstream.create_sink('x', NULL, 'x', brokers => '127.0.0.1:1');
SELECT clickstream.create_sink('x', 'mine', 'x', brokers => '127.0.0.1:1');
SELECT clickstream.create_sink('x', 'log', 'x', brokers => '127.0.0.1:1');
SELECT clickstream.create_sink('x', 'hours', 'x');
SELECT clickstream.create_sink('x', 'hours', 'a topic', brokers => '127.0.0.1:1');
SELECT clickstream.create_sink('x', 'hours', 'x', brokers => 'a broker;');
SELECT clickstream.create_sink('x', 'hours', 'x', brokers => '127.0.0.1:1', emit => 'all');
SELECT clickstream.create_sink('x', 'hours', 'x', brokers => '127.0.0.1:1', outbox_limit => 0);
\set VERBOSITY terse
SELECT clickstream.create_sink('x', 'hours', 'x', brokers => '127.0.0.1:1', options => '{"plugin.library.paths": "x"}');
SELECT clickstream.create_sink('x', 'hours', 'x', brokers => '127.0.0.1:1', options => '{"fetch.min.bytes": 1}');
SELECT clickstream.create_sink('x', 'hours', 'x', brokers => '127.0.0.1:1', options => '{"linger.ms": 5000}');
SELECT clickstream.create_sink('x', 'hours', 'x', brokers => '127.0.0.1:1', options => '{"compression.type": "rar"}');
SELECT clickstream.create_sink('x', 'hours', 'x', brokers => '127.0.0.1:1', options => '{"sasl.password": "x"}');
\set VERBOSITY default
SELECT count(*) FROM clickstream.sink;
CREATE ROLE t530_other IN ROLE clickstream_admin;
GRANT USAGE ON SCHEMA t530 TO t530_other;
SET ROLE t530_other;
SELECT clickstream.create_sink('x', 'hours', 'x', brokers => '127.0.0.1:1', check_broker => false);
RESET ROLE;
CREATE ROLE t530_none;
SET ROLE t530_none;
SELECT clickstream.drop_sink('x');
RESET ROLE;

-- what the results go through is in the outbox, with the transaction that they are of; key and value as JSON, in the stream's time zone
SELECT clickstream.create_sink('changes', 'visits', 'visits', brokers => '127.0.0.1:1', check_broker => false);
SELECT clickstream.create_sink('final', 'visits', 'final-visits', brokers => '127.0.0.1:1', emit => 'final', check_broker => false);
SELECT clickstream.create_sink('windows', 'hours', 'hours', brokers => '127.0.0.1:1', emit => 'final', check_broker => false);
SELECT clickstream.create_sink('rollups', 'starts', 'starts', brokers => '127.0.0.1:1', emit => 'final', check_broker => false);
SELECT clickstream.create_sink('changes', 'visits', 'elsewhere', brokers => '127.0.0.1:1', check_broker => false);
SELECT clickstream.create_sink('changes', 'visits', 'elsewhere', brokers => '127.0.0.1:1', check_broker => false, if_not_exists => true);
SELECT clickstream.create_sink('same', 'hours', 'visits', brokers => '127.0.0.1:1', check_broker => false);
-- two sessions become one: the later one's row goes
SELECT send('00', '/a'), send('15', '/b');
CALL clickstream.process('s530');
SELECT send('08', '/c');
CALL clickstream.process('s530');
SELECT * FROM sent;
SELECT send('59', '/d');
CALL clickstream.process('s530');
CALL clickstream.finish('s530');
SELECT * FROM sent WHERE name <> 'changes';
SELECT sink, stream, definition, topic, waiting, waiting_since, outbox_limit, lost, sent FROM clickstream.stat_sink ORDER BY 1;
SELECT count(DISTINCT token) AS transactions FROM clickstream.outbox JOIN clickstream.sink USING (sink_id) WHERE name = 'changes';

-- one that is made later has what is there, if it is to; in the same words
SELECT clickstream.create_sink('later', 'visits', 'later', brokers => '127.0.0.1:1', emit => 'final', backfill => true, check_broker => false);
SELECT key, value FROM sent WHERE name = 'later' EXCEPT SELECT key, value FROM sent WHERE name = 'final';
SELECT count(*) FROM sent WHERE name = 'later';
SELECT clickstream.create_sink('small', 'hours', 'small', brokers => '127.0.0.1:1', backfill => true, outbox_limit => 2, check_broker => false);

-- a snapshot of before could lack rows that nobody would send
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT clickstream.create_sink('old', 'hours', 'old', brokers => '127.0.0.1:1', backfill => true, check_broker => false);
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT clickstream.reset_sink('later');
ROLLBACK;

-- a full outbox gives up, and the stream goes on
SELECT clickstream.reset('s530');
SELECT clickstream.drop_sink(name) FROM unnest('{later,final,windows,rollups}'::text[]) AS name;
SELECT clickstream.reset_sink('changes', backfill => false);
SELECT clickstream.alter_sink('changes', outbox_limit => 2);
SELECT clickstream.alter_sink('changes', outbox_limit => -1);
\set VERBOSITY terse
SELECT clickstream.alter_sink('changes', options => '{"no.such": 1}', check_broker => false);
\set VERBOSITY default
CALL clickstream.process('s530');
SELECT waiting, lost > 0 AS lost, problem LIKE 'The outbox was full%' AS says_so FROM clickstream.stat_sink WHERE sink = 'changes';
SELECT count(*) FROM visits;
SELECT clickstream.alter_sink('changes', outbox_limit => 1000);
SELECT send('45', '/e');
CALL clickstream.process('s530');
SELECT waiting, lost > 0 AS lost FROM clickstream.stat_sink WHERE sink = 'changes';
SELECT clickstream.reset_sink('changes');
SELECT waiting, lost, problem LIKE 'The outbox was full%' AS says_so FROM clickstream.stat_sink WHERE sink = 'changes';
SELECT count(*) = (SELECT count(*) FROM visits) AS all_of_them FROM sent WHERE name = 'changes';

-- it waits for a broker that does not answer, or is stopped; it goes with its definition
CREATE PROCEDURE poll(condition text) LANGUAGE plpgsql AS $$
DECLARE
	done boolean := false;
BEGIN
	WHILE done IS NOT TRUE LOOP
		EXECUTE 'SELECT ' || condition INTO done;
		PERFORM pg_sleep(0.01);
		COMMIT;
	END LOOP;
END
$$;
CALL poll($$state = 'waiting for broker' AND problem <> '' FROM clickstream.stat_sink WHERE sink = 'changes'$$);
SELECT clickstream.stop_sink('changes');
CALL poll($$state = 'stopped' AND pid IS NULL FROM clickstream.stat_sink WHERE sink = 'changes'$$);
SELECT clickstream.start_sink('changes');
CALL poll($$state = 'waiting for broker' FROM clickstream.stat_sink WHERE sink = 'changes'$$);
SELECT clickstream.start_sink('nobody');
-- what it has of its stream it takes over when that changes
SELECT clickstream.create_stream('k530', brokers => '127.0.0.1:1', topic => 'clicks', check_broker => false) > 0 AS made;
SELECT clickstream.create_window('far', stream => 'k530', size => '1 hour', measures => 'count(*) AS events');
SELECT clickstream.create_sink('heir', 'far', 'far', check_broker => false);
CALL poll($$state = 'waiting for broker' FROM clickstream.stat_sink WHERE sink = 'heir'$$);
SELECT pid AS heir FROM clickstream.stat_sink WHERE sink = 'heir' \gset
SELECT clickstream.alter_stream('k530', brokers => '127.0.0.1:2', check_broker => false);
CALL poll(format($$pid <> %s AND problem LIKE '%%127.0.0.1:2%%' FROM clickstream.stat_sink WHERE sink = 'heir'$$, :heir));
SELECT clickstream.drop_stream('k530');
SET ROLE t530_other;
SELECT clickstream.stop_sink('changes');
RESET ROLE;
SELECT clickstream.drop_rollup('starts');
SELECT clickstream.drop_session('visits');
SELECT count(*) AS sinks, (SELECT count(*) FROM clickstream.outbox) AS rows FROM clickstream.sink;
SELECT clickstream.drop_sink('changes');
SELECT clickstream.drop_sink('changes', if_exists => true);
-- or with its table
SELECT clickstream.create_sink('windows', 'hours', 'hours', brokers => '127.0.0.1:1', backfill => true, check_broker => false);
CALL poll($$state = 'waiting for broker' FROM clickstream.stat_sink WHERE sink = 'windows'$$);
DROP VIEW hours_live;
DROP TABLE hours;
SELECT count(*) FROM clickstream.stat_sink;
CALL poll($$count(*) = 0 FROM pg_stat_activity WHERE application_name = 'clickstream sink: windows'$$);
SELECT clickstream.create_window('hours', stream => 's530', size => '1 hour', measures => 'count(*) AS events');
SELECT count(*) AS sinks, (SELECT count(*) FROM clickstream.outbox) AS rows FROM clickstream.sink;
SELECT clickstream.create_sink('windows', 'hours', 'hours', brokers => '127.0.0.1:1', check_broker => false);
SELECT clickstream.drop_stream('s530');
SELECT count(*) AS sinks, (SELECT count(*) FROM clickstream.sink_end) + (SELECT count(*) FROM clickstream.sink_sent) AS rows FROM clickstream.sink;
RESET clickstream.mock_clock;
DROP SCHEMA t530 CASCADE;
DROP OWNED BY t530_other, t530_none;
DROP ROLE t530_other, t530_none;
