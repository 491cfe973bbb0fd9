-- Rows of sessions that may still change: allowed_lateness, emit => 'changes',
-- and what a silent topic shows.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t042;
SET search_path = t042;
CREATE FUNCTION show(t regclass) RETURNS TABLE (visitor text, session_id text, start text, "end" text, events bigint, closed_reason text, is_final boolean, revision int)
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT effective_user_id, session_id, test.at(session_start), test.at(session_end), events, closed_reason, is_final, revision '
		'FROM %s ORDER BY effective_user_id, t042.%s.session_start, session_id', t, t);
END
$$;

-- ---- allowed_lateness: closed by the watermark, final an hour later
SELECT clickstream.create_stream('s042', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's042', gap => '10 minutes', allowed_lateness => '1 hour', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('metrics', source => 'visits', size => '1 hour', measures => 'count(*) AS sessions, sum(events) AS events');
SELECT test.feed('s042', $$
	a   0:00    /1
	a   0:20    /2
	b   0:05    /1
	-   0:31    /-
$$);
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT test.at(window_start) AS start, sessions, events, is_final FROM metrics ORDER BY 1;
-- late within the hour: joins a's first (revised), opens a session of its own (new, closed at once);
-- within the gap of b's it moves the start back: another session_id
SELECT test.feed('s042', $$
	a   0:03    /3
	c   0:15    /1
	b   0:01    /0
$$);
CALL clickstream.process('s042');
SELECT * FROM show('visits');
-- one that bridges a's two: the second row goes
SELECT test.feed('s042', 'a 0:12 /4');
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT test.at(window_start) AS start, sessions, events, is_final FROM metrics ORDER BY 1;
-- Closed ones that go on: d's first event is late, the second is not.  The row of the first appears, then its session
-- is open again (closed_reason NULL, not counted), until the watermark closes it again.
SELECT test.feed('s042', 'd 0:18 /1');
CALL clickstream.process('s042');
SELECT * FROM show('visits') WHERE visitor = 'd';
SELECT test.feed('s042', 'd 0:28 /2');
CALL clickstream.process('s042');
SELECT * FROM show('visits') WHERE visitor = 'd';
SELECT session_id, visitor FROM clickstream.open_sessions('visits');
SELECT test.at(window_start) AS start, sessions, events, is_final FROM metrics ORDER BY 1;
SELECT test.feed('s042', 'd 0:27 /3');
CALL clickstream.process('s042');
SELECT test.feed('s042', '- 0:38 /-');
CALL clickstream.process('s042');
SELECT * FROM show('visits') WHERE visitor = 'd';
-- The hour is over at the end of the gap, less 1 ms, and an hour: then an event is late, by how much more the hour would have had to be
SELECT test.feed('s042', $$
	-   1:09:59.999    /-
	c   0:05           /0
	e   0:00:00.001    /1
	g   0:00           /late
$$);
CALL clickstream.process('s042');
SELECT message_offset, test.at(event_time) AS at, lateness FROM clickstream.late_event WHERE stream = 's042' ORDER BY 1;
SELECT * FROM show('visits');
SELECT test.at(window_start) AS start, sessions, events, is_final FROM metrics ORDER BY 1;
-- finish: those that the watermark had closed keep that reason; "f" was open
SELECT test.feed('s042', 'f 1:10 /1');
CALL clickstream.finish('s042');
SELECT * FROM show('visits');
SELECT test.at(window_start) AS start, sessions, events, is_final FROM metrics ORDER BY 1;
SELECT clickstream.drop_stream('s042');

-- ---- the same with cuts: they show as of the watermark, and move with what comes late
SELECT clickstream.create_stream('s042', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's042', gap => '10 minutes', allowed_lateness => '1 hour', split_on => 'utm_campaign',
	end_when => $$event_type = 'purchase'$$, measures => 'count(*) AS events');
SELECT clickstream.create_session('plain', stream => 's042', gap => '10 minutes', max_length => '15 minutes', allowed_lateness => '1 hour', measures => 'count(*) AS events');
SELECT test.feed('s042', $$
	a   0:00    /1  utm_campaign=x
	a   0:04    /2  utm_campaign=x
	a   0:08    /3  utm_campaign=y
	a   0:12    /4  utm_campaign=y event_type=purchase
	a   0:16    /5  utm_campaign=y
	a   0:20    /6  utm_campaign=y
$$);
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT * FROM show('plain');
-- 0:02 of another campaign: four sessions of what were two; 0:06 ends one; 0:14 of x keeps 0:16 apart
SELECT test.feed('s042', $$
	a   0:02    /1  utm_campaign=z
	a   0:06    /1  utm_campaign=x event_type=purchase
	a   0:14    /1  utm_campaign=x
$$);
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT * FROM show('plain');
CALL clickstream.finish('s042');
SELECT * FROM show('visits');
SELECT * FROM show('plain');
SELECT used, late, dead, balanced FROM test.ledger WHERE stream = 's042';
SELECT clickstream.drop_stream('s042');

-- ---- alter_session: a longer allowed_lateness keeps what is still there longer, a shorter one retires at the next batch
SELECT clickstream.create_stream('s042', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's042', gap => '10 minutes', measures => 'count(*) AS events');
SELECT test.feed('s042', $$
	a   0:00    /1
	b   0:05    /1
	-   0:12    /-
$$);
CALL clickstream.process('s042');
SELECT clickstream.alter_session('visits', allowed_lateness => '1 hour');
SELECT test.feed('s042', $$
	-   0:30    /-
	b   0:10    /2
	a   0:00    /2
$$);
CALL clickstream.process('s042');
-- a's first was final already, and stays so; what comes now opens another session
SELECT * FROM show('visits');
SELECT clickstream.alter_session('visits', allowed_lateness => '5 minutes', emit_interval => '1 minute');
SELECT test.feed('s042', $$
	b   0:12    /3
	-   0:30:01 /-
$$);
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT allowed_lateness, emit_interval FROM clickstream.definition WHERE table_oid = 'visits'::regclass;
SELECT test.at(event_time) AS at, lateness FROM clickstream.late_event WHERE stream = 's042';
SELECT clickstream.drop_stream('s042');

-- ---- emit => 'changes': open sessions are rows (emit_interval: 142_session_live)
SET clickstream.mock_clock = '2024-06-01 00:00:00+00';
SELECT clickstream.create_stream('s042', watermark_delay => '1 minute') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's042', gap => '10 minutes', emit => 'changes', measures => 'count(*) AS events');
SELECT clickstream.create_session('split', stream => 's042', gap => '10 minutes', emit => 'changes', emit_interval => '0', split_on => 'utm_campaign', measures => 'count(*) AS events');
SELECT test.feed('s042', $$
	a   0:00    /1
	b   0:00    /1
$$);
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT * FROM show('split');
SELECT test.feed('s042', $$
	a   0:01    /2
	c   0:01    /1
	b   0:02    /2  utm_campaign=x
$$);
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT * FROM show('split');
SELECT test.feed('s042', $$
	a   0:02    /3
	d   0:00    /1
	b   -0:01   /0
$$);
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT * FROM show('split');
CALL clickstream.finish('s042');
SELECT * FROM show('visits');
SELECT * FROM show('split');
SELECT clickstream.drop_stream('s042');

