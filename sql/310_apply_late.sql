-- apply_late(): late events go into the results, by making what they touch again from the event log.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t310;
SET search_path = t310;
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';
SELECT clickstream.create_stream('s310') > 0 AS made;
SELECT clickstream.create_window('minutes', stream => 's310', size => '10 minutes', group_by => 'page_url', measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors');
SELECT clickstream.create_session('visits', stream => 's310', gap => '10 minutes', measures => 'count(*) AS events, first(page_url) AS landing, last(page_url) AS leaving');
SELECT clickstream.create_rollup('starts', source => 'visits', size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events');
SELECT clickstream.create_funnel('ab', stream => 's310', within => '10 minutes', steps => ARRAY[
	clickstream.step('a', $$page_url = '/a'$$), clickstream.step('b', $$page_url = '/b'$$)]);
-- without an event log there is nothing to make them from
SELECT * FROM clickstream.apply_late('minutes');
SELECT clickstream.create_event_log('log', stream => 's310');
CREATE VIEW rows AS
SELECT 'minutes' AS t, test.at(window_start) AS start, coalesce(page_url, '-') AS what, events, is_final, revision FROM minutes
UNION ALL SELECT 'visits', test.at(session_start), session_id || ' ' || coalesce(effective_user_id, '-') || ' ' || closed_reason, events, is_final, revision FROM visits
UNION ALL SELECT 'starts', test.at(window_start), visits || ' visits', events, is_final, revision FROM starts
UNION ALL SELECT 'ab', test.at(started_at), attempt_id || ' ' || effective_user_id || ' ' || closed_reason, level, is_final, revision FROM ab
ORDER BY 1, 2, 3;
CREATE VIEW counts AS SELECT definition, used, late FROM clickstream.stat_definition WHERE stream = 's310' ORDER BY definition::text;
-- a comes at 0:00 and 0:15, two sessions; what would bridge them comes three hours late, with the first step of a funnel;
-- b is new altogether; c's funnel is open, and its first step comes late; of d nothing changes but a count
SELECT test.feed('s310', $$
	a   0:00    /
	a   0:15    /b
	d   0:20    /d
	d   0:21    /a
	d   0:22    /b
	x   3:00    /
	c   2:55    /b
	a   0:08    /a
	b   1:00    /a
	c   2:45    /a
	c   1:30    /
	d   0:20:30 /d
$$);
CALL clickstream.process('s310');
TABLE rows;
TABLE counts;
SELECT * FROM clickstream.audit('s310');
SELECT * FROM clickstream.apply_late('minutes', end_time => '2024-06-01 00:30+00');
SELECT * FROM clickstream.apply_late('visits');
SELECT * FROM clickstream.apply_late('ab');
TABLE rows;
TABLE counts;
SELECT topic, partition, consumed, used, late, balanced FROM clickstream.audit('s310');
SELECT used, late, repaired FROM clickstream.ledger WHERE stream = 's310';
SELECT message_offset, class FROM log ORDER BY 1;
SELECT definition, message_offset, test.at(applied_at) AS applied FROM clickstream.late_event WHERE stream = 's310' ORDER BY definition::text, message_offset;
-- once is enough
SELECT * FROM clickstream.apply_late('visits');
-- the rest of the windows; and c's first step when what it leads to has closed
SELECT * FROM clickstream.apply_late('minutes', start_time => '2024-06-01 00:30+00');
SELECT test.feed('s310', 'y 4:00 /');
CALL clickstream.process('s310');
SELECT * FROM clickstream.apply_late('ab');
SELECT * FROM rows WHERE t <> 'minutes';
-- a worker that runs the stream makes way, and goes on
RESET clickstream.mock_clock;
SELECT test.feed('s310', 'y 1:00:30 /a');
SELECT clickstream.start('s310');
CALL clickstream.wait_for('s310', '5 minutes');
SELECT * FROM clickstream.apply_late('minutes');
SELECT * FROM clickstream.apply_late('visits');
SELECT * FROM clickstream.apply_late('ab');
SELECT test.feed('s310', 'y 4:01 /');
CALL clickstream.wait_for('s310', '5 minutes');
SELECT clickstream.stop('s310');
CALL clickstream.finish('s310');
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';
-- the same events, but nobody late: the tables are the same
SELECT clickstream.create_stream('sorted', watermark_delay => '10 days') > 0 AS made;
CREATE SCHEMA sorted;
SELECT clickstream.create_window('sorted.minutes', stream => 'sorted', size => '10 minutes', group_by => 'page_url', measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors');
SELECT clickstream.create_session('sorted.visits', stream => 'sorted', gap => '10 minutes', measures => 'count(*) AS events, first(page_url) AS landing, last(page_url) AS leaving');
SELECT clickstream.create_rollup('sorted.starts', source => 'sorted.visits', size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events');
SELECT clickstream.create_funnel('sorted.ab', stream => 'sorted', within => '10 minutes', steps => ARRAY[
	clickstream.step('a', $$page_url = '/a'$$), clickstream.step('b', $$page_url = '/b'$$)]);
SELECT count(clickstream.produce('sorted', payload, message_key, partition, message_timestamp))
FROM (SELECT m.* FROM clickstream.local_message m JOIN clickstream.stream s USING (stream_id) WHERE s.name = 's310' ORDER BY message_offset) m;
CALL clickstream.finish('sorted');
CREATE FUNCTION differences(t text) RETURNS TABLE (n bigint, line text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('WITH a AS (SELECT replace((to_jsonb(r) - ''revision'' - ''closed_reason'')::text, ''s310/'', ''/'') AS line FROM %1$I r),
		b AS (SELECT replace((to_jsonb(r) - ''revision'' - ''closed_reason'')::text, ''sorted/'', ''/'') AS line FROM sorted.%1$I r)
		SELECT 1::bigint, * FROM (TABLE a EXCEPT ALL TABLE b) x UNION ALL SELECT 2, * FROM (TABLE b EXCEPT ALL TABLE a) y ORDER BY 2, 1', t);
END
$$;
SELECT t, d.* FROM unnest('{minutes,visits,starts,ab}'::text[]) t, differences(t) d;

-- what cannot be done
SELECT * FROM clickstream.apply_late('starts');
SELECT * FROM clickstream.apply_late('log');
SELECT * FROM clickstream.apply_late('pg_class');
SELECT * FROM clickstream.apply_late(NULL);
SELECT * FROM clickstream.apply_late('visits', '2024-06-02', '2024-06-01');
-- what the log does not hold: it was made later
SELECT clickstream.drop_event_log('log');
SELECT clickstream.reset('s310');
SELECT test.feed('s310', 'z 5:00 /');
CALL clickstream.process('s310', 3);
SELECT clickstream.create_event_log('log', stream => 's310');
CALL clickstream.process('s310');
SELECT message_offset, applied, reason FROM clickstream.apply_late('minutes') ORDER BY 1;
SELECT message_offset, applied, reason FROM clickstream.apply_late('visits') ORDER BY 1;
-- in a transaction that rolls back nothing has happened
SELECT clickstream.reset('s310');
CALL clickstream.process('s310');
BEGIN;
SELECT count(*) FROM clickstream.apply_late('minutes');
SELECT used, late FROM clickstream.stat_definition WHERE definition = 'minutes'::regclass;
ROLLBACK;
SELECT used, late FROM clickstream.stat_definition WHERE definition = 'minutes'::regclass;
CALL clickstream.process('s310');
SELECT count(*) FILTER (WHERE applied) AS applied FROM clickstream.apply_late('minutes');
-- a window over its group limit is left alone, and what else there is is done
SELECT clickstream.create_window('few', stream => 's310', size => '1 hour', group_by => 'user_id', group_limit => 2, measures => 'count(*) AS events');
SELECT test.feed('s310', $$
	p   10:00   /
	q   10:01   /
	r   10:02   /
	p   11:00   /
	z   20:00   /
	p   10:03   /
	q   11:03   /
$$);
CALL clickstream.process('s310');
SELECT message_offset, test.at(event_time) AS at, applied, reason FROM clickstream.apply_late('few') ORDER BY 1;
SELECT test.at(window_start) AS start, user_id, is_rest, events, revision FROM few ORDER BY 1, 2;
SELECT topic, used, late, balanced FROM clickstream.audit('s310');
-- who may not
CREATE ROLE t310_other;
GRANT USAGE ON SCHEMA t310 TO t310_other;
GRANT clickstream_admin TO t310_other;
SET ROLE t310_other;
SELECT * FROM clickstream.apply_late('visits');
RESET ROLE;
DROP VIEW rows, counts;
SELECT clickstream.drop_stream('s310');
SELECT clickstream.drop_stream('sorted');
DROP OWNED BY t310_other;
DROP ROLE t310_other;
RESET clickstream.mock_clock;
DROP SCHEMA t310, sorted CASCADE;
