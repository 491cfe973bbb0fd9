-- verify() after finish(): what the clock had closed before is no difference; what is one is listed.
SET timezone = 'UTC';
SET client_min_messages = warning;
SELECT clickstream.create_stream('s848', watermark_delay => '0', idle_timeout => '10 milliseconds', filter => $$event_type <> 'noise'$$) > 0 AS made;
SELECT clickstream.create_event_log('log848', stream => 's848');
SELECT clickstream.create_session('visits848', stream => 's848', gap => '10 minutes', measures => 'count(*) AS n');
SELECT test.feed('s848', E'a 0:00 /a\nb 0:05 /a part=1\nc 0:30 /a part=1');
CALL clickstream.process('s848');
-- both partitions have been silent for longer than idle_timeout: the watermark goes to the further one
SELECT pg_sleep(0.05);
CALL clickstream.process('s848');
SELECT effective_user_id, closed_reason FROM visits848 WHERE is_final ORDER BY 1;
-- one speaks again, by a message that definitions do not see: so the log does not say that the watermark had been further
SELECT clickstream.alter_stream('s848', idle_timeout => '1 hour');
SELECT test.feed('s848', 'a 0:01 /a event_type=noise');
CALL clickstream.process('s848');
SELECT * FROM clickstream.verify('visits848');
CALL clickstream.finish('s848');
SELECT effective_user_id, n, closed_reason FROM visits848 ORDER BY 1;
SELECT * FROM clickstream.verify('visits848');
UPDATE visits848 SET n = 2 WHERE effective_user_id = 'b';
UPDATE visits848 SET closed_reason = 'gap', n = 3 WHERE effective_user_id = 'c';
SELECT * FROM clickstream.verify('visits848') ORDER BY key;
SELECT clickstream.drop_stream('s848');
-- after finish() what had closed by it would now have closed by what has come since
SELECT clickstream.create_stream('s848', watermark_delay => '0', idle_timeout => '1 hour', max_future => NULL) > 0 AS made;
SELECT clickstream.create_event_log('log848', stream => 's848');
SELECT clickstream.create_session('visits848', stream => 's848', gap => '10 minutes', measures => 'count(*) AS n');
SELECT test.feed('s848', E'a 0:00 /a\nb 0:05 /a');
CALL clickstream.finish('s848');
SELECT test.feed('s848', E'c 5:00 /a\na 0:20 /a');
CALL clickstream.process('s848');
SELECT * FROM clickstream.verify('visits848');
SELECT message_offset, applied FROM clickstream.apply_late('visits848') ORDER BY 1;
CALL clickstream.process('s848');
SELECT effective_user_id, n, closed_reason FROM visits848 ORDER BY 1, session_start;
SELECT * FROM clickstream.verify('visits848');
UPDATE visits848 SET closed_reason = 'expired' WHERE closed_reason = 'gap';
SELECT * FROM clickstream.verify('visits848');
SELECT clickstream.drop_stream('s848');
