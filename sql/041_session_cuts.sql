-- What cuts a session: split_on, end_when, midnight; which events wait for
-- that, and which are late.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t041;
SET search_path = t041;
CREATE FUNCTION show(t regclass) RETURNS TABLE (visitor text, session_id text, start text, "end" text, events bigint, closed_reason text, is_final boolean)
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT effective_user_id, session_id, test.at(session_start), test.at(session_end), events, closed_reason, is_final '
		'FROM %s ORDER BY effective_user_id, t041.%s.session_start, session_id', t, t);
END
$$;

-- split_on: another value than that of the event before, in place order; NULL is a value.
-- The campaign of "ad" goes mail, mail, NULL, NULL, mail; that of "back" returns.
SELECT clickstream.create_stream('s041', watermark_delay => '15 minutes') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's041', gap => '30 minutes', split_on => 'utm_campaign', measures => 'count(*) AS events');
SELECT test.feed('s041', $$
	ad      0:00    /a      utm_campaign=mail
	ad      0:05    /b      utm_campaign=mail
	ad      0:06    /c
	ad      0:07    /c
	ad      0:08    /d      utm_campaign=mail
	back    0:03    /a      utm_campaign=x
	back    0:02    /a      utm_campaign=y
	back    0:01    /a      utm_campaign=x
	far     0:00    /a      utm_campaign=x
	far     0:40    /b      utm_campaign=x
$$);
-- The watermark is 0:25: all but the last event are decided; what a change has cut is there
CALL clickstream.process('s041');
SELECT * FROM show('visits');
-- what waits is seen as if nothing more came
SELECT session_id, visitor, test.at(session_start) AS start, event_count, measures FROM clickstream.open_sessions('visits') ORDER BY 2;
-- One whose time the watermark has reached is late for this definition, even where it would join
SELECT test.feed('s041', $$
	far     0:25    /b      utm_campaign=x
	far     0:24    /b      utm_campaign=x
	far     0:25:01 /b      utm_campaign=y
$$);
CALL clickstream.process('s041');
SELECT message_offset, test.at(event_time) AS at, lateness FROM clickstream.late_event WHERE stream = 's041' ORDER BY 1;
CALL clickstream.finish('s041');
SELECT * FROM show('visits') WHERE visitor = 'far';
SELECT used, late, dead, balanced FROM test.ledger WHERE stream = 's041';
SELECT clickstream.drop_stream('s041');

-- end_when: the event that meets it is the session's last, whatever comes within the gap.
-- Its row appears as soon as the watermark has passed it.
SELECT clickstream.create_stream('s041', watermark_delay => '5 minutes') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's041', gap => '30 minutes', end_when => $$event_type = 'purchase'$$, measures => 'count(*) AS events');
SELECT test.feed('s041', $$
	buyer   0:00    /a
	buyer   0:01    /buy    event_type=purchase
	buyer   0:02    /thanks
	early   0:05    /buy    event_type=purchase
	early   0:04    /a
	early   0:04    /buy    event_type=purchase
	none    0:06    /a      event_type=-
	none    0:10    /a
$$);
CALL clickstream.process('s041');
-- The watermark is 0:05: only what a purchase closed is there
SELECT * FROM show('visits');
SELECT clickstream.advance_watermark('s041', '2024-06-01 00:32:00+00');
CALL clickstream.process('s041');
SELECT * FROM show('visits');
CALL clickstream.finish('s041');
SELECT * FROM show('visits');
SELECT clickstream.drop_stream('s041');

-- both, and max_length: the first reason in the order max_length, split
SELECT clickstream.create_stream('s041', watermark_delay => '1 hour') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's041', gap => '10 minutes', split_on => 'device_type', end_when => $$page_url = '/end'$$,
	max_length => '20 minutes', measures => 'count(*) AS events, first(page_url) AS first, last(page_url) AS last');
