-- Going on behind messages: seek, skip_message; where reading begins, by
-- offsets that count from the end.
SET timezone = 'UTC';
SET client_min_messages = warning;
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';
CREATE SCHEMA t510;
SET search_path = t510;
CREATE FUNCTION send(stream text, n integer, broken integer DEFAULT -1) RETURNS void LANGUAGE sql BEGIN ATOMIC
	SELECT count(clickstream.produce(stream, CASE WHEN i = broken THEN 'broken' ELSE '{"user_id": "u", "event_time": "2024-06-01T10:00:00Z"}' END))
	FROM generate_series(0, n - 1) AS i;
END;
CREATE VIEW where_we_are AS SELECT stream, partition, start_offset, next_offset, used, dead, skipped, lag FROM clickstream.stat_partition;

SELECT clickstream.create_stream('s510') > 0 AS made;
SELECT clickstream.create_window('hours', stream => 's510', size => '1 hour', measures => 'count(*) AS n');
-- before anything was read there is nothing to move
SELECT clickstream.seek('s510', 0, 5);
SELECT send('s510', 10);
CALL clickstream.process('s510', 4);
SELECT * FROM where_we_are;
SELECT clickstream.seek('s510', 0, 7) AS passed_over;
SELECT clickstream.seek('s510', 0, 7, 's510') AS passed_over;
CALL clickstream.process('s510');
SELECT * FROM where_we_are;
-- neither back nor beyond the end
SELECT clickstream.seek('s510', 0, 3);
SELECT clickstream.seek('s510', 0, 11);
SELECT clickstream.seek('s510', 0, NULL);
SELECT clickstream.seek('s510', 1, 3);
SELECT clickstream.seek('s510', 0, 3, 'other');
SELECT clickstream.seek('nobody', 0, 3);
-- up to the end it goes
SELECT send('s510', 5);
SELECT clickstream.seek('s510', 0, 15) AS passed_over;
CALL clickstream.process('s510');
SELECT consumed, used, skipped, balanced FROM clickstream.audit('s510');
CALL clickstream.finish('s510');
SELECT sum(n) FROM hours;

-- one message: the one at which a stream has stopped
SELECT clickstream.create_stream('stops', on_error => 'stop') > 0 AS made;
SELECT clickstream.create_window('stops_hours', stream => 'stops', size => '1 hour', measures => 'count(*) AS n');
SELECT send('stops', 5, 2);
CALL clickstream.process('stops', 2);
CALL clickstream.process('stops');
SELECT * FROM where_we_are WHERE stream = 'stops';
SELECT clickstream.skip_message('stops', 0, 1);
SELECT clickstream.skip_message('stops', 0, 3);
SELECT clickstream.skip_message('stops', 0, 2);
CALL clickstream.process('stops');
SELECT * FROM where_we_are WHERE stream = 'stops';
SELECT consumed, used, dead, skipped, balanced FROM clickstream.audit('stops');
SELECT clickstream.skip_message('stops', 0, 5);

-- what came before the one that cannot be used is consumed, in each partition, and each bad one can be passed over
SELECT clickstream.create_stream('parts', on_error => 'stop') > 0 AS made;
SELECT clickstream.create_window('parts_hours', stream => 'parts', size => '1 hour', measures => 'count(*) AS n');
SELECT clickstream.create_event_log('parts_log', stream => 'parts');
SELECT count(clickstream.produce('parts', CASE WHEN (p, i) IN ((0, 700), (0, 701), (1, 0), (1, 1100)) THEN 'broken'
	ELSE '{"user_id": "u", "event_time": "2024-06-01T10:00:00Z"}' END, partition => p))
FROM generate_series(0, 1) AS p, generate_series(0, 1499) AS i;
CALL clickstream.process('parts');
SELECT partition, next_offset, used, lag FROM where_we_are WHERE stream = 'parts' ORDER BY 1;
SELECT clickstream.skip_message('parts', 1, 0);
CALL clickstream.process('parts');
SELECT partition, next_offset, used, lag FROM where_we_are WHERE stream = 'parts' ORDER BY 1;
SELECT clickstream.skip_message('parts', 0, 700);
CALL clickstream.process('parts');
SELECT clickstream.skip_message('parts', 0, 701);
CALL clickstream.process('parts');
SELECT partition, next_offset, used, lag FROM where_we_are WHERE stream = 'parts' ORDER BY 1;
SELECT clickstream.skip_message('parts', 1, 1100);
CALL clickstream.process('parts');
SELECT partition, consumed, used, dead, skipped, balanced FROM clickstream.audit('parts') ORDER BY 1;
SELECT count(*), count(DISTINCT (partition, message_offset)) FROM parts_log;
CALL clickstream.finish('parts');
SELECT sum(n) FROM parts_hours;

-- from the end
SELECT clickstream.create_stream('tail', start_from => 'offsets', start_offsets => '{"*": -3}') > 0 AS made;
SELECT send('tail', 10);
CALL clickstream.process('tail');
SELECT * FROM where_we_are WHERE stream = 'tail';
SELECT clickstream.reset('tail', 'offsets', start_offsets => '{"0": -100, "*": 0}');
CALL clickstream.process('tail');
SELECT * FROM where_we_are WHERE stream = 'tail';
SELECT clickstream.reset('tail', 'offsets', start_offsets => '{"0": "-1"}');
SELECT clickstream.reset('tail', 'offsets', start_offsets => '{"0": -1.5}');

-- names that fit nothing
SELECT clickstream.reset('tail', 'offsets', start_offsets => '{"00": 1}');
SELECT clickstream.reset('tail', 'offsets', start_offsets => '{"p": 1}');
SELECT clickstream.reset('tail', 'offsets', start_offsets => '{"tai/0": 1}');
SELECT clickstream.reset('tail', 'offsets', start_offsets => '{"tail/0": 1}');
SELECT clickstream.create_stream('named', brokers => '127.0.0.1:1', topic => 'a,b', partitions => '{2,3}', check_broker => false,
	start_from => 'offsets', start_offsets => '{"a/2": 1, "c/3": 1}');
SELECT clickstream.create_stream('named', brokers => '127.0.0.1:1', topic => 'a,b', partitions => '{2,3}', check_broker => false,
	start_from => 'offsets', start_offsets => '{"a/2": 1, "b/4": 1}');

-- some partitions
SELECT clickstream.create_stream('some', partitions => '{0}');
SELECT clickstream.create_stream('some', brokers => '127.0.0.1:1', topic => 't', partitions => '{}');
SELECT clickstream.create_stream('some', brokers => '127.0.0.1:1', topic => 't', partitions => '{1,1}');
SELECT clickstream.create_stream('some', brokers => '127.0.0.1:1', topic => 't', partitions => '{-1}');
SELECT clickstream.create_stream('some', brokers => '127.0.0.1:1', topic => 't', partitions => '{1,NULL}');
SELECT clickstream.create_stream('some', brokers => '127.0.0.1:1', topic => 't', partitions => '{2,3}', check_broker => false) > 0 AS made;
SELECT partitions FROM clickstream.stream WHERE name = 'some';

-- not for everybody
CREATE ROLE regress_cs_seek IN ROLE clickstream_admin;
SET ROLE regress_cs_seek;
SELECT clickstream.seek('s510', 0, 20);
SELECT clickstream.skip_message('s510', 0, 15);
RESET ROLE;
DROP ROLE regress_cs_seek;
SELECT clickstream.drop_stream(name) FROM unnest('{s510,stops,parts,tail,some}'::text[]) AS name;
DROP SCHEMA t510 CASCADE;
