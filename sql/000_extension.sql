-- DROP EXTENSION takes along what definitions made in its schema; result tables
-- stay, being the user's.  Made again, it begins anew, in the same session, too.
SET client_min_messages = warning;
SELECT clickstream.create_stream('s000') AS id;
SELECT clickstream.create_window('public.kept', stream => 's000', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.create_session('public.visits', stream => 's000');
SELECT clickstream.create_rollup('public.metrics', source => 'visits', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.produce('s000', '{"event_time": "2024-06-01T00:00:00Z", "user_id": "a"}') AS message_offset;
CALL clickstream.finish('s000');
DROP EXTENSION clickstream;
SELECT relname FROM pg_class WHERE relnamespace = 'clickstream'::regnamespace;
SELECT (SELECT n FROM kept) AS kept, (SELECT count(*) FROM visits) AS visits, (SELECT n FROM metrics) AS metrics;
DROP TABLE kept, visits, metrics;
CREATE EXTENSION clickstream;
SELECT clickstream.create_stream('s000') AS id;
SELECT clickstream.create_window('public.kept', stream => 's000', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.produce('s000', '{"event_time": "2024-06-01T00:00:00Z", "user_id": "a"}') AS message_offset;
CALL clickstream.finish('s000');
SELECT n FROM kept;
SELECT clickstream.drop_stream('s000');
SELECT relname FROM pg_class WHERE relname ~ '^(event|state_log|state_spill|definition|stream)_\d|^kept$';
