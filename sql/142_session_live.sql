-- Rows of open sessions while a worker runs: emit_interval, and a topic that
-- falls silent, by the real clock.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA t142;
SET search_path = t142;
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
-- The first rewrite comes at once, the next not before emit_interval has passed; new rows do not wait for it.
SELECT clickstream.create_stream('s142') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's142', gap => '30 minutes', emit => 'changes', emit_interval => '1 day', measures => 'count(*) AS events');
SELECT clickstream.start('s142');
SELECT test.feed('s142', 'a 0:00 /1');
CALL poll($$count(*) = 1 FROM t142.visits$$);
SELECT test.feed('s142', 'a 0:01 /2');
CALL poll($$events = 2 FROM t142.visits$$);
SELECT test.feed('s142', E'a 0:02 /3\nb 0:02 /1');
CALL clickstream.wait_for('s142', '5 minutes');
SELECT effective_user_id, events, closed_reason, is_final, revision FROM visits ORDER BY 1;
SELECT clickstream.alter_session('visits', emit_interval => '0');
CALL poll($$events = 3 FROM t142.visits WHERE effective_user_id = 'a'$$);
SELECT test.feed('s142', 'a 0:03 /4');
CALL poll($$events = 4 FROM t142.visits WHERE effective_user_id = 'a'$$);
SELECT test.feed('s142', 'a 0:04 /5');
CALL poll($$events = 5 FROM t142.visits WHERE effective_user_id = 'a'$$);
-- the server's own end between two events: what was shown is still known
SELECT clickstream.stop('s142');
CALL poll($$state = 'stopped' FROM clickstream.stat_stream WHERE stream = 's142'$$);
SELECT test.feed('s142', E'a -0:01 /0\nb 0:32:00.001 /2');
SELECT clickstream.start('s142');
CALL clickstream.wait_for('s142', '5 minutes');
CALL poll($$count(*) = 3 FROM t142.visits$$);
SELECT session_id, effective_user_id, events, closed_reason, is_final, revision FROM visits ORDER BY session_id;
SELECT clickstream.drop_stream('s142');

-- A silent topic: two sessions of one visitor show one after the other, as the clock moves on.
SELECT clickstream.create_stream('s142', watermark_delay => '2 seconds', idle_timeout => '50 milliseconds') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's142', gap => '500 milliseconds', measures => 'count(*) AS events');
SELECT clickstream.produce('s142', jsonb_build_object('user_id', 'a', 'event_time', statement_timestamp() - d * interval '1 second')::text)
FROM unnest(ARRAY[1, 0.2]) AS d;
SELECT clickstream.start('s142');
CALL poll($$count(*) = 2 FROM t142.visits WHERE closed_reason = 'idle' AND NOT is_final$$);
SELECT count(*) AS open FROM clickstream.open_sessions('visits');
-- the next event of anybody closes them for good
SELECT clickstream.produce('s142', jsonb_build_object('event_time', clock_timestamp() + interval '10 seconds')::text);
CALL poll($$count(*) = 2 FROM t142.visits WHERE closed_reason = 'gap' AND is_final AND revision = 0$$);
SELECT clickstream.drop_stream('s142');
DROP SCHEMA t142 CASCADE;
