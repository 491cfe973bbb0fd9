-- Entries of the state that cannot be read: the stream stops, with the entry
-- named; they can be seen, and given up, and the stream goes on.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t422;
SET search_path = t422;
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
SELECT clickstream.create_stream('s422', idle_timeout => '1 day', dedupe_by => 'message_offset::text') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's422', gap => '1 minute', measures => 'count(*) AS event_count, count(DISTINCT page_url) AS pages');
SELECT clickstream.create_session('by_day', stream => 's422', gap => '1 day', key => 'event_time::date', measures => 'count(*) AS event_count', emit => 'changes');
SELECT clickstream.create_window('views', stream => 's422', size => '1 hour', group_by => 'page_url', measures => 'count(*) AS n, avg(1.5) AS a', emit_interval => '0');
SELECT clickstream.create_window('rolling', stream => 's422', size => '1 hour', slide => '30 minutes', group_by => 'page_url', measures => 'count(*) AS n', emit => 'changes', emit_interval => '0');
SELECT clickstream.create_rollup('per_hour', source => 'visits', size => '1 hour', measures => 'count(*) AS n', emit_interval => '0');
SELECT clickstream.create_funnel('buy', stream => 's422', within => '1 hour', steps => ARRAY[
	clickstream.step('a', 'page_url = ''/a'''), clickstream.step('b', 'page_url = ''/b''')]);
SELECT test.feed('s422', E'ann 0:00 /a\nbob 0:01 /b');
CALL clickstream.process('s422');
SELECT * FROM clickstream.damaged_state('s422');
SELECT * FROM clickstream.discard_damaged_state('s422');
-- what comes now is stored so that it cannot be read
SET clickstream.mutant = 'damage_entry';
SELECT test.feed('s422', E'cid 0:05 /c\ncid 0:05 /a');
CALL clickstream.process('s422');
RESET clickstream.mutant;
-- everybody who reads it says which it is
CALL clickstream.process('s422');
\set VERBOSITY verbose
\set SHOW_CONTEXT never
SELECT * FROM clickstream.open_sessions('visits');
\set VERBOSITY default
SELECT * FROM clickstream.open_windows('views');
SELECT * FROM clickstream.open_funnels('buy');
SELECT * FROM clickstream.open_sessions('by_day');
-- the worker stops and says so
SELECT clickstream.start('s422');
CALL poll($$state = 'failed' FROM clickstream.stat_stream WHERE stream = 's422'$$);
SELECT state, last_error, last_error_sqlstate, last_hint FROM clickstream.stat_stream WHERE stream = 's422';
-- what it is, and what it costs; asking changes nothing
SELECT definition, state_key, test.at(window_start) AS start, bytes > 0 AS has_bytes, problem, loss FROM clickstream.damaged_state('s422') ORDER BY definition::text, 2, 3;
CREATE ROLE stranger422;
SET ROLE stranger422;
SELECT * FROM clickstream.damaged_state('s422');
SELECT * FROM clickstream.discard_damaged_state('s422');
RESET ROLE;
GRANT clickstream_admin TO stranger422;
SET ROLE stranger422;
SELECT * FROM clickstream.discard_damaged_state('s422');
RESET ROLE;
DROP ROLE stranger422;
SELECT count(*) FROM clickstream.discard_damaged_state('s422');
SELECT count(*) FROM clickstream.damaged_state('s422');
-- what could be read is there yet
SELECT visitor, event_count FROM clickstream.open_sessions('visits') ORDER BY 1;
SELECT groups, measures FROM clickstream.open_windows('views') ORDER BY 1;
SELECT page_url, n, is_final FROM views ORDER BY 1;
SELECT visitor, step FROM clickstream.open_funnels('buy') ORDER BY 1;
-- and the stream goes on, also with the keys that were given up
SELECT clickstream.start('s422');
SELECT test.feed('s422', E'cid 0:06 /c\ncid 0:07 /a\nann 2:00 /a');
CALL poll($$state = 'running' AND lag = 0 FROM clickstream.stat_stream WHERE stream = 's422'$$);
SELECT clickstream.stop('s422');
CALL poll($$state = 'stopped' FROM clickstream.stat_stream WHERE stream = 's422'$$);
CALL clickstream.process('s422');
SELECT effective_user_id, event_count FROM visits ORDER BY session_start, 1;
SELECT page_url, n, is_final FROM views ORDER BY window_start, 1;
SELECT test.at(window_start) AS start, page_url, n, is_final FROM rolling ORDER BY window_start, 2;
SELECT n, is_final FROM per_hour ORDER BY window_start;
SELECT * FROM clickstream.audit('s422');
SELECT clickstream.drop_stream('s422');
