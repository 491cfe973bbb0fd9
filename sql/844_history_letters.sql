-- History from the topic and dead letters of the stream: whatever has become of the mapping, the letters and the topic since, each
-- message counts once, and what a definition cannot have is its own dead letter.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t844;
SET search_path = t844;
CREATE FUNCTION hours(stream text, name text, backfill boolean) RETURNS void LANGUAGE sql AS $$
	SELECT clickstream.create_window(name, stream => stream, size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n', backfill => backfill) $$;
CREATE VIEW counted AS SELECT definition, since_offset, used, dead FROM clickstream.stat_definition_partition
	WHERE definition IN (SELECT oid FROM pg_class WHERE relnamespace = 't844'::regnamespace) ORDER BY 1;
CREATE VIEW letter AS SELECT definition, message_offset, cause, outcome FROM clickstream.dead_letter WHERE stream LIKE '_844' ORDER BY 2, 1;
-- a letter that has become readable since: history leaves it to retry_dead_letters(), before, meanwhile, and after; each counts it once
SELECT clickstream.create_stream('a844', watermark_delay => '1 hour') > 0 AS made;
SELECT hours('a844', 'a_hours', false);
SELECT test.feed('a844', E'a 0:00 /a\nb 0:01 /a raw={"ts": "2024-06-01T00:01:00Z", "user_id": "b"}\nc 0:02 /a\nd 0:03 /a raw={"ts": "2024-06-01T00:03:00Z", "user_id": "d"}\n'
	|| (SELECT string_agg(format('v%s 0:%s /a', i, i), E'\n') FROM generate_series(4, 9) i) || E'\ne 0:10 /a raw={"ts": "2024-06-01T00:10:00Z", "user_id": "e"}\nf 0:11 /a');
CALL clickstream.process('a844');
SELECT clickstream.alter_stream('a844', mapping => '{"event_time": ["/event_time", "/ts"]}');
SELECT hours('a844', 'a_filled', true);
-- not begun: it takes the letter now, wherever its history will begin
SELECT message_offset, outcome FROM clickstream.retry_dead_letters('a844', 'message_offset = 3');
SELECT first_offset, definition_id > 0 AS ones FROM clickstream.passed_over;
SELECT used, dead FROM counted WHERE definition = 'a_filled'::regclass;
SET clickstream.batch_messages = 1;
SELECT test.feed('a844', E'g 0:12 /a\nh 0:13 /a');
CALL clickstream.process('a844', 1);
SELECT done, todo FROM clickstream.stat_progress;
-- passed, and not yet met
SELECT message_offset, outcome FROM clickstream.retry_dead_letters('a844', 'message_offset = 1');
CALL clickstream.process('a844');
RESET clickstream.batch_messages;
SELECT test.differences('a_hours_live', 'a_filled_live');
SELECT message_offset, outcome FROM clickstream.retry_dead_letters('a844');
SELECT test.differences('a_hours_live', 'a_filled_live');
SELECT string_agg(user_id || n, ' ' ORDER BY user_id) FROM a_filled_live;
TABLE counted;
SELECT consumed, used, dead, balanced FROM clickstream.audit('a844');
SELECT clickstream.drop_stream('a844');
-- used when they came, unreadable by now; mended before the definition was made; mended and left out by the filter while it was filled
SELECT clickstream.create_stream('b844', watermark_delay => '1 hour', filter => $$user_id <> 'nobody'$$, mapping => '{"event_time": ["/event_time", "/ts"]}') > 0 AS made;
SELECT hours('b844', 'b_hours', false);
SELECT test.feed('b844', E'a 0:00 /a\nb 0:01 /a raw={"ts": "2024-06-01T00:01:00Z", "user_id": "b"}\nc 0:02 /a raw={"time": "2024-06-01T00:02:00Z", "user_id": "c"}\n'
	'nobody 0:03 /a raw={"time": "2024-06-01T00:03:00Z", "user_id": "nobody"}\ne 0:04 /a raw={"broken\nf 0:05 /a');
CALL clickstream.process('b844');
SELECT clickstream.alter_stream('b844', mapping => '{"event_time": "/event_time"}');
SELECT message_offset, outcome FROM clickstream.retry_dead_letters('b844', 'message_offset = 2', $$replace(message, '"time"', '"event_time"')$$);
SELECT hours('b844', 'b_filled', true);
SELECT message_offset, outcome FROM clickstream.retry_dead_letters('b844', 'message_offset = 3', $$replace(message, '"time"', '"event_time"')$$);
CALL clickstream.process('b844');
SELECT string_agg(user_id || n, ' ' ORDER BY user_id) FROM b_hours_live;
SELECT string_agg(user_id || n, ' ' ORDER BY user_id) FROM b_filled_live;
TABLE letter;
TABLE counted;
SELECT consumed, used, filtered, dead, balanced FROM clickstream.audit('b844');
-- letters that are trimmed are nobody's: they are the next definition's
SELECT clickstream.trim_letters('b844', '0') AS trimmed;
SELECT hours('b844', 'b_again', true);
CALL clickstream.process('b844');
SELECT string_agg(user_id || n, ' ' ORDER BY user_id) FROM b_again_live;
TABLE letter;
SELECT clickstream.audit('b844') IS NOT NULL AS audited;
SELECT clickstream.drop_stream('b844');
-- a seek to where it stands passes over nothing, however often; history passes over what the others have
SELECT clickstream.create_stream('c844', watermark_delay => '1 hour') > 0 AS made;
SELECT hours('c844', 'c_hours', false);
SELECT test.feed('c844', (SELECT string_agg(format('v%s 0:%s /a', i, i), E'\n') FROM generate_series(0, 19) i));
CALL clickstream.process('c844', 4);
SELECT clickstream.seek('c844', 0, 20) AS passed_over;
SELECT clickstream.seek('c844', 0, 20) AS passed_over;
SELECT clickstream.seek('c844', 0, 20) AS passed_over;
SELECT test.feed('c844', E'w1 0:30 /a\nw2 0:31 /a');
SELECT clickstream.seek('c844', 0, 21) AS passed_over;
CALL clickstream.process('c844');
SELECT first_offset, next_offset FROM clickstream.passed_over ORDER BY 1;
SELECT hours('c844', 'c_filled', true);
CALL clickstream.process('c844');
SELECT test.differences('c_hours_live', 'c_filled_live'), (SELECT string_agg(user_id || n, ' ' ORDER BY user_id) FROM c_filled_live);
SELECT clickstream.drop_stream('c844');
-- a topic that is compacted holds fewer messages than the stream has letters of it
SELECT clickstream.create_stream('e844', watermark_delay => '1 hour') > 0 AS made;
SELECT hours('e844', 'e_hours', false);
SELECT test.feed('e844', E'a 0:00 /a\n' || (SELECT string_agg(format('v 0:%s /a raw={"ts": "2024-06-01T00:0%1$s:00Z", "user_id": "v%1$s"}', i), E'\n') FROM generate_series(1, 8) i) || E'\nz 0:09 /a');
CALL clickstream.process('e844');
SELECT clickstream.alter_stream('e844', mapping => '{"event_time": ["/event_time", "/ts"]}');
DELETE FROM clickstream.local_message WHERE message_offset BETWEEN 1 AND 6 AND stream_id = (SELECT stream_id FROM clickstream.stream WHERE name = 'e844');
SELECT hours('e844', 'e_filled', true);
CALL clickstream.process('e844');
SELECT string_agg(user_id || n, ' ' ORDER BY user_id) FROM e_filled_live;
SELECT outcome, count(*) FROM clickstream.retry_dead_letters('e844') GROUP BY 1;
SELECT test.differences('e_hours_live', 'e_filled_live'), (SELECT string_agg(user_id || n, ' ' ORDER BY user_id) FROM e_filled_live);
SELECT clickstream.drop_stream('e844');
DROP SCHEMA t844 CASCADE;
