-- Funnels over random streams against plain SQL over the event log: ten
-- thousand visitors, each a case, with ties, repeats and events that meet
-- several conditions.  The SQL tries every chain; it shares nothing with the
-- one-pass algorithm but the words of doc/semantics.md.  Compared are, for each
-- visitor, the highest level, the time at which it was first reached, and the
-- start of the chain that did, short of a conversion.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t190;
SET search_path = t190;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\getenv visitors CLICKSTREAM_CASES
\if :{?visitors}
\else
\set visitors 10000
\endif
\echo seed :seed, visitors :visitors
SELECT setseed(:seed / 1000000.0);
-- Arrival: in s190 each event lags by less than the delay; in s190_late by up
-- to half an hour behind a delay of one second, which allowed_lateness covers.
SELECT clickstream.create_stream('s190', watermark_delay => '60 seconds') > 0 AS made;
SELECT clickstream.create_stream('s190_late', watermark_delay => '1 second') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's190');
CREATE FUNCTION abc() RETURNS clickstream.step[] LANGUAGE sql AS $$
	SELECT ARRAY[clickstream.step('a', 'page_url ~ ''a'''), clickstream.step('b', 'page_url ~ ''b'''), clickstream.step('c', 'page_url ~ ''c''')] $$;
SELECT clickstream.create_funnel('ordered', stream => 's190', within => '8 seconds', steps => abc());
SELECT clickstream.create_funnel('increasing', stream => 's190', within => '8 seconds', strict_increase => true, steps => abc());
SELECT clickstream.create_funnel('exclusive', stream => 's190', within => '8 seconds', within_exclusive => true, steps => abc());
SELECT clickstream.create_funnel('strict', stream => 's190', within => '8 seconds', mode => 'strict', steps => abc());
SELECT clickstream.create_funnel('unordered', stream => 's190', within => '8 seconds', mode => 'unordered', steps => abc());
-- A breakdown, and for each of its values a funnel whose first step demands it.
SELECT clickstream.create_funnel('by_side', stream => 's190', within => '8 seconds', breakdown => 'message_offset % 2 AS side', steps => abc());
SELECT clickstream.create_funnel('side_' || side, stream => 's190', within => '8 seconds',
	steps => clickstream.step('a', format($$page_url ~ 'a' AND message_offset %% 2 = %s$$, side)) || (abc())[2:3]) FROM generate_series(0, 1) AS side;
SELECT clickstream.create_funnel('strict_by_side', stream => 's190', within => '8 seconds', mode => 'strict', breakdown => 'message_offset % 2 AS side', steps => abc());
SELECT clickstream.create_funnel('strict_side_' || side, stream => 's190', within => '8 seconds', mode => 'strict',
	steps => clickstream.step('a', format($$page_url ~ 'a' AND message_offset %% 2 = %s$$, side)) || (abc())[2:3]) FROM generate_series(0, 1) AS side;
-- All that an entry can hold.
SELECT clickstream.create_funnel('all_' || mode, stream => 's190', within => '8 seconds', mode => mode, breakdown => 'message_offset % 2 AS side, page_url AS page',
	exclusions => ARRAY[clickstream.exclusion($$page_url = 'x'$$)],
	steps => ARRAY[(abc())[1], clickstream.step('b', $$page_url ~ 'b'$$, optional => mode <> 'unordered'), (abc())[3]])
FROM unnest(ARRAY['ordered', 'strict', 'unordered']) AS mode;
SELECT clickstream.create_funnel('late', stream => 's190_late', within => '8 seconds', allowed_lateness => '1 hour', steps => abc());
SELECT clickstream.create_funnel('late_unordered', stream => 's190_late', within => '8 seconds', mode => 'unordered', allowed_lateness => '1 hour',
	emit => 'changes', emit_interval => '0', steps => abc());
CREATE TABLE event AS
SELECT 'v' || v AS user_id, '2024-06-01 00:00+00'::timestamptz + (v / 5) * interval '1 second' + trunc(power(random(), 2) * 16) * interval '1 second' AS event_time,
	(ARRAY['a', 'b', 'c', 'a', 'b', 'c', 'x', 'ab', 'bc', 'abc'])[1 + trunc(random() * 10)::int] AS page_url,
	trunc(random() * 3)::int AS partition, random() * 58 AS lag, random() * 1800 AS late
