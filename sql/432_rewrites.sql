-- Rows that lag behind are written again in parts where they are many: in the end
-- those of one large transaction, and each part is about as large as it should be.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t432;
SET search_path = t432;
CREATE TABLE result (run text, name text, moment text, content text);
CREATE PROCEDURE keep(run text, moment text) LANGUAGE plpgsql AS $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{visits,tumbling,hopping,cumulative,limited,buys,per_hour}'::text[] LOOP
		EXECUTE format('INSERT INTO result SELECT %L, %L, %L, string_agg(line, E''\n'' ORDER BY line COLLATE "C")
			FROM (SELECT (to_jsonb(t) - ''{session_id,funnel_id}''::text[])::text AS line FROM t432.%I AS t) AS l', run, name, moment, name);
	END LOOP;
END
$$;
CREATE PROCEDURE say(round int) LANGUAGE sql AS $$
SELECT count(clickstream.produce('s432', format('{"user_id": "u%s", "event_type": "%s", "amount": %s, "event_time": "2024-06-01T11:%s:%sZ"}',
	i % 60, CASE i % 2 WHEN 0 THEN 'look' ELSE 'pay' END, i + round, lpad((i / 5)::text, 2, '0'), lpad((i % 5 * 12)::text, 2, '0')))) FROM generate_series(0, 299) AS i
$$;
CREATE FUNCTION define() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.create_stream('s432', extra_columns => 'amount int', watermark_delay => '2 hours', idle_timeout => '1 day', max_future => NULL);
	PERFORM clickstream.create_session('t432.visits', stream => 's432', gap => '5 minutes', emit => 'changes');
	PERFORM clickstream.create_rollup('t432.per_hour', source => 't432.visits', size => '10 minutes', measures => 'count(*) AS n');
	PERFORM clickstream.create_window('t432.tumbling', stream => 's432', size => '20 minutes', group_by => 'user_id', measures => 'count(*) AS n, sum(amount) AS amount');
	PERFORM clickstream.create_window('t432.limited', stream => 's432', size => '20 minutes', group_by => 'user_id', group_limit => 20, measures => 'count(*) AS n');
	PERFORM clickstream.create_window('t432.hopping', stream => 's432', size => '40 minutes', slide => '20 minutes', emit => 'changes', group_by => 'user_id', measures => 'count(*) AS n');
	PERFORM clickstream.create_window('t432.cumulative', stream => 's432', size => '1 hour', step => '20 minutes', emit => 'changes', group_by => 'user_id', measures => 'count(*) AS n');
	PERFORM clickstream.create_funnel('t432.buys', stream => 's432', within => '30 minutes', emit => 'changes', steps => ARRAY[
		clickstream.step('look', $c$event_type = 'look'$c$), clickstream.step('pay', $c$event_type = 'pay'$c$)]);
END
$$;
CREATE PROCEDURE begin_run(at_once int, spill int) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('clickstream.force_closings', at_once::text, false), set_config('clickstream.force_spill', spill::text, false);
	PERFORM define();
	CALL say(0);
	COMMIT;
	CALL clickstream.process('s432');
END
$$;
CREATE PROCEDURE finish(run text) LANGUAGE plpgsql AS $$
BEGIN
	CALL clickstream.process('s432');
	CALL keep(run, 'again');
	CALL clickstream.finish('s432');
	CALL keep(run, 'final');
	PERFORM clickstream.drop_stream('s432');
END
$$;
-- The most rows that one transaction has written of those that are there, and how many have.
CREATE FUNCTION commits(OUT name text, OUT most bigint, OUT commits bigint) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
	FOREACH name IN ARRAY '{tumbling,limited,hopping,cumulative}'::text[] LOOP
		EXECUTE format('SELECT max(n), count(*) FROM (SELECT count(*) AS n FROM t432.%I GROUP BY xmin) AS c', name) INTO most, commits;
		RETURN NEXT;
	END LOOP;
END
$$;
CREATE FUNCTION differing(run text, OUT name text, OUT moment text) RETURNS SETOF record LANGUAGE sql AS $$
SELECT r.name, r.moment FROM result AS r JOIN result AS w USING (name, moment)
WHERE w.run = 'whole' AND r.run = differing.run AND r.content IS DISTINCT FROM w.content ORDER BY 1, 2
$$;
CALL begin_run(0, -1);
CALL keep('whole', 'first');
CALL say(1000);
CALL finish('whole');
SELECT name, moment, array_length(string_to_array(content, E'\n'), 1) AS lines FROM result ORDER BY 1, 2;
CALL begin_run(5, -1);
CALL keep('in parts', 'first');
CALL say(1000);
CALL clickstream.process('s432');
SELECT name, most < 40 AS in_parts, commits > 3 AS some FROM commits() ORDER BY 1;
CALL finish('in parts');
SELECT * FROM differing('in parts');
-- everything spilled
CALL begin_run(5, 0);
CALL keep('spilled', 'first');
CALL say(1000);
CALL clickstream.process('s432');
SELECT name, most < 40 AS in_parts, commits > 3 AS some FROM commits() ORDER BY 1;
CALL finish('spilled');
SELECT * FROM differing('spilled');
SELECT run, count(*) FROM result GROUP BY 1 ORDER BY 1;
RESET clickstream.force_closings;
RESET clickstream.force_spill;
DROP SCHEMA t432 CASCADE;
