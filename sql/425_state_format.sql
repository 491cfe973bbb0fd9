-- State that another version of the library has written: nobody reads it, the
-- stream says why it does not run, and nothing of it is changed.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t425;
SET search_path = t425;
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
SELECT clickstream.create_stream('s425') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's425', gap => '1 minute', measures => 'count(*) AS event_count');
SELECT clickstream.create_window('views', stream => 's425', size => '1 hour', measures => 'count(*) AS n', emit => 'closed');
SELECT test.feed('s425', E'ann 0:00 /a\nbob 0:01 /b');
CALL clickstream.process('s425');
-- a newer version has run since
UPDATE clickstream.progress SET state_format = state_format + 1 WHERE stream_id = (SELECT stream_id FROM clickstream.stream WHERE name = 's425');
SELECT test.feed('s425', E'ann 0:00 /c');
CALL clickstream.process('s425');
SELECT * FROM clickstream.open_sessions('visits');
SELECT * FROM visits_live;
SELECT * FROM clickstream.open_windows('views');
SELECT * FROM clickstream.damaged_state('s425');
SELECT clickstream.start('s425');
CALL poll($$state = 'failed' FROM clickstream.stat_stream WHERE stream = 's425'$$);
SELECT state, last_error, last_error_sqlstate, last_hint FROM clickstream.stat_stream WHERE stream = 's425';
SELECT clickstream.stop('s425');
CALL poll($$state = 'stopped' FROM clickstream.stat_stream WHERE stream = 's425'$$);
-- it is installed again
UPDATE clickstream.progress SET state_format = state_format - 1 WHERE stream_id = (SELECT stream_id FROM clickstream.stream WHERE name = 's425');
CALL clickstream.process('s425');
SELECT visitor, event_count FROM clickstream.open_sessions('visits') ORDER BY 1;
-- an older one, and nobody has it any more
UPDATE clickstream.progress SET state_format = 0 WHERE stream_id = (SELECT stream_id FROM clickstream.stream WHERE name = 's425');
CALL clickstream.process('s425');
SELECT clickstream.reset('s425');
CALL clickstream.process('s425');
SELECT visitor, event_count FROM clickstream.open_sessions('visits') ORDER BY 1;
SELECT balanced, used FROM clickstream.audit('s425');
SELECT clickstream.drop_stream('s425');
DROP SCHEMA t425 CASCADE;
