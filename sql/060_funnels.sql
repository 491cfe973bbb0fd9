-- Funnels: chains in order, ties, time limits, attempts.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t060;
SET search_path = t060;
SELECT clickstream.create_stream('s060', watermark_delay => '1 hour') > 0 AS made;
SELECT clickstream.create_funnel('abc', stream => 's060', within => '10 minutes', steps => ARRAY[
	clickstream.step('a', $$page_url ~ 'a'$$), clickstream.step('b', $$page_url ~ 'b'$$), clickstream.step('c', $$page_url ~ 'c'$$)]);
SELECT clickstream.create_funnel('increasing', stream => 's060', within => '10 minutes', strict_increase => true, steps => ARRAY[
	clickstream.step('a', $$page_url ~ 'a'$$), clickstream.step('b', $$page_url ~ 'b'$$), clickstream.step('c', $$page_url ~ 'c'$$)]);
CREATE VIEW seen AS
SELECT attempt_id, effective_user_id AS who, level, test.at(a_time) AS a, test.at(b_time) AS b, test.at(c_time) AS c,
	funnel_duration_seconds AS seconds, is_conversion AS converted, test.at(started_at) AS started, closed_reason AS reason, is_final
FROM abc ORDER BY effective_user_id, started_at, attempt_id;
CREATE VIEW seen_increasing AS
SELECT effective_user_id AS who, level, test.at(a_time) AS a, test.at(b_time) AS b, test.at(c_time) AS c, test.at(started_at) AS started
FROM increasing ORDER BY effective_user_id, started_at, attempt_id;
-- plain      converts: other events lie between
-- edge       within is inclusive: exactly 10 minutes
-- over       one millisecond too long: level 2, and the c is in no attempt
-- wrong      b before a does not count: level 1
-- latest     the second a is nearer: a at 6, c at 14: converts from the second a, as from the first it would not
-- nostart    no a: no attempt
-- nobody     NULL key
SELECT test.feed('s060', $$
	plain    0:00   a
	plain    0:01   x
	plain    0:02   b
	plain    0:03   a
	plain    0:04   c
	edge     0:00   a
	edge     0:05   b
	edge     0:10   c
	over     0:00   a
	over     0:05   b
	over     0:10:00.001 c
	wrong    0:00   b
	wrong    0:01   a
	wrong    0:02   c
	latest   0:00   a
	latest   0:04   b
	latest   0:06   a
	latest   0:07   b
	latest   0:14   c
	nostart  0:00   b
	nostart  0:01   c
	-        0:00   a
$$);
CALL clickstream.finish('s060');
TABLE seen;
-- Whatever may fill a step waits, which is used; x of plain and nobody's a are filtered.
SELECT used, filtered, late, balanced FROM test.ledger WHERE stream = 's060';
TABLE seen_increasing;
SELECT clickstream.reset('s060');

-- Ties: equal times in whatever order helps; each event fills one step only.
-- any      c, b, a at one time: converts
-- one      one event that is a, b and c: level 1
-- two      "ab" and "c" at one time: ab is the a and cannot be the b, too: level 1; the b at 1 makes 2
-- three    abc, abc, abc at one time: converts
-- trap     a at 2; a and b at 6, c at 8: the latest chain begins at 6
-- strict increase: any 1, one 1, two 2, three 1, trap 3
SELECT test.feed('s060', $$
	any     0:00    c
	any     0:00    b
	any     0:00    a
	one     0:00    abc
	two     0:00    ab
	two     0:00    c
	two     0:01    b
	three   0:00    abc
	three   0:00    abc
	three   0:00    abc
	trap    0:02    a
	trap    0:06    a
	trap    0:06    b
	trap    0:08    c
$$);
CALL clickstream.finish('s060');
TABLE seen;
TABLE seen_increasing;
DROP VIEW seen, seen_increasing;
SELECT clickstream.drop_stream('s060');
-- the trap itself: steps a, a, c; a at 2, a and c at 6: 3
SELECT clickstream.create_stream('s060') > 0 AS made;
SELECT clickstream.create_funnel('aac', stream => 's060', within => '10 minutes', steps => ARRAY[
	clickstream.step('a', $$page_url = 'a'$$), clickstream.step('again', $$page_url = 'a'$$), clickstream.step('c', $$page_url = 'c'$$)]);
SELECT test.feed('s060', $$
	trap    0:02    a
	trap    0:06    c
	trap    0:06    a
$$);
CALL clickstream.finish('s060');
SELECT attempt_id, level, test.at(a_time) AS a, test.at(again_time) AS again, test.at(c_time) AS c, is_conversion FROM aac;
SELECT clickstream.drop_stream('s060');

-- Attempts.  Arrival order never matters: the events wait for the watermark.
SELECT clickstream.create_stream('s060') > 0 AS made;
SELECT clickstream.create_funnel('buying', stream => 's060', within => '10 minutes', key => 'anonymous_id', filter => $$event_type <> 'bot'$$,
	steps => ARRAY[clickstream.step('a', $$page_url = 'a'$$), clickstream.step('b', $$page_url = 'b'$$)]);
CREATE VIEW seen AS
SELECT attempt_id, anonymous_id AS who, level, test.at(a_time) AS a, test.at(b_time) AS b, funnel_duration_seconds AS seconds,
	is_conversion AS converted, test.at(started_at) AS started, closed_reason AS reason, is_final
