-- apply_late() of definitions made with backfill => true, where those that were there before have filtered, or found late, most of
-- their events: the class in the log is not theirs.  Compared with plain SQL over the log, and with verify().
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t841;
SET search_path = t841;
SELECT clickstream.create_stream('s841') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's841');
SELECT clickstream.create_window('buys', stream => 's841', size => '10 minutes', filter => $$page_url = '/buy'$$, measures => 'count(*) AS events');
-- all of /buy is late for buys, only that of 0:50 is late with a larger allowed_lateness
SELECT test.feed('s841', $$
	ann  0:00  /
	ann  0:08  /a
	ann  0:30  /
	bob  0:05  /buy
	bob  0:09  /
	x    1:00  /
	bob  0:12  /buy
	cy   0:20  /
	x    6:00  /
	ann  0:50  /
	bob  0:50  /buy
$$);
CALL clickstream.process('s841');
SELECT clickstream.create_session('visits', stream => 's841', gap => '10 minutes', allowed_lateness => '2 hours', backfill => true,
	measures => 'count(*) AS events, first(page_url) AS landing, last(page_url) AS leaving');
SELECT clickstream.create_window('minutes', stream => 's841', size => '10 minutes', group_by => 'page_url', allowed_lateness => '2 hours', backfill => true,
	measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors');
SELECT clickstream.create_funnel('ab', stream => 's841', within => '10 minutes', allowed_lateness => '2 hours', backfill => true,
	steps => ARRAY[clickstream.step('a', $$page_url = '/'$$), clickstream.step('b', $$page_url = '/buy'$$)]);
CALL clickstream.process('s841');
SELECT message_offset, class FROM log ORDER BY 1;
SELECT definition, message_offset FROM clickstream.late_event WHERE stream = 's841' ORDER BY definition::text, message_offset;
-- what late events there are that are in no rows yet
CREATE FUNCTION counted(t regclass) RETURNS SETOF log LANGUAGE sql AS $$
	SELECT l.* FROM log l WHERE NOT EXISTS (SELECT FROM clickstream.late_event e WHERE e.definition = t AND e.message_offset = l.message_offset AND e.applied_at IS NULL)
		AND l.event_time < '2024-06-01 05:00+00'
$$;
CREATE VIEW visits_by_sql AS
SELECT user_id, min(event_time) AS session_start, count(*) AS events, (array_agg(page_url ORDER BY event_time))[1] AS landing, (array_agg(page_url ORDER BY event_time DESC))[1] AS leaving
FROM (SELECT *, count(*) FILTER (WHERE pause) OVER (PARTITION BY user_id ORDER BY event_time) AS session
	FROM (SELECT *, event_time - lag(event_time) OVER (PARTITION BY user_id ORDER BY event_time) > '10 minutes' AS pause FROM counted('visits')) AS p) AS s
GROUP BY user_id, session;
CREATE VIEW minutes_by_sql AS
SELECT date_bin('10 minutes', event_time, '2024-06-01 00:00+00') AS window_start, page_url, count(*) AS events, count(DISTINCT user_id) AS visitors
FROM counted('minutes') GROUP BY 1, 2;
CREATE VIEW visits_rows AS SELECT effective_user_id AS user_id, session_start, events, landing, leaving FROM visits WHERE is_final;
CREATE VIEW minutes_rows AS SELECT window_start, page_url, events, visitors FROM minutes WHERE is_final;
CREATE VIEW differences AS
(SELECT 'visits' AS t, r::text FROM visits_rows r EXCEPT ALL SELECT 'visits', r::text FROM visits_by_sql r)
UNION ALL (SELECT 'visits by SQL', r::text FROM visits_by_sql r EXCEPT ALL SELECT 'visits by SQL', r::text FROM visits_rows r)
UNION ALL (SELECT 'minutes', r::text FROM minutes_rows r EXCEPT ALL SELECT 'minutes', r::text FROM minutes_by_sql r)
UNION ALL (SELECT 'minutes by SQL', r::text FROM minutes_by_sql r EXCEPT ALL SELECT 'minutes by SQL', r::text FROM minutes_rows r);
CREATE VIEW verified AS SELECT t, v.* FROM unnest('{buys,visits,minutes,ab}'::regclass[]) AS t, clickstream.verify(t) AS v;
TABLE differences;
TABLE verified;
-- what bridges sessions, what begins one earlier, what goes into windows that are there
SELECT test.feed('s841', $$
	ann  0:17  /
	ann  0:22  /
	bob  0:02  /
	cy   0:15  /a
	cy   0:25  /buy
	dan  0:40  /
	ann  0:58  /
$$);
CALL clickstream.process('s841');
TABLE differences;
TABLE verified;
SELECT t, message_offset, applied, reason FROM unnest('{visits,minutes,ab}'::regclass[]) AS t, clickstream.apply_late(t, end_time => '2024-06-01 00:20+00') ORDER BY t::text, 2;
TABLE differences;
TABLE verified;
SELECT t, message_offset, applied, reason FROM unnest('{buys,visits,minutes,ab}'::regclass[]) AS t, clickstream.apply_late(t) ORDER BY t::text, 2;
TABLE differences;
TABLE verified;
SELECT user_id, test.at(session_start) AS start, events, landing, leaving FROM visits_rows ORDER BY session_start, user_id;
SELECT attempt_id, effective_user_id, level FROM ab WHERE is_final ORDER BY started_at, attempt_id;
SELECT message_offset, class FROM log ORDER BY 1;
SELECT balanced FROM clickstream.audit('s841');
-- late events that are gone without having been applied: what they lie in is left alone, for nobody can tell them from the others
SELECT test.feed('s841', 'eve 2:00 /');
CALL clickstream.process('s841');
SELECT clickstream.trim_letters('s841', '0') > 0 AS trimmed;
SELECT test.feed('s841', $$
	eve  2:05  /
	eve  3:05  /
	fay  3:45  /
$$);
CALL clickstream.process('s841');
SELECT t, message_offset, applied, reason FROM unnest('{visits,minutes}'::regclass[]) AS t, clickstream.apply_late(t) ORDER BY t::text, 2;
SELECT user_id, test.at(session_start) AS start, events FROM visits_rows WHERE user_id IN ('eve', 'fay') ORDER BY session_start;
SELECT balanced FROM clickstream.audit('s841');
DROP VIEW verified, differences, visits_rows, minutes_rows, visits_by_sql, minutes_by_sql;
DROP FUNCTION counted;
SELECT clickstream.drop_stream('s841');
DROP SCHEMA t841 CASCADE;
