-- Rows of attempts that may still change: allowed_lateness, emit => 'changes',
-- and what a silent topic shows.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t175;
SET search_path = t175;
CREATE FUNCTION ab() RETURNS clickstream.step[] LANGUAGE sql AS $$
	SELECT ARRAY[clickstream.step('a', 'page_url = ''a'''), clickstream.step('b', 'page_url = ''b'''), clickstream.step('c', 'page_url = ''c''')] $$;
CREATE FUNCTION show(t regclass) RETURNS TABLE (who text, attempt_id text, level int, a text, b text, c text, closed_reason text, is_final boolean, revision int)
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT effective_user_id, attempt_id, level, test.at(a_time), test.at(b_time), test.at(c_time), closed_reason, is_final, revision '
		'FROM %s ORDER BY effective_user_id, started_at, attempt_id', t);
END
$$;

-- ---- allowed_lateness: closed by the watermark, final an hour later
SELECT clickstream.create_stream('s175', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_funnel('f', stream => 's175', within => '10 minutes', allowed_lateness => '1 hour', steps => ab());
SELECT clickstream.create_rollup('metrics', source => 'f', size => '1 hour', measures => 'count(*) AS attempts, sum(level) AS levels, count(*) FILTER (WHERE is_conversion) AS conversions');
SELECT test.feed('s175', $$
	u   0:00    a
	v   0:01    a
	u   0:02    b
	w   0:03    b
	v   0:04    b
	v   0:05    c
	-   0:20    -
$$);
CALL clickstream.process('s175');
SELECT * FROM show('f');
SELECT test.at(window_start) AS start, attempts, levels, conversions, is_final FROM metrics ORDER BY 1;
-- late within the hour: u's c completes (revised), w's a makes a new attempt, which is closed at once; v's earlier a is another first event:
-- the old row goes, the new one comes
SELECT test.feed('s175', $$
	u   0:03    c
	w   0:01:30 a
	v   0:00:30 a
$$);
CALL clickstream.process('s175');
SELECT * FROM show('f');
SELECT test.at(window_start) AS start, attempts, levels, conversions, is_final FROM metrics ORDER BY 1;
-- open again: x expired at 0:30; its a of 0:25 makes it go on, until 0:35
SELECT test.feed('s175', $$
	x   0:20    a
	-   0:31    -
$$);
CALL clickstream.process('s175');
SELECT * FROM show('f') WHERE who = 'x';
SELECT test.feed('s175', 'x   0:25    a');
CALL clickstream.process('s175');
SELECT * FROM show('f') WHERE who = 'x';
SELECT test.feed('s175', E'x   0:32    b\n-   0:36    -');
CALL clickstream.process('s175');
SELECT * FROM show('f') WHERE who = 'x';
-- The hour is over: rows are final, without a revision where nothing changed; then an event is late
SELECT test.feed('s175', $$
	-   1:15    -
	u   0:15    a
	u   0:14:59.999  a
$$);
CALL clickstream.process('s175');
SELECT message_offset, test.at(event_time) AS at, lateness FROM clickstream.late_event WHERE stream = 's175' ORDER BY 1;
SELECT * FROM show('f');
SELECT test.at(window_start) AS start, attempts, levels, conversions, is_final FROM metrics ORDER BY 1;
CALL clickstream.finish('s175');
SELECT * FROM show('f');
SELECT test.at(window_start) AS start, attempts, levels, conversions, is_final FROM metrics ORDER BY 1;
SELECT clickstream.drop_stream('s175');

-- ---- emit => 'changes': open attempts are rows, which do not count in rollups
SET clickstream.mock_clock = '2024-06-01 00:00:00+00';
SELECT clickstream.create_stream('s175', watermark_delay => '1 minute') > 0 AS made;
SELECT clickstream.create_funnel('f', stream => 's175', within => '10 minutes', emit => 'changes', steps => ab());
SELECT clickstream.create_funnel('at_once', stream => 's175', within => '10 minutes', emit => 'changes', emit_interval => '0', steps => ab());
SELECT clickstream.create_rollup('metrics', source => 'f', size => '1 hour', measures => 'count(*) AS attempts, sum(level) AS levels');
SELECT test.feed('s175', $$
	u   0:00    a
	v   0:00    a
	-   0:02    -
$$);
CALL clickstream.process('s175');
SELECT * FROM show('f');
SELECT count(*) FROM metrics;
-- (when rewrites may wait for emit_interval: 176_funnel_live)
SELECT test.feed('s175', $$
	u   0:01:30 b
	u   0:02    a
	v   0:03    b
	w   0:03    a
	v   0:04    c
	-   0:05    -
$$);
CALL clickstream.process('s175');
SELECT * FROM show('f');
SELECT * FROM show('at_once');
SELECT test.feed('s175', E'w   0:05    b\n-   0:07    -');
CALL clickstream.process('s175');
SELECT * FROM show('f') WHERE who = 'w';
SELECT test.at(window_start) AS start, attempts, levels FROM metrics;
CALL clickstream.finish('s175');
SELECT * FROM show('f');
SELECT * FROM show('at_once') EXCEPT SELECT * FROM show('f');
SELECT clickstream.drop_stream('s175');

-- ---- a silent topic: rows as of clock - watermark_delay; state and watermark stay
SET clickstream.mock_clock = '2024-06-01 00:20:00+00';
SELECT clickstream.create_stream('s175', watermark_delay => '1 minute', idle_timeout => '1 minute') > 0 AS made;
SELECT clickstream.create_funnel('f', stream => 's175', within => '10 minutes', steps => ab());
SELECT clickstream.create_funnel('changes', stream => 's175', within => '10 minutes', emit => 'changes', steps => ab());
SELECT clickstream.create_rollup('metrics', source => 'f', size => '1 hour', measures => 'count(*) AS attempts, sum(level) AS levels');
-- u's c and all of w wait for the watermark, which is at 0:19
SELECT test.feed('s175', $$
	u   0:15    a
	v   0:16    a
	u   0:18    b
	u   0:19:30 c
	w   0:19:40 a
	w   0:19:50 b
	x   0:20    a
$$);
CALL clickstream.process('s175');
SELECT * FROM show('f');
SELECT * FROM show('changes');
SET clickstream.mock_clock = '2024-06-01 00:20:59+00';
CALL clickstream.process('s175');
SELECT count(*) FROM f;
-- as of 0:20:30: u has converted
SET clickstream.mock_clock = '2024-06-01 00:21:30+00';
CALL clickstream.process('s175');
SELECT * FROM show('f');
SELECT * FROM show('changes');
-- as of 0:29:45: w, whose steps the watermark has not seen, and v have expired; x has not
SET clickstream.mock_clock = '2024-06-01 00:30:45+00';
CALL clickstream.process('s175');
SELECT * FROM show('f');
SELECT * FROM show('changes');
SELECT watermark FROM clickstream.stat_stream WHERE stream = 's175';
SELECT test.at(window_start) AS start, attempts, levels, is_final FROM metrics ORDER BY 1;
-- The topic speaks: nothing is taken back.  The watermark is at 0:24.
SELECT test.feed('s175', $$
	v   0:25    b
	w   0:24:30 c
$$);
CALL clickstream.process('s175');
SELECT * FROM show('f');
-- at 0:25: v and w have gone on; v is open again and does not count
SELECT test.feed('s175', '-   0:26:01 -');
CALL clickstream.process('s175');
SELECT * FROM show('f');
SELECT * FROM show('changes');
SELECT test.at(window_start) AS start, attempts, levels, is_final FROM metrics ORDER BY 1;
-- it ends: no revision where nothing changed
SELECT test.feed('s175', '-   0:40 -');
CALL clickstream.process('s175');
SELECT * FROM show('f');
SELECT * FROM show('changes');
SELECT test.at(window_start) AS start, attempts, levels, is_final FROM metrics ORDER BY 1;
SELECT used, late, dead, balanced FROM test.ledger WHERE stream = 's175';
SELECT clickstream.drop_stream('s175');
RESET clickstream.mock_clock;

-- ---- after finish() all is closed for good: how late an event is has no measure, for nobody
SELECT clickstream.create_stream('s175', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_funnel('f', stream => 's175', within => '10 minutes', steps => ab());
SELECT clickstream.create_session('s', stream => 's175', allowed_lateness => '1 hour');
SELECT clickstream.create_window('w', stream => 's175', size => '10 minutes', measures => 'count(*) AS events');
SELECT test.feed('s175', 'u 0:00 a');
CALL clickstream.finish('s175');
SELECT test.feed('s175', 'u 0:01 b');
CALL clickstream.process('s175');
SELECT definition::regclass, lateness FROM clickstream.late_event WHERE stream = 's175' ORDER BY 1::text;
SELECT clickstream.drop_stream('s175');
DROP SCHEMA t175 CASCADE;
