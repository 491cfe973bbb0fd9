-- Sessions: what begins one, what ends one, and what a row says.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t040;
SET search_path = t040;
SELECT clickstream.create_stream('s040') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's040', gap => '30 minutes');
CREATE VIEW seen AS
SELECT session_id, effective_user_id AS visitor, test.at(session_start) AS start, test.at(session_end) AS "end",
	event_count AS events, pages_viewed AS pages, session_duration_seconds AS seconds, closed_reason, is_final
FROM visits ORDER BY effective_user_id, session_start, session_id;

-- A distance of exactly the gap merges; one millisecond more separates.
-- exact: one session of two; apart: two; of "-" nothing: no visitor
SELECT test.feed('s040', $$
	exact   0:00            /a
	apart   0:00            /a
	-       0:00            /a
	exact   0:30            /b
	apart   0:30:00.001     /b
	later   1:00:10.998     /a
$$);
-- The watermark is 1:00:00.998: the session of exact ends at 1:00:00.000 and
-- is final from 0:59:59.999 on; that of apart ends at 1:00:00.001 and is, too.
CALL clickstream.process('s040');
TABLE seen;
-- apart's second: not yet at last millisecond - 1 µs, then yes
SELECT clickstream.create_stream('edge', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_session('edges', stream => 'edge', gap => '30 minutes', measures => 'count(*) AS events');
SELECT test.feed('edge', $$
	one     0:00            /a
	-       0:29:59.998999  /a
$$);
CALL clickstream.process('edge');
SELECT count(*) AS not_yet FROM edges;
SELECT test.feed('edge', '- 0:29:59.999 /a');
CALL clickstream.process('edge');
SELECT count(*) AS closed FROM edges;
-- A final session is not joined; the event is not late, its own end is ahead.
SELECT test.feed('edge', $$
	one     0:29:59.999    /b
$$);
CALL clickstream.process('edge');
CALL clickstream.finish('edge');
SELECT session_id, test.at(session_start) AS start, events, closed_reason FROM edges ORDER BY session_start;
SELECT clickstream.drop_stream('edge');

-- Out of order: back extends its session backwards (its id becomes that of
-- the earlier event), bridge makes two sessions one, and takes the earlier's id.
SELECT test.feed('s040', $$
	back    1:20    /b
	bridge  1:00:11 /a
	bridge  1:30:12 /b
	back    1:15    /a
$$);
CALL clickstream.process('s040');
-- back 1:15 .. 1:50, two of bridge: 1:00:11 .. 1:30:11 and 1:30:12 .. 2:00:12; later is open, too
SELECT session_id, visitor, test.at(session_start) AS start, test.at(session_end) AS "end", event_count
FROM clickstream.open_sessions('visits') ORDER BY visitor, session_start;
-- The watermark is 1:30:02.  An event behind it that touches an open session
-- is taken; one whose own session ends before it is late, by 1.001 s.
SELECT test.feed('s040', $$
	bridge  1:15    /c
	back    0:59    /0
	old     1:00:01 /x
	newish  1:00:03 /x
$$);
CALL clickstream.process('s040');
SELECT session_id, visitor, test.at(session_start) AS start, test.at(session_end) AS "end", event_count
FROM clickstream.open_sessions('visits') ORDER BY visitor, session_start;
SELECT message_offset, definition, test.at(event_time) AS at, lateness FROM clickstream.late_event
WHERE stream = 's040' ORDER BY message_offset;
CALL clickstream.finish('s040');
TABLE seen;
SELECT used, filtered, late, dead, balanced FROM test.ledger WHERE stream = 's040';
-- after finish everything is late
SELECT test.feed('s040', 'after 9:00 /x');
CALL clickstream.process('s040');
SELECT count(*) AS sessions_of_after FROM visits WHERE effective_user_id = 'after';
SELECT used, filtered, late, dead, balanced FROM test.ledger WHERE stream = 's040';

-- The first event's values, NULL included; exit_page is the last that is not NULL;
-- first and last by place, not by arrival: 0:00 /in arrives second
DROP VIEW seen;
SELECT clickstream.drop_stream('s040');
SELECT clickstream.create_stream('s040') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's040', measures => $$
	first(page_url) AS landing_page, last(page_url) FILTER (WHERE page_url IS NOT NULL) AS exit_page, last(page_url) AS last_page,
	first(referrer_url) AS landing_referrer, first(referrer_url) FILTER (WHERE referrer_url IS NOT NULL) AS first_referrer,
	first(utm_source) AS utm_source, count(DISTINCT page_url) AS pages, count(*) AS events$$);
