-- Windows: cumulative, of a calendar, with allowed lateness, of a silent topic.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t051;
SET search_path = t051;

-- Cumulative: the day so far, every six hours; many windows of one start.
SELECT clickstream.create_stream('s051') > 0 AS made;
SELECT clickstream.create_window('so_far', stream => 's051', size => '1 day', step => '6 hours', group_by => 'page_url',
	measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors, first(user_id) AS first_visitor');
SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = 'so_far'::regclass AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum);
SELECT test.feed('s051', $$
	ann   1:00    /a
	bob   7:00    /a
	cid   7:30    /b
	ann   18:00   /a
$$);
CALL clickstream.process('s051');
SELECT test.at(window_start) AS start, test.at(window_end) AS "end", page_url, events, visitors, first_visitor, is_final FROM so_far ORDER BY 1, 2, 3;
-- behind the watermark of 17:59:50: too late for 0:00 to 6:00 and 12:00, counts in those that are open yet
SELECT test.feed('s051', $$
	aaa   0:30    /a
	dan   11:00   /b
$$);
CALL clickstream.process('s051');
SELECT count(*) FROM clickstream.late_event WHERE stream = 's051';
CALL clickstream.finish('s051');
SELECT test.at(window_start) AS start, test.at(window_end) AS "end", page_url, events, visitors, first_visitor, is_final FROM so_far ORDER BY 1, 2, 3;
SELECT clickstream.drop_stream('s051');

-- A day of Berlin has 23 or 25 hours; weeks begin on Monday; months have their length.
SELECT clickstream.create_stream('s051') > 0 AS made;
SELECT clickstream.create_window('days', stream => 's051', size => '1 day', time_zone => 'Europe/Berlin', measures => 'count(*) AS events');
SELECT clickstream.create_window('weeks', stream => 's051', size => '1 week', time_zone => 'Europe/Berlin', measures => 'count(*) AS events');
SELECT clickstream.create_window('months', stream => 's051', size => '1 month', time_zone => 'Europe/Berlin', measures => 'count(*) AS events');
SELECT clickstream.create_window('quarters', stream => 's051', size => '3 months', measures => 'count(*) AS events');
SELECT clickstream.create_window('years', stream => 's051', size => '1 year', time_zone => 'Europe/Berlin', measures => 'count(*) AS events');
SELECT clickstream.create_window('rolling_week', stream => 's051', size => '7 days', slide => '1 day', time_zone => 'Europe/Berlin', measures => 'count(*) AS events');
SELECT clickstream.create_window('month_so_far', stream => 's051', size => '1 month', step => '1 day', time_zone => 'Europe/Berlin', measures => 'count(*) AS events');
SELECT clickstream.create_window('business_days', stream => 's051', size => '1 day', time_zone => 'Europe/Berlin', origin => '2024-01-01 06:00+01', measures => 'count(*) AS events');
SELECT clickstream.create_window('hours', stream => 's051', size => '1 hour', time_zone => 'Asia/Kolkata', measures => 'count(*) AS events');
SELECT clickstream.create_window('shifts', stream => 's051', size => '8 hours', time_zone => 'Europe/Berlin', measures => 'count(*) AS events');
SELECT clickstream.produce('s051', jsonb_build_object('event_time', t)::text, message_timestamp => t::timestamptz) IS NOT NULL AS fed
FROM (VALUES ('2024-03-30T22:59:59.999Z'), ('2024-03-30T23:00:00Z'), ('2024-03-31T00:59:59Z'), ('2024-03-31T21:59:59.999Z'), ('2024-03-31T22:00:00Z'),
	('2024-10-26T22:00:00Z'), ('2024-10-27T22:59:59.999Z'), ('2024-10-27T23:00:00Z')) AS v(t);
CALL clickstream.finish('s051');
SET timezone = 'Europe/Berlin';
SELECT 'days' AS t, window_start, window_end, window_end - window_start AS length, events FROM days
UNION ALL SELECT 'weeks', window_start, window_end, window_end - window_start, events FROM weeks
UNION ALL SELECT 'months', window_start, window_end, window_end - window_start, events FROM months
UNION ALL SELECT 'quarters', window_start, window_end, window_end - window_start, events FROM quarters
UNION ALL SELECT 'years', window_start, window_end, window_end - window_start, events FROM years
UNION ALL SELECT 'business_days', window_start, window_end, window_end - window_start, events FROM business_days
UNION ALL SELECT 'shifts', window_start, window_end, window_end - window_start, events FROM shifts ORDER BY 1, 2;
SELECT window_start, window_end, events FROM rolling_week WHERE window_start >= '2024-10-01' ORDER BY 1;
SELECT window_start, window_end, events FROM month_so_far WHERE window_end BETWEEN '2024-03-30' AND '2024-04-03' ORDER BY 1, 2;
SET timezone = 'Asia/Kolkata';
SELECT window_start, events FROM hours ORDER BY 1 LIMIT 3;
SET timezone = 'UTC';
-- the definitions' views say the same
SELECT count(*) AS grids FROM (
	SELECT window_start FROM clickstream.window_starts('2024-03-31 12:00+00', '7 days', '1 day', '2000-01-01 00:00+01', 'Europe/Berlin') AS window_start
	INTERSECT SELECT window_start FROM rolling_week) AS x;
