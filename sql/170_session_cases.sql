-- Ten thousand random visitors, against the same sessions recomputed in plain
-- SQL over the event log, and against Flink's rule for late events, written
-- down as a small model that knows nothing of ours.
--   CLICKSTREAM_SEED=…           another seed
--   CLICKSTREAM_SESSION_CASES=…  more visitors, or fewer
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\getenv cases CLICKSTREAM_SESSION_CASES
\if :{?cases}
\else
\set cases 10000
\endif
CREATE SCHEMA cases;
SET search_path = cases;

-- ---- events

-- A visitor's events lie around one moment, half of the time a midnight of some zone in days in which clocks are
-- changed there, or within two hours that everybody shares.  Distances are often the gap (60 s), or 1 ms beside it.
CREATE TABLE event (i bigint PRIMARY KEY, visitor text, event_time timestamptz, channel text, ends boolean, page text, weight numeric);
CREATE PROCEDURE make_events(cases int, shared boolean) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE event;
	INSERT INTO event
	SELECT row_number() OVER (), visitor, base + sum(distance) OVER (PARTITION BY visitor ORDER BY nr),
		(ARRAY['x', 'y', NULL])[1 + trunc(random() * 1.5 + random() * 1.5)::int], random() < 0.12, '/' || trunc(random() * 4)::int,
		trunc(random() * 1e15)::numeric
	FROM (
		SELECT 'v' || c AS visitor, nr, base, CASE
			WHEN nr = 1 THEN interval '0'
			ELSE (ARRAY[0, 0.001, 1, 20, 59.999, 60, 60, 60.001, 61, 150])[1 + trunc(random() * 10)::int]
				* interval '1 second' END AS distance
		FROM (
			SELECT c, 1 + trunc(random() * random() * 24)::int AS events, CASE
				WHEN shared THEN '2024-06-01 00:00+00'::timestamptz + trunc(random() * 7200 * cases / 10000) * interval '1 second'
				WHEN random() < 0.5 THEN '2024-03-23 00:00+00'::timestamptz + trunc(random() * 15 * 86400) * interval '1 second'
				ELSE (date '2024-03-24' + trunc(random() * 14)::int)::timestamp
					AT TIME ZONE (ARRAY['Europe/Vienna', 'Asia/Beirut', 'America/Asuncion'])[1 + trunc(random() * 3)::int]
					- trunc(random() * 300) * interval '1 second' END AS base
			FROM generate_series(1, cases) c) AS b,
		generate_series(1, events) AS nr) AS e;
END
$$;
-- Messages in the order of event time and a lag: up to 3 s, and of a share of the events up to so many seconds, half of
-- them about as many as it takes the watermark of a delay of 5 s to reach the end of a session.
CREATE PROCEDURE produce(stream text, share double precision, lag double precision, partitions int) LANGUAGE plpgsql AS $$
DECLARE
	e record;
BEGIN
	FOR e IN SELECT * FROM (SELECT *, event_time + CASE WHEN random() > share THEN 3 * random() WHEN random() < 0.5 THEN 64.5 + random() ELSE lag * random() END
			* interval '1 second' AS sent FROM cases.event) s ORDER BY sent, i LOOP
		PERFORM clickstream.produce(stream, jsonb_build_object('user_id', e.visitor, 'event_time', e.event_time, 'utm_source', e.channel,
			'event_type', CASE WHEN e.ends THEN 'end' END, 'page_url', e.page, 'weight', e.weight, 'i', e.i)::text,
			partition => trunc(random() * partitions)::int, message_timestamp => e.event_time);
	END LOOP;
END
$$;

-- ---- definitions, and the same in plain SQL