FROM generate_series(1, :visitors) AS v, generate_series(1, 9) AS n WHERE random() < 0.75;
-- nobody's, at the end: the watermark passes all the others before finish() does
INSERT INTO event SELECT NULL, max(event_time) + interval '1 hour', 'x', p, 0, 1800 FROM event, generate_series(0, 2) AS p GROUP BY p;
SELECT count(*) > :visitors * 6 AS enough, count(*) FILTER (WHERE n > 1) > :visitors AS ties
FROM (SELECT count(*) OVER (PARTITION BY user_id, event_time) AS n FROM event) AS e;
CREATE PROCEDURE feed(stream text, lag_column text, condition text DEFAULT 'true', partitions int DEFAULT 3) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT count(clickstream.produce(%L, jsonb_build_object(''user_id'', user_id, ''page_url'', page_url, ''event_time'', event_time)::text,
		partition => partition %% %s, message_timestamp => event_time))
		FROM (SELECT * FROM event WHERE %s ORDER BY event_time + %I * interval ''1 second'') AS e', stream, partitions, condition, lag_column);
END
$$;
CALL feed('s190', 'lag');
CALL feed('s190_late', 'late');
-- in pieces: each call recovers its state from the log
CREATE PROCEDURE in_pieces(stream text, n int, size int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		CALL clickstream.process(stream, size);
	END LOOP;
	CALL clickstream.finish(stream);
END
$$;
SET clickstream.batch_messages = 1777;
CALL in_pieces('s190', 6, :visitors);
RESET clickstream.batch_messages;
CREATE TABLE contents AS
SELECT d.table_oid, test.content(d.table_oid) AS content FROM clickstream.definition d JOIN clickstream.stream s USING (stream_id) WHERE s.name = 's190' AND d.kind = 'f';
SET clickstream.batch_messages = 2999;
CALL clickstream.finish('s190_late');
RESET clickstream.batch_messages;
SELECT used > 0 AS used, late, dead, balanced FROM test.ledger WHERE stream LIKE 's190%' ORDER BY stream;

-- Every event of each visitor, in place order.
CREATE TABLE placed AS
SELECT effective_user_id AS who, event_time AS t, (page_url ~ 'a')::int + 2 * (page_url ~ 'b')::int + 4 * (page_url ~ 'c')::int AS mask,
	row_number() OVER (PARTITION BY effective_user_id ORDER BY event_time, topic, partition, message_offset)::int AS i
FROM log WHERE effective_user_id IS NOT NULL;
CREATE INDEX ON placed (who, t);
ANALYZE placed;
-- Every chain of steps 1 .. level: other events may lie between, equal times help.
CREATE FUNCTION chains(within interval, increasing boolean DEFAULT false, strict boolean DEFAULT false)
RETURNS TABLE (who text, start timestamptz, t timestamptz, i int, level int) LANGUAGE sql AS $$
	WITH RECURSIVE chain AS (
		SELECT who, t AS start, t, i AS last, (1 << i) AS used, 1 AS level FROM placed WHERE (mask & 1) > 0
		UNION
		SELECT c.who, c.start, p.t, p.i, c.used | (1 << p.i), c.level + 1
		FROM chain c JOIN placed p ON p.who = c.who AND p.t >= c.t AND p.t <= c.start + chains.within
		WHERE c.level < 3 AND (p.mask & (1 << c.level)) > 0 AND (c.used & (1 << p.i)) = 0
			AND (NOT increasing OR p.t > c.t) AND (NOT strict OR p.i = c.last + 1)
	)
	-- strict: events are taken one by one, so of equal times the first that reached a level is shown
	SELECT who, start, t, CASE WHEN strict THEN last END, level FROM chain
$$;
-- Every choice of events for some steps, within the time, whatever their order.
CREATE FUNCTION stretches(within interval)
RETURNS TABLE (who text, start timestamptz, t timestamptz, i int, level int) LANGUAGE sql AS $$
	WITH RECURSIVE stretch AS (
		SELECT p.who, p.t AS start, p.t, p.i AS last, (1 << s) AS steps, 1 AS level
		FROM placed p, generate_series(0, 2) AS s WHERE (p.mask & (1 << s)) > 0
		UNION
		SELECT c.who, c.start, p.t, p.i, c.steps | (1 << s), c.level + 1
		FROM stretch c JOIN placed p ON p.who = c.who AND p.i > c.last AND p.t <= c.start + stretches.within, generate_series(0, 2) AS s
		WHERE (p.mask & (1 << s)) > 0 AND (c.steps & (1 << s)) = 0
	)
	SELECT who, start, t, NULL::int, level FROM stretch
$$;
-- Of all chains: the highest level, when it was first reached, and the latest start that did.  Not for conversions,
-- which take the first of equal events that suffice, nor for unordered rows, whose steps have no order.
CREATE PROCEDURE expect(name text, chains text, with_start boolean DEFAULT true) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE %I AS SELECT DISTINCT ON (who) who, level, t, CASE WHEN %L AND level < 3 THEN start END AS start
		FROM %s ORDER BY who, level DESC, t, i, start DESC', name, with_start, chains);
END
$$;
CALL expect('expect_ordered', 'chains(''8 seconds'')');
CALL expect('expect_increasing', 'chains(''8 seconds'', increasing => true)');
CALL expect('expect_exclusive', 'chains(''8 seconds'' - interval ''1 microsecond'')');
CALL expect('expect_strict', 'chains(''8 seconds'', strict => true)');
CALL expect('expect_unordered', 'stretches(''8 seconds'')', with_start => false);
-- How many visitors have another outcome.
CREATE FUNCTION differences(funnel text, expected text, with_start boolean DEFAULT true) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('WITH ours AS (
			SELECT DISTINCT ON (effective_user_id) effective_user_id AS who, level, greatest(a_time, b_time, c_time) AS t,
				CASE WHEN %L AND level < 3 THEN a_time END AS start
			FROM %I ORDER BY 1, level DESC, 3)
		SELECT count(*) FROM (SELECT who FROM ((TABLE ours EXCEPT TABLE %I) UNION ALL (TABLE %3$I EXCEPT TABLE ours)) AS d GROUP BY who) AS w',
		with_start, funnel, expected) INTO n;
	RETURN n;
