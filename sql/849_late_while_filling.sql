-- An event of history that comes late, but within allowed_lateness, in a transaction in which the watermark stays: the rows that it belongs to
-- are written again, as they are for a definition that is there.
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE SCHEMA t849;
SET search_path = t849;
SELECT clickstream.create_stream('s849', watermark_delay => '1 minute') > 0 AS made;
CREATE PROCEDURE make(suffix text, backfill boolean) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.create_window('tumbling' || suffix, stream => 's849', backfill => backfill, size => '10 minutes', allowed_lateness => '8 hours', emit => 'changes', emit_interval => '0',
		measures => 'count(*) AS n');
	PERFORM clickstream.create_window('hopping' || suffix, stream => 's849', backfill => backfill, size => '30 minutes', slide => '10 minutes', allowed_lateness => '8 hours', emit => 'changes',
		emit_interval => '0', measures => 'count(*) AS n, first(user_id) AS who');
END
$$;
CREATE FUNCTION produce(at time) RETURNS bigint LANGUAGE sql AS $$
	SELECT clickstream.produce('s849', format('{"user_id": "u", "event_type": "page_view", "event_time": "2024-06-01 %s+00"}', at)) $$;
-- Four messages of history are a transaction: the second one has late events only.
SET clickstream.batch_messages = 1;
-- from the topic
CALL make('', false);
SELECT count(produce(at)) FROM unnest('{00:05, 01:20, 01:21, 01:21, 00:06, 00:07, 00:06, 00:07, 01:20, 01:21, 01:20, 01:21, 01:21}'::time[]) at;
CALL clickstream.process('s849');
CALL make('_topic', true);
CALL clickstream.process('s849');
SELECT to_char(window_start, 'HH24:MI') AS at, t.n, f.n AS filled FROM tumbling t FULL JOIN tumbling_topic f USING (window_start) ORDER BY window_start;
SELECT to_char(window_start, 'HH24:MI') AS at, t.n, f.n AS filled FROM hopping t FULL JOIN hopping_topic f USING (window_start) ORDER BY window_start;
RESET clickstream.batch_messages;
SELECT clickstream.drop_stream('s849');
-- from the event log
SET clickstream.batch_messages = 1;
SELECT clickstream.create_stream('s849', watermark_delay => '1 minute') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's849');
CALL make('', false);
SELECT count(produce(at)) FROM unnest('{00:05, 01:20, 01:21, 01:21, 00:06, 00:07, 00:06, 00:07, 01:20, 01:21, 01:20, 01:21, 01:21}'::time[]) at;
CALL clickstream.process('s849');
CALL make('_log', true);
CALL clickstream.process('s849');
SELECT to_char(window_start, 'HH24:MI') AS at, t.n, f.n AS filled FROM tumbling t FULL JOIN tumbling_log f USING (window_start) ORDER BY window_start;
SELECT to_char(window_start, 'HH24:MI') AS at, t.n, f.n AS filled FROM hopping t FULL JOIN hopping_log f USING (window_start) ORDER BY window_start;
RESET clickstream.batch_messages;
SET client_min_messages = warning;
SELECT clickstream.drop_stream('s849');
DROP SCHEMA t849 CASCADE;
