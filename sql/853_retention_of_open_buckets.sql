-- Retention and buckets in which there is nothing yet: something open starts there, may yet start, or they are yet to be filled.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t853;
SET search_path = t853;
CREATE FUNCTION every(who text, first int, last int, step int) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s /a', who, make_interval(mins => m)), E'\n' ORDER BY m) FROM generate_series(first, last, step) AS m $$;
CREATE FUNCTION run(stream text, VARIADIC lines text[]) RETURNS void LANGUAGE sql AS $$
	SELECT test.feed(stream, l) FROM unnest(lines) AS l $$;
-- An open session alone in its bucket, while the rollup's own rows go, too: it counts when it closes.
SELECT clickstream.create_stream('s853a', watermark_delay => '0 s', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_session('visits_a', stream => 's853a', gap => '10 minutes', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('hours_a', source => 'visits_a', size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events');
SELECT clickstream.set_retention('visits_a', '2 hours'), clickstream.set_retention('hours_a', '2 hours');
SELECT run('s853a', 'a 0:00 /a', every('b', 76, 360, 8));
CALL clickstream.process('s853a');
SELECT clickstream.trim_rows('hours_a') AS hours, clickstream.trim_rows('visits_a') AS visits;
SELECT run('s853a', '- 8:00 -');
CALL clickstream.process('s853a');
SELECT test.at(window_start) AS start, visits, events, is_final FROM hours_a ORDER BY 1;
-- An open session's start has moved into a bucket that was final, and before that of another: the bucket's rows stay until it has closed.
SELECT clickstream.create_stream('s853b', watermark_delay => '0 s', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_session('visits_b', stream => 's853b', gap => '10 minutes', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('hours_b', source => 'visits_b', size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events');
SELECT clickstream.set_retention('visits_b', '2 hours');
SELECT run('s853b', E'a 0:00 /a\ne 1:03 /a\nd 1:05 /a');
CALL clickstream.process('s853b');
SELECT test.at(window_start) AS start, visits, events, is_final FROM hours_b ORDER BY 1;
SELECT run('s853b', 'd 0:57 /a');
CALL clickstream.process('s853b');
SELECT run('s853b', regexp_replace(every('d', 70, 300, 8), 'd( \S+ /a)', E'd\\1\ne\\1', 'g'));
CALL clickstream.process('s853b');
SELECT clickstream.trim_rows('visits_b') AS visits;
SELECT run('s853b', '- 8:00 -');
CALL clickstream.process('s853b');
SELECT test.at(window_start) AS start, visits, events, is_final FROM hours_b ORDER BY 1;
SELECT clickstream.trim_rows('visits_b') AS visits;
-- The same of a funnel's open attempt.
SELECT clickstream.create_stream('s853c', watermark_delay => '0 s', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_funnel('ab', stream => 's853c', within => '5 hours', steps => ARRAY[
	clickstream.step('a', $$page_url = '/a'$$), clickstream.step('b', $$page_url = '/b'$$)]);
SELECT clickstream.create_rollup('hours_c', source => 'ab', size => '1 hour', measures => 'count(*) AS attempts');
SELECT clickstream.set_retention('ab', '1 hour'), clickstream.set_retention('hours_c', '1 hour');
SELECT run('s853c', E'u 0:00 /a\nu 0:01 /b\nv 1:10 /a\n- 4:00 -');
CALL clickstream.process('s853c');
SELECT clickstream.trim_rows('hours_c') AS hours, clickstream.trim_rows('ab') AS attempts;
SELECT run('s853c', '- 8:00 -');
CALL clickstream.process('s853c');
SELECT test.at(window_start) AS start, attempts, is_final FROM hours_c ORDER BY 1;
-- Rows are to be kept for less than events may be late: such an event finds all of its bucket.
SELECT clickstream.create_stream('s853d', watermark_delay => '0 s', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_session('visits_d', stream => 's853d', gap => '10 minutes', allowed_lateness => '3 hours', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('hours_d', source => 'visits_d', size => '1 hour', measures => 'count(*) AS visits');
SELECT clickstream.set_retention('visits_d', '1 hour');
SELECT run('s853d', E'u 0:00 /a\n- 3:20 -');
CALL clickstream.process('s853d');
SELECT clickstream.trim_rows('visits_d') AS visits;
SELECT run('s853d', E'w 0:50 /a\n- 9:00 -');
CALL clickstream.process('s853d');
SELECT test.at(window_start) AS start, visits, is_final FROM hours_d ORDER BY 1;
-- They are to go at once: what is not late may still start a gap before the watermark, in the bucket before it.
SELECT clickstream.create_stream('s853f', watermark_delay => '0 s', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_session('visits_f', stream => 's853f', gap => '10 minutes', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('hours_f', source => 'visits_f', size => '1 hour', measures => 'count(*) AS visits');
SELECT clickstream.set_retention('visits_f', '1 minute');
SELECT run('s853f', E'u 0:00 /a\n- 1:05 -');
CALL clickstream.process('s853f');
SELECT clickstream.trim_rows('visits_f') AS visits;
SELECT run('s853f', E'w 0:58 /a\n- 9:00 -');
CALL clickstream.process('s853f');
SELECT test.at(window_start) AS start, visits, is_final FROM hours_f ORDER BY 1;
SELECT clickstream.trim_rows('visits_f') AS visits;
-- A rollup that is yet to be filled: rows go when it has them.
SELECT clickstream.create_stream('s853e', watermark_delay => '0 s', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_session('visits_e', stream => 's853e', gap => '10 minutes', measures => 'count(*) AS events');
SELECT run('s853e', (SELECT string_agg(format('v%s %s /a', m, make_interval(mins => m)), E'\n' ORDER BY m) FROM generate_series(0, 290, 20) AS m));
CALL clickstream.process('s853e');
SELECT clickstream.create_rollup('hours_e', source => 'visits_e', size => '1 hour', measures => 'count(*) AS visits', backfill => true);
SELECT clickstream.set_retention('visits_e', '2 hours');
SELECT clickstream.trim_rows('visits_e', 1) AS visits;
SELECT run('s853e', '- 5:00 -');
CALL clickstream.process('s853e');
SELECT test.at(window_start) AS start, visits, is_final FROM hours_e ORDER BY 1;
SELECT clickstream.trim_rows('visits_e') AS visits;
SELECT stream, cause, error FROM clickstream.dead_letter WHERE stream LIKE 's853_';
SELECT clickstream.drop_stream('s853' || s) FROM unnest('{a,b,c,d,e,f}'::text[]) AS s;
DROP SCHEMA t853 CASCADE;