CREATE TABLE definition (name text PRIMARY KEY, max_length interval, split boolean, ends boolean, zone text, lateness interval);
INSERT INTO definition VALUES
	('plain', NULL, false, false, NULL, '0'),
	('changes', NULL, false, false, NULL, '0'),
	('capped', '150 seconds', false, false, NULL, '0'),
	('split', NULL, true, false, NULL, '0'),
	('ends', '200 seconds', false, true, NULL, '0'),
	('vienna', NULL, false, false, 'Europe/Vienna', '0'),
	('beirut', '150 seconds', false, false, 'Asia/Beirut', '0'),
	('asuncion', '180 seconds', true, true, 'America/Asuncion', '0');
CREATE FUNCTION define(d definition, stream text, prefix text) RETURNS regclass LANGUAGE sql AS $$
	SELECT clickstream.create_session('cases.' || prefix || d.name, stream => stream, gap => '60 seconds', max_length => d.max_length,
		split_on => CASE WHEN d.split THEN 'utm_source' END, end_when => CASE WHEN d.ends THEN $c$event_type = 'end'$c$ END,
		split_at_midnight => d.zone IS NOT NULL, time_zone => d.zone, allowed_lateness => d.lateness,
		emit => CASE d.name WHEN 'changes' THEN 'changes' ELSE 'closed' END,
		measures => 'count(*) AS events, sum(weight) AS weight, count(DISTINCT page_url) AS pages, first(i) AS first_i, last(i) AS last_i')
$$;
-- Which events begin a session, and why the one before them ended there: by neighbours, where no length is capped ...
-- Where events came too late for the lag condition, the watermark may have closed a session in the last millisecond
-- before one at exactly its end: then that begins another.
CREATE TABLE logged (visitor text, place bigint, id text, event_time timestamptz, channel text, ends boolean, page text, weight numeric, i bigint,
	watermark timestamptz);
CREATE TABLE arrived (visitor text, message_offset bigint, event_time timestamptz, weight numeric, watermark timestamptz);
CREATE FUNCTION begins_by_neighbours(d definition) RETURNS TABLE (i bigint, cut text) LANGUAGE sql AS $$
	SELECT i, CASE
		WHEN event_time - lag(event_time) OVER v <= interval '60 seconds'
			AND (watermark - d.lateness < lag(event_time) OVER v + interval '59.999 seconds') IS NOT FALSE THEN CASE
			WHEN d.ends AND lag(ends) OVER v THEN 'end_when'
			WHEN d.zone IS NOT NULL AND (event_time AT TIME ZONE d.zone)::date <> (lag(event_time) OVER v AT TIME ZONE d.zone)::date THEN 'split'
			WHEN d.split AND channel IS DISTINCT FROM lag(channel) OVER v THEN 'split' END
		ELSE 'gap' END
	FROM cases.logged WINDOW v AS (PARTITION BY visitor ORDER BY place)
$$;
-- ... and one by one, where it is
CREATE FUNCTION begins_one_by_one(d definition) RETURNS TABLE (i bigint, cut text) LANGUAGE plpgsql AS $$
DECLARE
	e cases.logged;
	before cases.logged;
	start timestamptz;
BEGIN
	FOR e IN SELECT * FROM cases.logged l ORDER BY l.visitor, l.place LOOP
		cut := CASE
			WHEN before.visitor IS DISTINCT FROM e.visitor OR e.event_time - before.event_time > interval '60 seconds'
				OR e.watermark - d.lateness >= before.event_time + interval '59.999 seconds' THEN 'gap'
			WHEN d.ends AND before.ends THEN 'end_when'
			WHEN d.zone IS NOT NULL AND (e.event_time AT TIME ZONE d.zone)::date <> (before.event_time AT TIME ZONE d.zone)::date THEN 'split'
			WHEN e.event_time - start > d.max_length THEN 'max_length'
			WHEN d.split AND e.channel IS DISTINCT FROM before.channel THEN 'split' END;
		IF cut IS NOT NULL THEN
			start := e.event_time;
		END IF;
		i := e.i;
		before := e;
		RETURN NEXT;
	END LOOP;