END
$$;
SELECT level, count(*) > :visitors / 20 AS enough FROM expect_ordered GROUP BY 1 ORDER BY 1;
SELECT differences('ordered', 'expect_ordered') AS ordered, differences('increasing', 'expect_increasing') AS increasing,
	differences('exclusive', 'expect_exclusive') AS exclusive, differences('strict', 'expect_strict') AS strict,
	differences('unordered', 'expect_unordered', false) AS unordered;
-- Late events within allowed_lateness: as if they had come in order.
SELECT differences('late', 'expect_ordered') AS late, differences('late_unordered', 'expect_unordered', false) AS late_unordered,
	(SELECT count(*) FILTER (WHERE revision > 0) > 0 FROM late) AS some_were_revised,
	(SELECT count(*) FROM late WHERE NOT is_final) + (SELECT count(*) FROM late_unordered WHERE NOT is_final) AS not_final;
-- Each value of a breakdown as if it had a funnel of its own.
CREATE FUNCTION side_differences(t text, side int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('WITH ours AS (SELECT to_jsonb(r) - ''side'' AS r FROM %I r WHERE side = %s), theirs AS (SELECT to_jsonb(r) AS r FROM %I r)
		SELECT count(*) FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) AS d',
		t || 'by_side', side, t || 'side_' || side) INTO n;
	RETURN n;
END
$$;
SELECT t, side, side_differences(t, side) AS differences FROM unnest(ARRAY['', 'strict_']) AS t, generate_series(0, 1) AS side ORDER BY 1, 2;
SELECT mode, count(*) > :visitors AS enough, count(DISTINCT closed_reason) AS reasons
FROM (SELECT 'ordered' AS mode, closed_reason FROM all_ordered UNION ALL SELECT 'strict', closed_reason FROM all_strict
	UNION ALL SELECT 'unordered', closed_reason FROM all_unordered) AS r GROUP BY 1 ORDER BY 1;

-- In one go as in pieces.
SELECT clickstream.reset('s190', start_from => 'earliest');
CALL clickstream.finish('s190');
SELECT count(*) AS funnels, count(*) FILTER (WHERE test.content(table_oid) <> content) AS differ FROM contents;
SELECT clickstream.drop_stream('s190');
SELECT clickstream.drop_stream('s190_late');