SELECT * FROM clickstream.window_starts('2024-10-27 12:00+00', '6 hours', '6 hours', '2000-01-01 00:00+01', 'Europe/Berlin');
SELECT * FROM clickstream.cumulative_windows('2024-10-27 12:00+00', '1 day', '6 hours', '2000-01-01 00:00+01', 'Europe/Berlin');
SELECT * FROM clickstream.cumulative_windows('2024-10-27 12:00+00', '1 day', '6 hours', '2000-01-01 00:00+00', NULL);
-- an hour that comes twice is two windows; midnight that comes twice (Havana) begins one day
SELECT string_agg(DISTINCT w::text, ' ' ORDER BY w::text) FROM generate_series('2024-10-27 00:00+00'::timestamptz, '2024-10-27 02:30+00', '10 minutes') AS t,
	clickstream.window_starts(t, '1 hour', '1 hour', '2000-01-01 00:00+01', 'Europe/Berlin') AS w;
SELECT string_agg(DISTINCT w::text, ' ' ORDER BY w::text) FROM generate_series('2024-11-03 03:00+00'::timestamptz, '2024-11-04 06:00+00', '10 minutes') AS t,
	clickstream.window_starts(t, '1 day', '1 day', '2000-01-01 00:00-05', 'America/Havana') AS w;
SELECT clickstream.drop_stream('s051');

-- Months from the 31st: the last day where there is none.
SELECT window_start AS starts FROM (VALUES ('2024-02-15 00:00+00'::timestamptz), ('2024-03-15 00:00+00'), ('2024-04-15 00:00+00'), ('2024-05-15 00:00+00')) v(t),
	clickstream.window_starts(t, '1 month', '1 month', '2024-01-31 00:00+00', 'UTC') AS window_start;

