-- Counters by partition and definition: nothing is dropped silently, and audit() proves it.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t300;
SET search_path = t300;
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';
SELECT clickstream.create_stream('s300', extra_columns => 'quantity int', filter => $$page_url <> '/bot'$$) > 0 AS made;
SELECT clickstream.create_window('minute', stream => 's300', size => '1 minute', measures => 'count(*) AS events, sum(60 / quantity) AS share');
SELECT clickstream.create_window('hour', stream => 's300', size => '1 hour', measures => 'count(*) AS events');
SELECT clickstream.create_session('visits', stream => 's300', gap => '1 minute', measures => 'count(*) AS events, max(quantity) AS most');
SELECT clickstream.create_funnel('ab', stream => 's300', within => '1 minute', steps => ARRAY[
	clickstream.step('a', $$page_url = '/a'$$), clickstream.step('b', $$page_url = '/b'$$)]);
SELECT clickstream.create_rollup('starts', source => 'visits', size => '1 minute', measures => 'sum(60 / (most - 7)) AS share');
CREATE VIEW counts AS SELECT definition, partition AS part, since_offset AS since, used, late, dead, without_key
FROM clickstream.stat_definition_partition WHERE stream = 's300' ORDER BY definition::text, partition;
CREATE VIEW totals AS SELECT definition, kind, test.at(closed_until) AS closed_until, used, late, dead, without_key, rows_written, rows_deleted, measure_errors, state_entries
FROM clickstream.stat_definition WHERE stream = 's300' ORDER BY definition::text;
TABLE totals;
TABLE counts;
-- partition 0: used by all; a bot; no visitor; a division by zero; one too late for minute and funnel.
-- partition 1: one that is dead as a whole, one of a visitor whose row the rollup cannot use
SELECT test.feed('s300', $$
	a   0:10    /a     quantity=1
	b   0:10    /bot   quantity=1
	-   0:10    /a     quantity=1
	c   0:10    /a     quantity=0
	a   0:02    /b     quantity=1
	d   0:10    /a     quantity=7  part=1
	e   0:10    /b     raw=nonsense part=1
	d   0:10    /      part=1 raw={]
	a   0:02    /b     quantity=1 part=1
$$);
CALL clickstream.process('s300');
TABLE counts;
TABLE totals;
SELECT * FROM clickstream.audit('s300');
SELECT stream, partition, message_offset, definition, test.at(event_time) AS at, lateness, test.at(watermark) AS watermark, test.at(watermark - lateness) AS line,
	convert_from(payload, 'UTF8')::jsonb->>'page_url' AS page, applied_at
FROM clickstream.late_event WHERE stream = 's300' ORDER BY definition::text, partition, message_offset;
-- a definition made later counts from then on, and one that goes takes its counters along
SELECT clickstream.create_window('later', stream => 's300', size => '1 hour', measures => 'count(*) AS events');
SELECT clickstream.drop_window('hour');
SELECT test.feed('s300', $$
	a   0:20    /a     quantity=1
	a   0:20    /a     quantity=1 part=2
$$);
SET clickstream.batch_messages = 1;
CALL clickstream.process('s300');
RESET clickstream.batch_messages;
SELECT * FROM counts WHERE definition = 'later'::regclass;
SELECT DISTINCT definition FROM counts ORDER BY 1;
CALL clickstream.finish('s300');
-- the rollup's own dead letter: the row of visitor d, by the partition of its first event
SELECT * FROM counts WHERE definition = 'starts'::regclass;
TABLE totals;
SELECT * FROM clickstream.letter_count WHERE stream = 's300' AND counted > 0 ORDER BY definition::text, kind, partition;
SELECT partition, consumed, balanced FROM clickstream.audit('s300');
-- what cannot be used ends a batch before it: what came before is counted, and only that
SELECT clickstream.drop_stream('s300');
DROP VIEW counts, totals;
SELECT clickstream.create_stream('s300', on_error => 'stop') > 0 AS made;
SELECT clickstream.create_window('minute', stream => 's300', size => '1 minute', measures => 'count(*) AS events');
SELECT test.feed('s300', $$
	a   0:10    /a
	a   0:11    /a   raw={"event_time": 7
	a   0:11    /a   raw=[]
$$);
CALL clickstream.process('s300');
CALL clickstream.process('s300', 1);
SELECT used, late, rows_written FROM clickstream.stat_definition WHERE stream = 's300';
SELECT consumed, used FROM test.ledger WHERE stream = 's300';
SELECT clickstream.alter_stream('s300', on_error => 'dead_letter');
CALL clickstream.process('s300');
SELECT partition, consumed, used, dead FROM clickstream.audit('s300');

-- audit() sees a ledger that does not add up, and letters that are gone
UPDATE clickstream.partition SET filtered = filtered + 1 FROM clickstream.stream s WHERE s.name = 's300' AND s.stream_id = partition.stream_id;
SELECT * FROM clickstream.audit('s300');
UPDATE clickstream.partition SET filtered = filtered - 1 FROM clickstream.stream s WHERE s.name = 's300' AND s.stream_id = partition.stream_id;
BEGIN;
DELETE FROM clickstream.dead_letter_data l USING clickstream.stream s WHERE s.name = 's300' AND s.stream_id = l.stream_id AND message_offset = 2;
SELECT * FROM clickstream.audit('s300');
ROLLBACK;
BEGIN;
UPDATE clickstream.partition SET by_definition[4] = 5 FROM clickstream.stream s WHERE s.name = 's300' AND s.stream_id = partition.stream_id;
SELECT * FROM clickstream.audit('s300');
ROLLBACK;
SELECT partition, consumed, used, dead FROM clickstream.audit('s300');
SELECT * FROM clickstream.audit('nowhere');

-- old letters go, and stay counted
SET clickstream.mock_clock = '2024-06-03 12:00:00+00';
SELECT test.feed('s300', $$
	a   0:01    /a
	a   0:11    /a   raw=[]
$$);
CALL clickstream.process('s300');
SELECT clickstream.trim_letters('s300', '1 day');
SELECT message_offset FROM clickstream.dead_letter WHERE stream = 's300';
SELECT kind, definition, counted, kept, trimmed FROM clickstream.letter_count WHERE stream = 's300' ORDER BY kind, definition;
SET clickstream.mock_clock = '2024-06-05 12:00:00+00';
SELECT clickstream.trim_letters('s300', '1 day');
SELECT kind, definition, counted, kept, trimmed FROM clickstream.letter_count WHERE stream = 's300' ORDER BY kind, definition;
SELECT partition, consumed, used, late, dead FROM clickstream.audit('s300');
SELECT clickstream.trim_letters('s300', '-1 day');
SELECT clickstream.trim_letters('s300', NULL);
SELECT clickstream.trim_letters('nowhere', '1 day');
SELECT clickstream.reset('s300');
SELECT count(*) FROM clickstream.letter_count WHERE stream = 's300';
SELECT used, late, rows_written FROM clickstream.stat_definition WHERE stream = 's300';
SELECT clickstream.drop_stream('s300');
RESET clickstream.mock_clock;
DROP SCHEMA t300 CASCADE;