-- Wrong versions of the code are noticed; a tenth of the visitors is enough.
SELECT clickstream.create_stream('s190', watermark_delay => '60 seconds') > 0 AS made;
SELECT clickstream.create_funnel('ordered', stream => 's190', within => '8 seconds', steps => abc());
SELECT clickstream.create_funnel('unordered', stream => 's190', within => '8 seconds', mode => 'unordered', steps => abc());
CALL feed('s190', 'lag', $$substr(user_id, 2)::int % 10 = 0$$);
DELETE FROM expect_ordered WHERE substr(who, 2)::int % 10 <> 0;
DELETE FROM expect_unordered WHERE substr(who, 2)::int % 10 <> 0;
CREATE PROCEDURE with_mutant(mutant text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.reset('s190', start_from => 'earliest');
	PERFORM set_config('clickstream.mutant', mutant, false);
	CALL clickstream.finish('s190');
	PERFORM set_config('clickstream.mutant', '', false);
END
$$;
CALL with_mutant('');
SELECT differences('ordered', 'expect_ordered') AS ordered, differences('unordered', 'expect_unordered', false) AS unordered;
CALL with_mutant('within_exclusive');
SELECT differences('ordered', 'expect_ordered') > 0 AS ordered, differences('unordered', 'expect_unordered', false) > 0 AS unordered;
CALL with_mutant('tie_overwrites');
SELECT differences('ordered', 'expect_ordered') > 0 AS ordered;
CALL with_mutant('unsorted_apply');
SELECT differences('ordered', 'expect_ordered') > 0 AS ordered;
SELECT clickstream.drop_stream('s190');

-- A topic that falls silent again and again shows rows, and ends with the same.  One partition: of several that are
-- silent the first to speak would move the watermark without the others.
SET clickstream.mock_clock = '2024-06-01 00:00+00';
SELECT clickstream.create_stream('s190', watermark_delay => '60 seconds', idle_timeout => '1 second') > 0 AS made;
SELECT clickstream.create_funnel('ordered', stream => 's190', within => '8 seconds', steps => abc());
SELECT clickstream.create_funnel('changes', stream => 's190', within => '8 seconds', emit => 'changes', emit_interval => '0', steps => abc());
SELECT clickstream.create_funnel('revised', stream => 's190', within => '8 seconds', allowed_lateness => '2 minutes', steps => abc());
SELECT clickstream.create_funnel('unordered', stream => 's190', within => '8 seconds', mode => 'unordered', steps => abc());
CREATE TABLE silences AS SELECT n, 0 AS idle, 0 AS open FROM generate_series(1, 12) AS n;
CREATE PROCEDURE with_silences() LANGUAGE plpgsql AS $$
DECLARE
	first timestamptz := (SELECT min(event_time) FROM event);
	step interval := (SELECT (max(event_time) - min(event_time) - interval '1 hour') / 11 FROM event);
	clock timestamptz;
BEGIN
	FOR k IN 1 .. 12 LOOP
		clock := first + k * step;
		PERFORM set_config('clickstream.mock_clock', clock::text, false);
		CALL feed('s190', 'lag', format('substr(user_id, 2)::int %% 10 = 0 AND event_time + lag * interval ''1 second'' >= %L AND event_time + lag * interval ''1 second'' < %L',
			CASE WHEN k > 1 THEN clock - step ELSE '-infinity' END, CASE WHEN k < 12 THEN clock ELSE 'infinity' END), 1);
		CALL clickstream.process('s190');
		-- the silence, as of some seconds later each time, and not the same ones
		FOR j IN 1 .. 2 + k % 3 LOOP
			PERFORM set_config('clickstream.mock_clock', (clock + j * (20 + k) * interval '1 second')::text, false);
			CALL clickstream.process('s190');
		END LOOP;
		UPDATE silences SET idle = (SELECT count(*) FROM ordered WHERE closed_reason = 'idle'), open = (SELECT count(*) FROM changes WHERE closed_reason IS NULL)
		WHERE n = k;
	END LOOP;
	CALL clickstream.finish('s190');
END
$$;
CALL with_silences();
SELECT count(*) FILTER (WHERE idle > 0) > 8 AS idle, count(*) FILTER (WHERE open > 0) > 2 AS open FROM silences;
SELECT late, dead, balanced FROM test.ledger WHERE stream = 's190';
SELECT differences('ordered', 'expect_ordered') AS ordered, differences('changes', 'expect_ordered') AS changes,
	differences('revised', 'expect_ordered') AS revised, differences('unordered', 'expect_unordered', false) AS unordered,
	(SELECT count(*) FROM ((SELECT attempt_id, level, a_time, b_time, c_time, closed_reason, is_final FROM changes
		EXCEPT SELECT attempt_id, level, a_time, b_time, c_time, closed_reason, is_final FROM ordered)
		UNION ALL (SELECT attempt_id, level, a_time, b_time, c_time, closed_reason, is_final FROM ordered
		EXCEPT SELECT attempt_id, level, a_time, b_time, c_time, closed_reason, is_final FROM changes)) AS d) AS between_them,
	(SELECT count(*) FROM ordered WHERE NOT is_final) AS not_final;
RESET clickstream.mock_clock;
SELECT clickstream.drop_stream('s190');
DROP SCHEMA t190 CASCADE;
