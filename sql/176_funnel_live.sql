-- Rows of open attempts while a worker runs: emit_interval, a restart, and a
-- topic that falls silent, by the real clock.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA t176;
SET search_path = t176;
CREATE PROCEDURE poll(condition text) LANGUAGE plpgsql AS $$
DECLARE
	done boolean;
BEGIN
	FOR i IN 1 .. 6000 LOOP
		EXECUTE 'SELECT ' || condition INTO done;
		COMMIT;
		EXIT WHEN done;
		PERFORM pg_sleep(0.05);
	END LOOP;
	RAISE INFO '%: %', condition, done;
END
$$;
CREATE FUNCTION abc() RETURNS clickstream.step[] LANGUAGE sql AS $$
	SELECT ARRAY[clickstream.step('a', 'page_url = ''a'''), clickstream.step('b', 'page_url = ''b'''), clickstream.step('c', 'page_url = ''c''')] $$;
-- The first rewrite comes at once, the next not before emit_interval has passed; new rows and ends do not wait for it.
SELECT clickstream.create_stream('s176', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_funnel('f', stream => 's176', within => '30 minutes', emit => 'changes', emit_interval => '1 day', steps => abc());
SELECT clickstream.start('s176');
SELECT test.feed('s176', 'u 0:00 a');
CALL poll($$count(*) = 1 FROM t176.f$$);
SELECT test.feed('s176', E'u 0:01 b\nv 0:01:01 a\nw 0:01:02 a');
CALL poll($$count(*) = 3 AND count(*) FILTER (WHERE level = 2) = 1 FROM t176.f$$);
SELECT test.feed('s176', E'v 0:02 b\nw 0:02:01 b\nw 0:03 c\nx 0:03:01 a');
CALL clickstream.wait_for('s176', '5 minutes');
SELECT effective_user_id AS who, level, closed_reason, is_final, revision FROM f ORDER BY 1;
SELECT clickstream.alter_funnel('f', emit_interval => '0');
CALL poll($$count(*) = 2 FROM t176.f WHERE level = 2$$);
-- the worker's own end between two events: what was shown is still known
SELECT clickstream.stop('s176');
CALL poll($$state = 'stopped' FROM clickstream.stat_stream WHERE stream = 's176'$$);
SELECT test.feed('s176', E'u 0:04 c\nv 0:05 x\nx 0:34 b');
SELECT clickstream.start('s176');
CALL clickstream.wait_for('s176', '5 minutes');
SELECT effective_user_id AS who, level, closed_reason, is_final, revision FROM f ORDER BY 1, started_at;
SELECT clickstream.drop_stream('s176');

-- A silent topic: an attempt that waits for the watermark, and its end, as the clock moves on.
SELECT clickstream.create_stream('s176', watermark_delay => '1 second', idle_timeout => '50 milliseconds') > 0 AS made;
SELECT clickstream.create_funnel('f', stream => 's176', within => '500 milliseconds', steps => abc());
SELECT clickstream.produce('s176', jsonb_build_object('user_id', 'u', 'page_url', p, 'event_time', statement_timestamp() - d * interval '1 second')::text)
FROM (VALUES ('a', 0.2), ('b', 0.1)) AS e(p, d);
SELECT clickstream.start('s176');
CALL poll($$count(*) = 1 FROM t176.f WHERE level = 2 AND closed_reason = 'idle' AND NOT is_final$$);
-- the next event of anybody closes it for good
SELECT clickstream.produce('s176', jsonb_build_object('event_time', clock_timestamp() + interval '10 seconds')::text);
CALL poll($$count(*) = 1 FROM t176.f WHERE level = 2 AND closed_reason = 'expired' AND is_final AND revision = 0$$);
SELECT clickstream.drop_stream('s176');
DROP SCHEMA t176 CASCADE;