END
$$;
CREATE TABLE cut (i bigint PRIMARY KEY, cut text);
CREATE VIEW recomputed AS
WITH numbered AS (
	SELECT l.*, c.cut, count(c.cut) OVER (PARTITION BY visitor ORDER BY place) AS nr FROM logged l JOIN cut c USING (i)
), sessions AS (
	SELECT visitor, nr, (array_agg(id ORDER BY place))[1] AS session_id, min(event_time) AS session_start,
		max(event_time) + interval '60 seconds' AS session_end, count(*) AS events, sum(weight) AS weight, count(DISTINCT page) AS pages,
		(array_agg(i ORDER BY place))[1] AS first_i, (array_agg(i ORDER BY place DESC))[1] AS last_i,
		(array_agg(cut ORDER BY place))[1] AS cut, (array_agg(ends ORDER BY place DESC))[1] AS ended
	FROM numbered GROUP BY visitor, nr
)
SELECT visitor, session_id, session_start, session_end, events, weight, pages, first_i, last_i, ended,
	coalesce(lead(cut) OVER (PARTITION BY visitor ORDER BY nr), 'gap') AS closed_reason
FROM sessions;
-- Rows that a table has and the recomputation has not, or the other way round; the number of visitors with any.
-- is_final false: rows are only to be there, closed in whatever way.
CREATE FUNCTION differences(d definition, t regclass, is_final boolean DEFAULT true) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	TRUNCATE cases.cut;
	IF d.max_length IS NULL THEN
		INSERT INTO cases.cut SELECT * FROM cases.begins_by_neighbours(d);
	ELSE
		INSERT INTO cases.cut SELECT * FROM cases.begins_one_by_one(d);
	END IF;
	EXECUTE format($q$
		WITH found AS (SELECT effective_user_id, session_id, session_start, session_end, events, weight, pages, first_i, last_i,
				CASE WHEN %3$L THEN is_final ELSE closed_reason IS NOT NULL END, CASE WHEN %3$L THEN replace(closed_reason, 'finish', 'gap') END FROM %1$s),
			must AS (SELECT visitor, session_id, session_start, session_end, events, weight, pages, first_i, last_i, true,
				CASE WHEN NOT %3$L THEN NULL WHEN %2$L AND ended THEN 'end_when' ELSE closed_reason END FROM cases.recomputed)
		SELECT count(DISTINCT d) FROM ((SELECT effective_user_id FROM (TABLE found EXCEPT ALL TABLE must) a)
			UNION ALL (SELECT visitor FROM (TABLE must EXCEPT ALL TABLE found) b)) AS d$q$, t, d.ends, is_final) INTO n;
	RETURN n;
END
$$;
-- The event log as the recomputation reads it, without what was late for a definition.
CREATE PROCEDURE read_log(log regclass, stream text, late_for regclass) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE cases.logged;
	EXECUTE format($q$INSERT INTO cases.logged SELECT user_id, row_number() OVER (ORDER BY l.event_time, topic, partition, message_offset),
		format('%%s/%%s/%%s', topic, partition, message_offset), l.event_time, utm_source, coalesce(event_type = 'end', false), page_url, l.weight, i, a.watermark
		FROM %s l LEFT JOIN cases.arrived a USING (message_offset) WHERE (topic, partition, message_offset) NOT IN (SELECT topic, partition, message_offset FROM clickstream.late_event
			WHERE stream = %L AND definition = %L::regclass)$q$, log, stream, late_for);
	ANALYZE cases.logged;
END
$$;

-- ---- Flink's rule: MergingWindowSet and WindowOperator with allowed lateness, one key after the other