SELECT test.feed('s040', $$
	direct  0:05    /next   referrer_url=/in utm_source=mail
	direct  0:00    /in     utm_source=-
	direct  0:09    -
	direct  0:07    /next
	tie     0:00    /t0     part=1
	tie     0:00    /t1     part=0
$$);
CALL clickstream.finish('s040');
-- direct: /in, /next, NULL, NULL, /in, NULL, 2, 4.  tie: partition 0 is before 1
SELECT effective_user_id, landing_page, exit_page, last_page, landing_referrer, first_referrer, utm_source, pages, events,
	session_duration_seconds AS seconds
FROM visits ORDER BY 1;
-- the default measures say the same
SELECT clickstream.create_session('defaults', stream => 's040');
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 't040' AND table_name = 'defaults' ORDER BY ordinal_position;
SELECT clickstream.reset('s040');
CALL clickstream.finish('s040');
SELECT effective_user_id, test.at(session_start) AS start, test.at(session_end) AS "end", event_count, pages_viewed, test.at(first_event) AS first,
	test.at(last_event) AS last, session_duration_seconds AS seconds, landing_referrer, landing_page, exit_page, utm_source, utm_campaign,
	device_type, closed_reason, is_final, revision
FROM defaults ORDER BY 1;
SELECT clickstream.drop_stream('s040');

-- max_length: cut at the first event more than 20 minutes after the start;
-- exactly 20 minutes is not cut.  0..20 (3 events), then 20:00.001 .. 35 (3),
-- whatever the order of arrival.
SELECT clickstream.create_stream('s040', watermark_delay => '20 minutes') > 0 AS made;
SELECT clickstream.create_session('short', stream => 's040', gap => '10 minutes', max_length => '20 minutes', measures => 'count(*) AS events');
SELECT test.feed('s040', $$
	bot     0:00            /a
	bot     0:10            /a
	bot     0:20            /a
	bot     0:20:00.001     /b
	bot     0:30            /b
	bot     0:35            /b
	pair    2:00            /a
	pair    2:24            /b
	pair    2:14            /b
	pair    2:07            /b
$$);
-- pair: 2:00 .. 2:14 (3), and 2:24 lies within the gap but more than max_length after 2:00
CALL clickstream.finish('s040');
SELECT session_id, effective_user_id AS visitor, test.at(session_start) AS start, test.at(session_end) AS "end", events, closed_reason
FROM short ORDER BY effective_user_id, session_start;
SELECT clickstream.drop_stream('s040');

-- key and filter of a definition's own
SELECT clickstream.create_stream('s040') > 0 AS made;
SELECT clickstream.create_session('by_country', stream => 's040', key => 'country', filter => $$page_url <> '/health'$$,
	measures => 'count(*) AS events, count(DISTINCT effective_user_id) AS visitors');
SELECT test.feed('s040', $$
	a       0:00    /a      country=at
	b       0:01    /a      country=at
	b       0:02    /health country=at
	c       0:03    /a
$$);
CALL clickstream.finish('s040');
SELECT session_id, country, events, visitors FROM by_country ORDER BY 1;
SELECT used, filtered, late, dead, balanced FROM test.ledger WHERE stream = 's040';
SELECT clickstream.drop_stream('s040');
DROP SCHEMA t040 CASCADE;