-- Allowed lateness: closed rows are there, can change, and say so.
SELECT clickstream.create_stream('s051', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_window('tumbling', stream => 's051', size => '10 minutes', allowed_lateness => '5 minutes', emit => 'closed',
	group_by => 'page_url', measures => 'count(*) AS events');
SELECT clickstream.create_window('hopping', stream => 's051', size => '20 minutes', slide => '10 minutes', allowed_lateness => '5 minutes',
	group_by => 'page_url', measures => 'count(*) AS events');
SELECT clickstream.create_window('rolling', stream => 's051', size => '40 minutes', slide => '10 minutes', allowed_lateness => '5 minutes',
	group_by => 'page_url', measures => 'count(*) AS events');
SELECT clickstream.create_window('cumulative', stream => 's051', size => '1 hour', step => '10 minutes', allowed_lateness => '5 minutes',
	group_by => 'page_url', measures => 'count(*) AS events');
CREATE VIEW rows AS
SELECT * FROM (
	SELECT 1 AS o, 'tumbling' AS t, window_start, window_end, page_url, events, is_final, revision FROM tumbling
	UNION ALL SELECT 2, 'hopping', window_start, window_end, page_url, events, is_final, revision FROM hopping
	UNION ALL SELECT 3, 'rolling', window_start, window_end, page_url, events, is_final, revision FROM rolling
	UNION ALL SELECT 4, 'cumulative', window_start, window_end, page_url, events, is_final, revision FROM cumulative) AS r
ORDER BY o, window_start, window_end, page_url;
CREATE VIEW shown AS SELECT t, test.at(window_start) AS start, test.at(window_end) AS "end", page_url, events, is_final, revision FROM rows;
CREATE TABLE before (t text, start text, "end" text, page_url text, events bigint, is_final boolean, revision int);
SELECT test.feed('s051', $$
	ann   1:02    /a
	ann   1:03    /b
	bob   1:11    /a
$$);
CALL clickstream.process('s051');
TABLE shown;
-- behind the watermark of 1:11, within five minutes of the end of 1:00 to 1:10
INSERT INTO before TABLE shown;
SELECT test.feed('s051', 'cid 1:04 /a');
CALL clickstream.process('s051');
-- only rows of its group were written again
TABLE shown EXCEPT TABLE before ORDER BY 1, 2, 3, 4;
TRUNCATE before;
INSERT INTO before TABLE shown;
-- 1:15 retires what ended at 1:10; then an event of 1:05 is too late for that, in time for windows that end later
SELECT test.feed('s051', $$
	bob   1:15    /a
	dan   1:05    /a
$$);
CALL clickstream.process('s051');
TABLE shown EXCEPT TABLE before ORDER BY 1, 2, 3, 4;
SELECT definition::text, message_offset, lateness FROM clickstream.late_event WHERE stream = 's051' ORDER BY 1;
TRUNCATE before;
INSERT INTO before TABLE shown;
CALL clickstream.finish('s051');
TABLE shown EXCEPT TABLE before ORDER BY 1, 2, 3, 4;
SELECT used, late, balanced FROM test.ledger WHERE stream = 's051';
DROP VIEW shown, rows;
SELECT clickstream.drop_stream('s051');

-- A silent topic: windows that are over by the clock are shown, not final; whatever comes is judged as before.
SET clickstream.mock_clock = '2024-06-01 10:00:00+00';
SELECT clickstream.create_stream('s051', watermark_delay => '0', idle_timeout => '1 minute') > 0 AS made;
SELECT clickstream.create_window('tumbling', stream => 's051', size => '10 minutes', emit => 'closed', measures => 'count(*) AS events');
SELECT clickstream.create_window('hopping', stream => 's051', size => '20 minutes', slide => '10 minutes', measures => 'count(*) AS events');
SELECT clickstream.create_window('cumulative', stream => 's051', size => '30 minutes', step => '10 minutes', measures => 'count(*) AS events');
CREATE VIEW shown AS
SELECT t, test.at(window_start) AS start, test.at(window_end) AS "end", events, is_final, revision FROM (
	SELECT 1 AS o, 'tumbling' AS t, window_start, window_end, events, is_final, revision FROM tumbling
	UNION ALL SELECT 2, 'hopping', window_start, window_end, events, is_final, revision FROM hopping
	UNION ALL SELECT 3, 'cumulative', window_start, window_end, events, is_final, revision FROM cumulative) AS r
ORDER BY o, window_start, window_end;
SELECT test.feed('s051', 'ann 9:52 /a');
CALL clickstream.process('s051');
TABLE shown;
SET clickstream.mock_clock = '2024-06-01 10:02:00+00';
CALL clickstream.process('s051');
TABLE shown;
-- the silence lasts: the next ones
SET clickstream.mock_clock = '2024-06-01 10:12:00+00';
CALL clickstream.process('s051');
TABLE shown;
SELECT test.at(watermark) AS watermark FROM clickstream.stat_stream WHERE stream = 's051';
-- an event of before is not late, and one of later closes
SELECT test.feed('s051', $$
	bob   9:55    /a
	ann   10:31   /a
$$);
CALL clickstream.process('s051');
TABLE shown;
SELECT used, late FROM test.ledger WHERE stream = 's051';
DROP VIEW shown;
SELECT clickstream.drop_stream('s051');
RESET clickstream.mock_clock;

-- emit 'changes' of windows that share events: rows of open windows, where they have changed.
SELECT clickstream.create_stream('s051') > 0 AS made;
SELECT clickstream.create_window('hopping', stream => 's051', size => '20 minutes', slide => '10 minutes', emit => 'changes', emit_interval => '0', group_by => 'page_url', measures => 'count(*) AS events');
SELECT clickstream.create_window('cumulative', stream => 's051', size => '1 hour', step => '10 minutes', emit => 'changes', emit_interval => '0', group_by => 'page_url', measures => 'count(*) AS events');
CREATE TABLE written (t text, start text, "end" text, page_url text, events bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO t051.written VALUES (tg_table_name, test.at(new.window_start), test.at(new.window_end), new.page_url, new.events);
	RETURN NULL;
END
$$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON hopping FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER INSERT OR UPDATE ON cumulative FOR EACH ROW EXECUTE FUNCTION note();
SELECT test.feed('s051', $$
	ann   2:01    /a
	ann   2:02    /b
$$);
CALL clickstream.process('s051');
SELECT * FROM written ORDER BY 1, 2, 3, 4;
TRUNCATE written;
SELECT test.feed('s051', 'ann 2:11:05 /a');
CALL clickstream.process('s051');
SELECT * FROM written ORDER BY 1, 2, 3, 4;
SELECT clickstream.drop_stream('s051');

-- Too late for all windows, and put in afterwards: cumulative windows that are over, each by its end, and no other.
SELECT clickstream.create_stream('s051') > 0 AS made;
SELECT clickstream.create_window('so_far', stream => 's051', size => '1 day', step => '6 hours', measures => 'count(*) AS events');
SELECT clickstream.create_window('days', stream => 's051', size => '1 day', time_zone => 'Europe/Berlin', measures => 'count(*) AS events');
SELECT clickstream.create_event_log('log', stream => 's051');
SELECT test.feed('s051', $$
	ann   1:00    /a
	bob   7:00    /a
	bob   25:00 /a
	bob   31:00 /a
	ann   2:00    /a
	ann   26:00 /a
$$);
CALL clickstream.process('s051');
SELECT test.at(window_start) AS start, test.at(window_end) AS "end", events, revision FROM so_far ORDER BY 1, 2;
SELECT definition::text, message_offset FROM clickstream.late_event WHERE stream = 's051' ORDER BY 1, 2;
SELECT message_offset, applied, reason FROM clickstream.apply_late('so_far');
SELECT message_offset, applied, reason FROM clickstream.apply_late('days');
CALL clickstream.finish('s051');
SELECT test.at(window_start) AS start, test.at(window_end) AS "end", events, is_final, revision FROM so_far ORDER BY 1, 2;
SELECT test.at(window_start) AS start, test.at(window_end) AS "end", events, is_final, revision FROM days ORDER BY 1, 2;
SELECT clickstream.drop_stream('s051');
DROP SCHEMA t051 CASCADE;
