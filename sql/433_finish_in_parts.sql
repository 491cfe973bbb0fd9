-- finish() closes sessions whose open rows are shown in parts, too: each is closed by it, whatever part it comes in.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t433;
SET search_path = t433;
SET clickstream.force_closings = 5;
SELECT clickstream.create_stream('s433', watermark_delay => '2 hours', idle_timeout => '1 day', max_future => NULL) > 0 AS made;
SELECT clickstream.create_session('t433.visits', stream => 's433', gap => '5 minutes', emit => 'changes');
SELECT count(clickstream.produce('s433', format('{"user_id": "u%s", "event_time": "2024-06-01T11:%s:00Z"}', i % 60, lpad((i / 5)::text, 2, '0')))) FROM generate_series(0, 299) AS i;
CALL clickstream.process('s433');
SELECT count(*), closed_reason, is_final FROM visits GROUP BY 2, 3 ORDER BY 2, 3;
CALL clickstream.finish('s433');
SELECT count(*), closed_reason, is_final FROM visits GROUP BY 2, 3 ORDER BY 2, 3;
SELECT clickstream.drop_stream('s433');
RESET clickstream.force_closings;
DROP SCHEMA t433 CASCADE;
