-- The event log: every decoded event with what became of it.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t130;
SET search_path = t130;
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';
SELECT clickstream.create_stream('s130', extra_columns => 'amount numeric', filter => $$event_type <> 'bot'$$) > 0 AS made;
SELECT clickstream.create_window('minute', stream => 's130', size => '1 minute', filter => $$page_url <> '/none'$$, measures => 'count(*) AS events');
SELECT clickstream.create_event_log('log', stream => 's130', retention => '3 days');
-- partitioned by the day of arrival, with an index on event_time that is small
SELECT pg_get_partkeydef('log'::regclass);
SELECT a.amname, pg_get_indexdef(i.indexrelid, 1, true) AS key FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = 'log'::regclass ORDER BY 1, 2;
-- of several topics, and of a pattern that may find some, rows are found by their topic, too
SELECT clickstream.create_stream('more', brokers => 'localhost:1', topic => 'a,b', check_broker => false) > 0 AS made;
SELECT clickstream.create_stream('found', brokers => 'localhost:1', topic => '^a', check_broker => false) > 0 AS made;
SELECT clickstream.create_event_log(stream || '_log', stream => stream) FROM unnest('{more,found}'::text[]) stream;
SELECT i.indrelid::regclass AS log, pg_get_indexdef(i.indexrelid) ~ 'btree \(partition, topic, message_offset\)' AS by_topic FROM pg_index i
WHERE i.indrelid IN ('more_log'::regclass, 'found_log'::regclass) AND i.indnatts = 3;
SELECT clickstream.drop_stream('more'), clickstream.drop_stream('found');
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = 'log'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname FROM pg_attribute WHERE attrelid = 'log'::regclass AND attnum > 0 AND col_description(attrelid, attnum) IS NULL;
CREATE VIEW days AS SELECT inhrelid::regclass AS partition, (SELECT count(*) FROM log WHERE log.tableoid = inhrelid) AS events
FROM pg_inherits WHERE inhparent = 'log'::regclass ORDER BY inhrelid::regclass::text;
-- used, filtered by the stream, wanted by none, late, dead
SELECT test.feed('s130', $$
	a   0:00    /a      amount=1.50
	b   0:10    /a      event_type=bot
	c   0:10    /none
	d   0:11    /a
	e   0:00    /late   amount=2
	-   0:12    /a      raw=[]
	-   0:12    /a      anonymous_id=anon
$$);
CALL clickstream.process('s130');
SELECT message_offset, user_id, anonymous_id, effective_user_id, page_url, amount, test.at(event_time) AS at, class FROM log ORDER BY message_offset;
SELECT consumed, used, filtered, late, dead, balanced FROM test.ledger WHERE stream = 's130';
TABLE days;
-- the next day, and the one after: partitions are there ahead
SET clickstream.mock_clock = '2024-06-02 00:00:00+00';
SELECT test.feed('s130', 'a 0:13 /a');
CALL clickstream.process('s130');
TABLE days;
-- four days later the first has gone
SET clickstream.mock_clock = '2024-06-05 12:00:00+00';
SELECT test.feed('s130', 'a 0:14 /a');
CALL clickstream.process('s130');
TABLE days;
-- equal to what the window counted: plain SQL over the log
SELECT count(*) AS late_and_used FROM log WHERE class IN ('used', 'late');
SELECT clickstream.reset('s130');
SELECT count(*) FROM log;
SELECT sum(events) FROM minute;
CALL clickstream.process('s130');
SELECT class, count(*) FROM log GROUP BY 1 ORDER BY 1;
SELECT clickstream.create_event_log('second', stream => 's130');
RESET clickstream.mock_clock;
DROP VIEW days;
SELECT clickstream.drop_event_log('log');
SELECT clickstream.drop_stream('s130');
-- alone on its stream: the log is no definition, so that nothing is used
SELECT clickstream.create_stream('s130') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's130');
SELECT test.feed('s130', 'a 0:00 /a');
CALL clickstream.process('s130');
SELECT class, count(*) FROM log GROUP BY 1;
SELECT consumed, used, filtered, balanced FROM test.ledger WHERE stream = 's130';
SELECT clickstream.drop_stream('s130');
DROP SCHEMA t130 CASCADE;