FROM buying ORDER BY anonymous_id, started_at, attempt_id;
-- d1  two conversions one after the other: the key starts afresh; the b between them belongs to none
-- d2  an attempt that expires, then another: 0:00 and 0:30
-- d3  b arrives before a
-- d4  a, a, a: one attempt from the first, renewed: it ends 10 minutes after the last
-- d5  bots are not seen
SELECT test.feed('s060', $$
	u  0:00 a anonymous_id=d1
	u  0:00 a anonymous_id=d2
	u  0:01 b anonymous_id=d1
	u  0:02 b anonymous_id=d1
	u  0:03 a anonymous_id=d1
	u  0:04 b anonymous_id=d1
	u  0:30 a anonymous_id=d2
	u  0:30 b anonymous_id=d3
	u  0:29:55 a anonymous_id=d3
	u  0:30 a anonymous_id=d4
	u  0:38 a anonymous_id=d4
	u  0:46 a anonymous_id=d4
	u  0:47 b anonymous_id=d5
	u  0:48 a anonymous_id=d5 event_type=bot
$$);
-- The watermark is 0:47:50.  Closed: conversions, and d2's two (0:30 + 10 minutes).
CALL clickstream.process('s060');
TABLE seen;
-- d4 converts from its last a, at 0:56 exactly
SELECT test.feed('s060', $$
	u  0:56 b anonymous_id=d4
	u  0:20 a anonymous_id=d9
$$);
CALL clickstream.finish('s060');
TABLE seen;
-- d9's event came behind the watermark: late
SELECT message_offset, definition, test.at(event_time) AS at, lateness FROM clickstream.late_event WHERE stream = 's060';
SELECT used, filtered, late, balanced FROM test.ledger WHERE stream = 's060';
DROP VIEW seen;
SELECT clickstream.drop_stream('s060');

-- Without ties an attempt is easily told by hand: a random stream against a
-- pass in SQL that keeps, for each level, the latest start that reached it.
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\echo seed :seed
SELECT setseed(:seed / 1000000.0);
SELECT clickstream.create_stream('s060', watermark_delay => '60 seconds') > 0 AS made;
SELECT clickstream.create_funnel('random', stream => 's060', within => '10 minutes', max_length => '366 days', steps => ARRAY[
	clickstream.step('a', $$page_url = 'a'$$), clickstream.step('b', $$page_url = 'b'$$), clickstream.step('c', $$page_url = 'c'$$)]);
CREATE TABLE event AS
SELECT i, '2024-06-01 00:00+00'::timestamptz + i * interval '5 seconds' AS event_time, 'v' || trunc(random() * 10)::int AS user_id,
	(ARRAY['a', 'b', 'c', 'x'])[1 + trunc(power(random(), 0.5) * 4)::int] AS page_url, trunc(random() * 2)::int AS partition, random() * 58 AS lag
FROM generate_series(1, 2000) i;
DO $$
DECLARE
	e record;
BEGIN
	FOR e IN SELECT * FROM event ORDER BY event_time + lag * interval '1 second', i LOOP
		PERFORM clickstream.produce('s060', (to_jsonb(e) - 'i' - 'lag' - 'partition')::text,
			partition => e.partition, message_timestamp => e.event_time);
	END LOOP;
END
$$;
SET clickstream.batch_messages = 33;
CALL clickstream.process('s060', 1500);
RESET clickstream.batch_messages;
CALL clickstream.finish('s060');
CREATE FUNCTION expected(OUT who text, OUT level int, OUT a timestamptz, OUT b timestamptz, OUT c timestamptz, OUT started timestamptz)
RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	e record;
	limit_ constant interval := '10 minutes';
	a1 timestamptz; -- start of the latest chain at level 1, and so on
	a2 timestamptz; b2 timestamptz;
BEGIN
	FOR who IN SELECT DISTINCT user_id FROM event LOOP
		level := 0; a := NULL; b := NULL; c := NULL; a1 := NULL; a2 := NULL;
		FOR e IN SELECT * FROM event WHERE user_id = who AND page_url <> 'x' ORDER BY event_time LOOP
			-- the attempt is over when its latest chain cannot go on
			IF level > 0 AND e.event_time > a1 + limit_ THEN
				RETURN NEXT;
				level := 0; a := NULL; b := NULL; c := NULL; a1 := NULL; a2 := NULL;
			END IF;
			IF e.page_url = 'a' THEN
				IF level = 0 THEN
					level := 1; started := e.event_time; a := e.event_time;
				END IF;
				a1 := e.event_time;
			ELSIF e.page_url = 'b' AND a1 IS NOT NULL THEN
				a2 := a1; b2 := e.event_time;
				IF level = 1 THEN
					level := 2; a := a2; b := b2;
				END IF;
			ELSIF e.page_url = 'c' AND a2 IS NOT NULL AND e.event_time <= a2 + limit_ THEN
				level := 3; a := a2; b := b2; c := e.event_time;
				RETURN NEXT;
				level := 0; a := NULL; b := NULL; c := NULL; a1 := NULL; a2 := NULL;
			END IF;
		END LOOP;
		IF level > 0 THEN
			RETURN NEXT;
		END IF;
	END LOOP;
END
$$;
SELECT count(*) > 50 AS enough, count(DISTINCT level) AS levels FROM random;
-- Step times are those recorded when the highest level was first reached, and
-- replaced only when the chain's start becomes later: b2 is the first after a2.
WITH ours AS (SELECT effective_user_id, level, started_at, c_time FROM random), theirs AS (SELECT who, level, started, c FROM expected())
SELECT count(*) AS differences FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;
SELECT clickstream.drop_stream('s060');
DROP SCHEMA t060 CASCADE;