SELECT test.feed('s041', $$
	u       0:20:01 /long
	u       0:20    /b
	u       0:10    /b
	u       0:00    /a
	u       0:21    /mobile device_type=mobile
	u       0:22    /end    device_type=mobile
	u       0:22    /after  device_type=mobile
	u       0:43    /both   device_type=desktop
	u       0:33    /b      device_type=mobile
	u       0:23    /b      device_type=mobile
$$);
CALL clickstream.finish('s041');
SELECT test.at(session_start) AS start, events, first, last, closed_reason FROM visits ORDER BY session_start, session_id;
SELECT clickstream.drop_stream('s041');

-- Midnight.  In Vienna it is 22:00 UTC in summer; the clock is put forward on 2024-03-31 at 1:00 UTC and
-- back on 2024-10-27 at 1:00 UTC.  Sessions of two days never merge, however near; nothing waits for that.
SELECT clickstream.create_stream('s041', watermark_delay => '1 day') > 0 AS made;
SELECT clickstream.create_session('local', stream => 's041', gap => '30 minutes', split_at_midnight => true, time_zone => 'Europe/Vienna',
	measures => 'count(*) AS events');
SELECT clickstream.create_session('utc', stream => 's041', gap => '30 minutes', split_at_midnight => true, measures => 'count(*) AS events');
SELECT test.feed('s041', $$
	night   21:50           /a
	night   22:10           /c
	night   21:59:59.999999 /b
	night   22:00           /c
	exact   21:40           /a
	exact   22:10           /a
	near    21:40           /a
	near    22:10:00.000001 /a
	bridge  21:45           /a
	bridge  22:15           /c
	bridge  22:00           /b
$$);
CALL clickstream.finish('s041');
-- night, exact and bridge were cut at 22:00; near ended by its gap
SELECT * FROM show('local');
SELECT * FROM show('utc');
SELECT table_oid, time_zone FROM clickstream.definition WHERE stream_id = (SELECT stream_id FROM clickstream.stream WHERE name = 's041') ORDER BY table_oid::regclass::text;
SELECT clickstream.drop_stream('s041');
-- days of 23 and 25 hours: midnights at 23:00 UTC and 22:00 UTC in March, 22:00 and 23:00 in October
SELECT clickstream.create_stream('s041', watermark_delay => '3 days', max_future => NULL) > 0 AS made;
SELECT clickstream.create_session('local', stream => 's041', gap => '23 hours 30 minutes', max_length => NULL, split_at_midnight => true, time_zone => 'Europe/Vienna',
	measures => 'count(*) AS events, min(event_time) AS first, max(event_time) AS last');
SELECT count(clickstream.produce('s041', jsonb_build_object('user_id', d, 'event_time', t)::text, message_timestamp => t)) AS produced
FROM (VALUES ('spring', '2024-03-30 23:00+00'::timestamptz), ('autumn', '2024-10-26 22:00+00')) AS v(d, t0), generate_series(t0 - interval '1 hour', t0 + interval '26 hours', '1 hour') AS t;
CALL clickstream.finish('s041');
-- spring: 1, 23, then the rest; autumn: 1, 25, the rest
SELECT effective_user_id, events, first, last, closed_reason FROM local ORDER BY effective_user_id DESC, first;
SELECT clickstream.drop_stream('s041');

-- A key of its own type, e.g. a number; NULL takes no part
SELECT clickstream.create_stream('s041', extra_columns => 'device integer') > 0 AS made;
SELECT clickstream.create_session('by_device', stream => 's041', key => 'device', measures => 'count(*) AS events');
SELECT clickstream.create_session('by_anonymous', stream => 's041', key => 'anonymous_id', measures => 'count(*) AS events');
SELECT test.feed('s041', $$
	a       0:00    /a      device=7        anonymous_id=x
	b       0:01    /b      device=7        anonymous_id=y
	b       0:02    /b      device=-8       anonymous_id=x
	c       0:03    /c
$$);
CALL clickstream.process('s041');
SELECT visitor, measures FROM clickstream.open_sessions('by_device') ORDER BY 1;
CALL clickstream.finish('s041');
SELECT session_id, device, pg_typeof(device), events FROM by_device ORDER BY 2;
SELECT session_id, anonymous_id, events FROM by_anonymous ORDER BY 2;
SELECT clickstream.drop_stream('s041');
DROP SCHEMA t041 CASCADE;