CREATE PROCEDURE read_arrivals(log regclass) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE cases.arrived;
	EXECUTE format($q$INSERT INTO cases.arrived SELECT user_id, message_offset, event_time, weight, max(event_time)
		OVER (ORDER BY message_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - interval '5 seconds' FROM %s$q$, log);
	ANALYZE cases.arrived;
END
$$;
CREATE FUNCTION flink(lateness interval, OUT visitor text, OUT window_start timestamptz, OUT window_end timestamptz, OUT events bigint,
	OUT weight numeric, OUT dropped bigint) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	ms constant interval := interval '1 millisecond';
	e cases.arrived;
	starts timestamptz[] := '{}';
	ends timestamptz[] := '{}';
	counts bigint[] := '{}';
	sums numeric[] := '{}';
	watermark timestamptz;
BEGIN
	FOR e IN SELECT * FROM cases.arrived a UNION ALL SELECT NULL, NULL, NULL, NULL, 'infinity' ORDER BY 1, 2 LOOP
		-- windows whose clean-up time the watermark has passed; of another key: all
		watermark := CASE WHEN e.visitor IS DISTINCT FROM visitor THEN 'infinity' ELSE e.watermark END;
		FOR k IN REVERSE cardinality(starts) .. 1 LOOP
			CONTINUE WHEN ends[k] - ms + lateness > watermark IS NOT FALSE;
			window_start := starts[k]; window_end := ends[k]; events := counts[k]; weight := sums[k];
			RETURN NEXT;
			starts := starts[:k - 1] || starts[k + 1:]; ends := ends[:k - 1] || ends[k + 1:];
			counts := counts[:k - 1] || counts[k + 1:]; sums := sums[:k - 1] || sums[k + 1:];
		END LOOP;
		visitor := e.visitor;
		EXIT WHEN visitor IS NULL;
		-- a window of its own, and what it intersects
		window_start := e.event_time; window_end := e.event_time + interval '60 seconds'; events := 1; weight := e.weight;
		FOR k IN REVERSE cardinality(starts) .. 1 LOOP
			CONTINUE WHEN starts[k] > window_end OR ends[k] < window_start;
			window_start := least(window_start, starts[k]); window_end := greatest(window_end, ends[k]);
			events := events + counts[k]; weight := weight + sums[k];
			starts := starts[:k - 1] || starts[k + 1:]; ends := ends[:k - 1] || ends[k + 1:];
			counts := counts[:k - 1] || counts[k + 1:]; sums := sums[:k - 1] || sums[k + 1:];
		END LOOP;
		IF window_end - ms + lateness <= e.watermark THEN
			dropped := e.message_offset; window_start := NULL; window_end := NULL; events := NULL; weight := NULL;
			RETURN NEXT;
			dropped := NULL;
			CONTINUE;
		END IF;
		starts := starts || window_start; ends := ends || window_end; counts := counts || events; sums := sums || weight;
	END LOOP;
END
$$;
CREATE FUNCTION flink_differences(lateness interval, stream text, t regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format($q$
		WITH found AS (SELECT effective_user_id AS visitor, session_start, session_end, events, weight, NULL::bigint AS dropped FROM %s
				UNION ALL SELECT a.visitor, NULL, NULL, NULL, NULL, l.message_offset FROM clickstream.late_event l
					JOIN cases.arrived a USING (message_offset) WHERE l.stream = %L AND l.definition = %L::regclass),
			must AS (SELECT * FROM cases.flink(%L))
		SELECT count(DISTINCT d) FROM ((SELECT visitor FROM (TABLE found EXCEPT ALL TABLE must) a)
			UNION ALL (SELECT visitor FROM (TABLE must EXCEPT ALL TABLE found) b)) AS d$q$, t, stream, t, lateness) INTO n;
	RETURN n;
END
$$;

-- ---- within the lag condition: in any order of arrival, in any batches, over any partitions

\echo seed :seed
SELECT setseed(:seed / 1000000.0);
CALL make_events(:cases, false);
SELECT clickstream.create_stream('one', extra_columns => 'weight numeric, i bigint', watermark_delay => '90 seconds') > 0 AS made;
SELECT clickstream.create_event_log('one_log', stream => 'one');
SELECT count(define(d, 'one', 'one_')) AS made FROM definition d;
CALL produce('one', 1, 88, 4);
SET clickstream.batch_messages = 3000;
CALL clickstream.process('one');
CALL clickstream.finish('one');
RESET clickstream.batch_messages;
CALL read_log('one_log', 'one', NULL);
SELECT count(DISTINCT visitor) = :cases AS all_cases, count(*) > 5 * count(DISTINCT visitor) AS enough FROM logged;
SELECT late, dead, balanced FROM test.ledger WHERE stream = 'one';
SELECT name, differences(d, ('one_' || name)::regclass) FROM definition d ORDER BY name;
SELECT count(*) AS not_final FROM one_changes WHERE NOT is_final OR closed_reason IS NULL;
-- a fifth of the visitors again, in another order, other batches and partitions
DELETE FROM event WHERE visitor !~ '[05]$';
SELECT clickstream.create_stream('two', extra_columns => 'weight numeric, i bigint', watermark_delay => '200 seconds') > 0 AS made;
SELECT clickstream.create_event_log('two_log', stream => 'two');
SELECT count(define(d, 'two', 'two_')) AS made FROM definition d;
CALL produce('two', 0.5, 190, 3);
SET clickstream.batch_messages = 70;
CALL clickstream.process('two', 3000);
RESET clickstream.batch_messages;
CALL clickstream.finish('two');
CALL read_log('two_log', 'two', NULL);
SELECT late, dead, balanced FROM test.ledger WHERE stream = 'two';
SELECT name, differences(d, ('two_' || name)::regclass) FROM definition d ORDER BY name;
-- but for the ids, and where events of one time have an order, the two are the same
CREATE FUNCTION differences_between(name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	columns constant text := 'SELECT effective_user_id, session_start, session_end, events, weight, pages, replace(closed_reason, ''finish'', ''gap''), is_final FROM cases.';
	n bigint;
BEGIN
	EXECUTE format($q$WITH a AS (%sone_%s WHERE effective_user_id ~ '[05]$'), b AS (%stwo_%2$s)
		SELECT count(*) FROM ((TABLE a EXCEPT ALL TABLE b) UNION ALL (TABLE b EXCEPT ALL TABLE a)) AS d$q$, columns, name, columns) INTO n;
	RETURN n;
END
$$;
SELECT name, differences_between(name) FROM definition WHERE NOT split AND NOT ends ORDER BY name;
SELECT clickstream.drop_stream('one');
SELECT clickstream.drop_stream('two');

-- ---- late events: Flink's rule, and with allowed_lateness large enough what sorted input gives

CREATE TABLE late_definition (LIKE definition);
INSERT INTO late_definition VALUES
	('flink_0', NULL, false, false, NULL, '0'),
	('flink_30', NULL, false, false, NULL, '30 seconds'),
	('order_0', '170 seconds', true, false, NULL, '0'),
	('order_30', NULL, true, true, NULL, '30 seconds'),
	('plain', NULL, false, false, NULL, '1 day'),
	('changes', NULL, false, false, NULL, '1 day'),
	('capped', '150 seconds', false, false, NULL, '1 day'),
	('split', NULL, true, false, NULL, '1 day'),
	('ends', '200 seconds', false, true, NULL, '1 day'),
	('asuncion', '180 seconds', true, true, 'America/Asuncion', '1 day');
-- one definition's number of visitors that differ
CREATE FUNCTION late_differences(d late_definition, stream text, is_final boolean DEFAULT true) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	t constant regclass := 'cases.' || stream || '_' || d.name;
BEGIN
	IF d.name LIKE 'flink%' THEN
		RETURN cases.flink_differences(d.lateness, stream, t);
	END IF;
	CALL cases.read_log('cases.' || stream || '_log', stream, t);
	RETURN cases.differences(d::text::cases.definition, t, is_final);
END
$$;
CALL make_events(:cases / 2, true);
SELECT clickstream.create_stream('late', extra_columns => 'weight numeric, i bigint', watermark_delay => '5 seconds') > 0 AS made;
SELECT clickstream.create_event_log('late_log', stream => 'late');
SELECT count(define(d::text::definition, 'late', 'late_')) AS made FROM late_definition d;
CALL produce('late', 0.2, 200, 1);
SET clickstream.batch_messages = 500;
CALL clickstream.process('late');
CALL clickstream.finish('late');
RESET clickstream.batch_messages;
CALL read_arrivals('late_log');
SELECT used > 1000 AND late = 0 AS all_used, dead, balanced FROM test.ledger WHERE stream = 'late';
SELECT d.name, late_differences(d, 'late') FROM late_definition d ORDER BY d.name;
-- with in-order definitions those are late, and only those, whose time the line has reached
SELECT name, late > :cases / 100 AS enough, late = must AS same FROM (
	SELECT d.name, count(*) FILTER (WHERE a.event_time + d.lateness <= a.watermark) AS must,
		(SELECT count(*) FROM clickstream.late_event l WHERE l.definition = ('late_' || d.name)::regclass) AS late
	FROM late_definition d, arrived a WHERE d.name ~ '^order' GROUP BY 1) AS c ORDER BY 1;
SELECT count(*) FILTER (WHERE revision > 0) > :cases / 100 AS revised, count(*) FILTER (WHERE NOT is_final) AS not_final FROM late_plain;
SELECT clickstream.drop_stream('late');

-- ---- pauses: a silent topic shows everything as if it were over; that changes nothing of what comes later

CALL make_events(:cases / 20, true);
SELECT clickstream.create_stream('quiet', extra_columns => 'weight numeric, i bigint', watermark_delay => '5 seconds') > 0 AS made;
SELECT clickstream.create_event_log('quiet_log', stream => 'quiet');
SELECT count(define(d::text::definition, 'quiet', 'quiet_')) AS made FROM late_definition d;
CREATE TABLE quiet_event AS SELECT * FROM event;
CREATE TABLE seen (pause int, name text, differences bigint, idle bigint);
-- a tenth of the events, in the order of event time and a lag; then silence, by the clock
CREATE PROCEDURE pause(nr int) LANGUAGE plpgsql AS $$
DECLARE
	d cases.late_definition;
	n bigint;
BEGIN
	DELETE FROM cases.event;
	INSERT INTO cases.event SELECT i, visitor, event_time, channel, ends, page, weight FROM cases.quiet_event WHERE part = nr;
	CALL cases.produce('quiet', 0.2, 30, 1);
	PERFORM set_config('clickstream.mock_clock', '2024-06-01 00:00:00+00', false);
	CALL clickstream.process('quiet');
	PERFORM set_config('clickstream.mock_clock', '2024-06-01 12:00:00+00', false);
	CALL clickstream.process('quiet');
	CALL cases.read_arrivals('cases.quiet_log');
	FOR d IN SELECT * FROM cases.late_definition WHERE name !~ '^flink' LOOP
		EXECUTE format('SELECT count(*) FILTER (WHERE closed_reason = %L) FROM cases.quiet_%I', 'idle', d.name) INTO n;
		INSERT INTO cases.seen VALUES (nr, d.name, cases.late_differences(d, 'quiet', false), n);
	END LOOP;
END
$$;
ALTER TABLE quiet_event ADD part int;
UPDATE quiet_event e SET part = r.part FROM (SELECT i, ntile(10) OVER (ORDER BY event_time + random() * interval '100 seconds', i) AS part FROM quiet_event) r
WHERE r.i = e.i;
CALL pause(1); CALL pause(2); CALL pause(3); CALL pause(4); CALL pause(5); CALL pause(6); CALL pause(7); CALL pause(8); CALL pause(9); CALL pause(10);
SELECT name, sum(differences) AS differences, bool_and(idle > 0) AS idle_shown FROM seen GROUP BY 1 ORDER BY 1;
CALL clickstream.finish('quiet');
RESET clickstream.mock_clock;
CALL read_arrivals('quiet_log');
SELECT d.name, late_differences(d, 'quiet') FROM late_definition d ORDER BY d.name;
SELECT clickstream.drop_stream('quiet');

-- ---- and each of these mistakes is noticed

CALL make_events(500, true);
SELECT clickstream.create_stream('wrong', extra_columns => 'weight numeric, i bigint', watermark_delay => '5 seconds') > 0 AS made;
SELECT clickstream.create_event_log('wrong_log', stream => 'wrong');
SELECT count(define(d::text::definition, 'wrong', 'wrong_')) AS made FROM late_definition d WHERE name IN ('flink_0', 'flink_30', 'plain', 'split', 'ends');
CALL produce('wrong', 0.2, 200, 1);
CREATE TABLE noticed (mutant text, by text, differences bigint);
\set ECHO none
SELECT clickstream.reset('wrong') \g /dev/null
SET clickstream.mutant = '';
CALL clickstream.process('wrong');
CALL clickstream.finish('wrong');
RESET clickstream.mutant;
CALL read_arrivals('wrong_log');
INSERT INTO noticed SELECT '', d.name, late_differences(d, 'wrong') FROM late_definition d WHERE to_regclass('wrong_' || d.name) IS NOT NULL;
SELECT clickstream.reset('wrong') \g /dev/null
SET clickstream.mutant = 'gap_exclusive';
CALL clickstream.process('wrong');
CALL clickstream.finish('wrong');
RESET clickstream.mutant;
CALL read_arrivals('wrong_log');
INSERT INTO noticed SELECT 'gap_exclusive', d.name, late_differences(d, 'wrong') FROM late_definition d WHERE to_regclass('wrong_' || d.name) IS NOT NULL;
SELECT clickstream.reset('wrong') \g /dev/null
SET clickstream.mutant = 'end_not_last_ms';
CALL clickstream.process('wrong');
CALL clickstream.finish('wrong');
RESET clickstream.mutant;
CALL read_arrivals('wrong_log');
INSERT INTO noticed SELECT 'end_not_last_ms', d.name, late_differences(d, 'wrong') FROM late_definition d WHERE to_regclass('wrong_' || d.name) IS NOT NULL;
SELECT clickstream.reset('wrong') \g /dev/null
SET clickstream.mutant = 'late_by_event';
CALL clickstream.process('wrong');
CALL clickstream.finish('wrong');
RESET clickstream.mutant;
CALL read_arrivals('wrong_log');
INSERT INTO noticed SELECT 'late_by_event', d.name, late_differences(d, 'wrong') FROM late_definition d WHERE to_regclass('wrong_' || d.name) IS NOT NULL;
SELECT clickstream.reset('wrong') \g /dev/null
SET clickstream.mutant = 'unsorted_apply';
CALL clickstream.process('wrong');
CALL clickstream.finish('wrong');
RESET clickstream.mutant;
CALL read_arrivals('wrong_log');
INSERT INTO noticed SELECT 'unsorted_apply', d.name, late_differences(d, 'wrong') FROM late_definition d WHERE to_regclass('wrong_' || d.name) IS NOT NULL;
SELECT clickstream.reset('wrong') \g /dev/null
SET clickstream.mutant = 'lose_entry';
CALL clickstream.process('wrong');
CALL clickstream.finish('wrong');
RESET clickstream.mutant;
CALL read_arrivals('wrong_log');
INSERT INTO noticed SELECT 'lose_entry', d.name, late_differences(d, 'wrong') FROM late_definition d WHERE to_regclass('wrong_' || d.name) IS NOT NULL;
\set ECHO all
SELECT mutant, bool_or(differences > 0) AS noticed FROM noticed GROUP BY 1 ORDER BY 1;
SELECT clickstream.drop_stream('wrong');
DROP SCHEMA cases CASCADE;
