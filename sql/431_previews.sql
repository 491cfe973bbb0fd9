-- What a silent topic shows is shown in parts where it is much: the rows are
-- those of one large transaction, closed as they should be when the topic speaks
-- again, whatever part the process had come to.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t431;
SET search_path = t431;
CREATE TABLE result (run text, name text, moment text, content text);
CREATE PROCEDURE keep(run text, moment text) LANGUAGE plpgsql AS $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{visits,tumbling,hopping,cumulative,revised}'::text[] LOOP
		EXECUTE format('INSERT INTO result SELECT %L, %L, %L, string_agg(to_jsonb(t)::text, E''\n'' ORDER BY to_jsonb(t)::text COLLATE "C") FROM t431.%I AS t',
			run, name, moment, name);
	END LOOP;
END
$$;
-- to where the topic falls silent
CREATE PROCEDURE fall_silent(at_once int) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('clickstream.mock_clock', '2024-06-01 12:00+00', false), set_config('clickstream.force_closings', at_once::text, false);
	PERFORM clickstream.create_stream('s431', watermark_delay => '10 seconds', idle_timeout => '1 minute', max_future => NULL);
	PERFORM clickstream.create_session('t431.visits', stream => 's431', gap => '5 minutes', emit => 'closed');
	PERFORM clickstream.create_window('t431.tumbling', stream => 's431', size => '20 minutes', group_by => 'user_id', measures => 'count(*) AS n', emit => 'closed');
	PERFORM clickstream.create_window('t431.hopping', stream => 's431', size => '40 minutes', slide => '20 minutes', group_by => 'user_id', measures => 'count(*) AS n',
		emit => 'closed');
	PERFORM clickstream.create_window('t431.cumulative', stream => 's431', size => '1 hour', step => '20 minutes', group_by => 'user_id', measures => 'count(*) AS n',
		emit => 'closed');
	PERFORM clickstream.create_window('t431.revised', stream => 's431', size => '20 minutes', group_by => 'user_id', measures => 'count(*) AS n',
		emit => 'closed', allowed_lateness => '1 hour');
	PERFORM clickstream.produce('s431', format('{"user_id": "u%s", "event_time": "2024-06-01T11:%s:%sZ"}', i % 60, lpad((i / 5)::text, 2, '0'), lpad((i % 5 * 12)::text, 2, '0')))
	FROM generate_series(0, 299) AS i;
	COMMIT;
	CALL clickstream.process('s431');
	PERFORM set_config('clickstream.mock_clock', '2024-06-01 12:30+00', false);
END
$$;
CREATE PROCEDURE speak_again(run text) LANGUAGE plpgsql AS $$
BEGIN
	-- it speaks: what has been shown is open again, and goes on
	PERFORM clickstream.produce('s431', format('{"user_id": "u%s", "event_time": "2024-06-01T11:59:59Z"}', i)) FROM generate_series(50, 59) AS i;
	COMMIT;
	CALL clickstream.process('s431');
	PERFORM set_config('clickstream.mock_clock', '2024-06-01 13:00+00', false);
	CALL clickstream.process('s431');
	CALL keep(run, 'shown again');
	PERFORM clickstream.produce('s431', '{"user_id": "u1", "event_time": "2024-06-01T12:25:00Z"}');
	CALL clickstream.process('s431');
	CALL keep(run, 'closed');
	CALL clickstream.finish('s431');
	CALL keep(run, 'final');
	PERFORM clickstream.drop_stream('s431');
END
$$;
CREATE PROCEDURE run(run text, at_once int) LANGUAGE plpgsql AS $$
BEGIN
	CALL fall_silent(at_once);
	CALL clickstream.process('s431');
	CALL keep(run, 'shown');
	CALL speak_again(run);
END
$$;
CALL run('whole', 0);
SELECT name, moment, array_length(string_to_array(content, E'\n'), 1) AS lines FROM result ORDER BY 1, 2;
CALL run('in parts', 7);
CALL run('one by one', 1);
-- A process that ends in the middle of a window: another one goes on, or the topic speaks before one has.
CREATE FUNCTION end_here() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.user_id = 'u30' THEN
		RAISE 'ended at %', NEW.user_id;
	END IF;
	RETURN NEW;
END
$$;
\set VERBOSITY terse
CALL fall_silent(7);
CREATE TRIGGER end_here BEFORE INSERT ON hopping FOR EACH ROW EXECUTE FUNCTION end_here();
CALL clickstream.process('s431');
SELECT count(*) > 0 AND count(*) < 240 AS some_are_shown, count(*) % 60 <> 0 AS in_the_middle_of_a_window FROM hopping;
DROP TRIGGER end_here ON hopping;
CALL clickstream.process('s431');
CALL keep('gone on', 'shown');
CALL speak_again('gone on');
CALL fall_silent(7);
CREATE TRIGGER end_here BEFORE INSERT ON hopping FOR EACH ROW EXECUTE FUNCTION end_here();
CALL clickstream.process('s431');
SELECT count(*) > 0 AND count(*) < 240 AS some_are_shown, count(*) % 60 <> 0 AS in_the_middle_of_a_window FROM hopping;
DROP TRIGGER end_here ON hopping;
CALL speak_again('spoken midway');
SELECT r.run, r.name, r.moment FROM result AS r JOIN result AS w USING (name, moment) WHERE w.run = 'whole' AND r.content IS DISTINCT FROM w.content ORDER BY 1, 2, 3;
SELECT run, count(*) FROM result GROUP BY 1 ORDER BY 1;
RESET clickstream.force_closings;
RESET clickstream.mock_clock;
DROP SCHEMA t431 CASCADE;
