-- Late events are applied while a stream stands midway in a closing whose
-- entries are spilled: the repair closes the rest, more than a batch may at once.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
SET statement_timeout = '60s';
CREATE SCHEMA t435;
SET search_path = t435;
SELECT clickstream.create_stream('s435', watermark_delay => '0', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's435');
SELECT clickstream.create_window('tumbling', stream => 's435', size => '1 hour', group_by => 'user_id', emit => 'closed', measures => 'count(*) AS events', allowed_lateness => '10 minutes');
SELECT clickstream.create_window('hopping', stream => 's435', size => '1 hour', slide => '20 minutes', group_by => 'user_id', emit => 'closed', measures => 'count(*) AS events, sum(length(page_url)) AS bytes');
SELECT clickstream.create_window('cumulative', stream => 's435', size => '1 hour', step => '20 minutes', group_by => 'user_id', emit => 'closed', measures => 'count(*) AS events');
CREATE FUNCTION send(who text, at text) RETURNS bigint LANGUAGE sql AS $$
	SELECT clickstream.produce('s435', json_build_object('user_id', who, 'page_url', '/', 'event_time', '2024-06-01T' || at || 'Z')::text) $$;
SET clickstream.force_spill = 0;
SET clickstream.force_closings = 3;
SELECT count(send('u' || i, '10:' || lpad((i % 50)::text, 2, '0') || ':00')) FROM generate_series(1, 60) AS i;
SELECT send('clock', '11:20:00') > 0 AS sent;
CALL clickstream.process('s435');
SELECT send('late', '09:30:00') > 0 AS sent;
SELECT count(send('w' || i, '11:' || lpad((20 + i % 30)::text, 2, '0') || ':00')) FROM generate_series(1, 60) AS i;
CALL clickstream.process('s435');
SELECT send('clock', '14:00:00') > 0 AS sent;
CALL clickstream.process('s435', 1);
SELECT closed < watermark AS midway FROM clickstream.progress JOIN clickstream.stream USING (stream_id) WHERE name = 's435';
SELECT count(*) FROM clickstream.late_event WHERE stream = 's435';
SELECT t, applied, reason FROM unnest('{tumbling,hopping,cumulative}'::text[]) AS t, clickstream.apply_late(t::regclass);
CALL clickstream.process('s435');
SELECT 'tumbling' AS t, count(*), sum(events) FROM tumbling UNION ALL SELECT 'hopping', count(*), sum(events) FROM hopping UNION ALL SELECT 'cumulative', count(*), sum(events) FROM cumulative;
SELECT clickstream.drop_stream('s435');
RESET clickstream.force_spill;
RESET clickstream.force_closings;
DROP SCHEMA t435 CASCADE;