-- ---- sets too large for their entry: copied to be shown, kept whole, dropped with the session
SET clickstream.mock_clock = '2024-06-01 00:00:00+00';
SELECT clickstream.create_stream('s042', watermark_delay => '10 seconds') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's042', gap => '10 minutes', emit => 'changes', emit_interval => '0', allowed_lateness => '1 hour',
	split_on => 'utm_campaign', measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, sum(length(page_url)::numeric) AS letters');
CREATE PROCEDURE pages(from_page int, to_page int, campaign text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.produce('s042', jsonb_build_object('user_id', 'bot', 'page_url', '/' || i % 150, 'utm_campaign', campaign,
		'event_time', '2024-06-01 00:00+00'::timestamptz + i * interval '1 second')::text,
		message_timestamp => '2024-06-01 00:00+00'::timestamptz + i * interval '1 second') FROM generate_series(from_page, to_page) AS i;
	CALL clickstream.process('s042');
END
$$;
CREATE VIEW bot AS SELECT session_id, events, pages, letters, closed_reason, is_final, revision FROM visits ORDER BY session_start;
CALL pages(1, 40, 'a');
CALL pages(41, 100, 'a');
TABLE bot;
CALL pages(201, 300, 'b');
CALL pages(101, 140, 'a');
TABLE bot;
-- one of another campaign in the middle of the first: three sessions
CALL pages(70, 70, 'x');
TABLE bot;
CALL clickstream.finish('s042');
TABLE bot;
SELECT i.events = count(*) AND i.pages = count(DISTINCT i.page) AND i.letters = sum(length(i.page)) AS as_recomputed FROM (
	SELECT b.events, b.pages, b.letters, '/' || n % 150 AS page FROM bot b, generate_series(1, 70) AS n WHERE b.session_id = 's042/0/0') AS i
GROUP BY i.events, i.pages, i.letters;
DROP VIEW bot;
SELECT clickstream.drop_stream('s042');
RESET clickstream.mock_clock;

-- ---- a silent topic: rows as of clock - watermark_delay; state and watermark stay
SET clickstream.mock_clock = '2024-06-01 00:20:00+00';
SELECT clickstream.create_stream('s042', watermark_delay => '1 minute', idle_timeout => '1 minute') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's042', gap => '10 minutes', measures => 'count(*) AS events');
SELECT clickstream.create_session('split', stream => 's042', gap => '10 minutes', split_on => 'utm_campaign', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('metrics', source => 'visits', size => '1 hour', measures => 'count(*) AS sessions, sum(events) AS events');
SELECT test.feed('s042', $$
	a   0:00    /1
	b   0:15    /1
	b   0:18    /1  utm_campaign=x
	c   0:19    /1
	a   0:20    /2
$$);
CALL clickstream.process('s042');
SELECT * FROM show('visits');
-- silent for less than idle_timeout: nothing; then as of 0:28 and 0:30
SET clickstream.mock_clock = '2024-06-01 00:20:59+00';
CALL clickstream.process('s042');
SELECT count(*) FROM show('visits');
SET clickstream.mock_clock = '2024-06-01 00:29:00+00';
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT * FROM show('split');
SET clickstream.mock_clock = '2024-06-01 00:31:00+00';
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT watermark FROM clickstream.stat_stream WHERE stream = 's042';
SELECT visitor FROM clickstream.open_sessions('visits') ORDER BY 1;
SELECT test.at(window_start) AS start, sessions, events, is_final FROM metrics ORDER BY 1;
-- a's session goes on: its row is open again; b's and c's stay as shown; a later one is not shown yet
SELECT test.feed('s042', $$
	a   0:25    /3
	d   0:26    /1
	b   0:17    /0  utm_campaign=x
$$);
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT * FROM show('split');
SELECT test.at(window_start) AS start, sessions, events, is_final FROM metrics ORDER BY 1;
-- the second silence shows it again, and d's
SET clickstream.mock_clock = '2024-06-01 00:50:00+00';
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT * FROM show('split');
SELECT test.at(window_start) AS start, sessions, events, is_final FROM metrics ORDER BY 1;
-- the watermark closes what was shown: no revision where nothing changed
SELECT test.feed('s042', 'e   1:00    /1');
CALL clickstream.process('s042');
SELECT * FROM show('visits');
SELECT * FROM show('split');
SELECT used, late, dead, balanced FROM test.ledger WHERE stream = 's042';
SELECT clickstream.drop_stream('s042');
RESET clickstream.mock_clock;
DROP SCHEMA t042 CASCADE;
