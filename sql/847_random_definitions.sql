-- Definitions at random, over random events: one that is filled with history, from the event log or from the topic, has what one has that
-- was there from the beginning; verify() finds nothing; explain_event() of a message names rows that are there, and raises nowhere.
-- Another seed: CLICKSTREAM_SEED=… in the environment; CLICKSTREAM_ROUNDS_847 rounds, in each of which CLICKSTREAM_EXPLAINED_847 messages,
-- chosen at random, are explained (nearly all of the time goes there).  A round depends on the seed and on its number only, so one that
-- fails is repeated by CALL run() of it alone; what failed is shown with the definition.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 847
\endif
\echo seed :seed
CREATE SCHEMA t847;
SET search_path = t847;
CREATE FUNCTION one_of(VARIADIC texts text[]) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT texts[1 + floor(random() * cardinality(texts))::int] $$;
-- An argument, now and then.
CREATE FUNCTION maybe(share float, argument text) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT CASE WHEN random() < share THEN ', ' || argument ELSE '' END $$;
CREATE FUNCTION condition() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT one_of('page_url = ''/1''', 'page_url IN (''/0'', ''/2'')', 'amount > 30', 'page_url > ''/2'' OR amount < 10', 'share < 0.4', 'user_id <> ''u3''', 'amount / nullif(share, 0) > 50',
		'1 / (amount <> 50)::int = 1', 'page_url <> ''/4'' AND share > 0.1') $$;
CREATE FUNCTION measures() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT 'count(*) AS n' || maybe(0.5, one_of('count(DISTINCT page_url) AS pages', 'count(DISTINCT user_id) AS users')) || maybe(0.4, 'sum(amount) AS total')
		|| maybe(0.3, 'first(page_url) AS landing, last(page_url) AS leaving') || maybe(0.3, 'avg(amount) FILTER (WHERE ' || condition() || ') AS mean') || maybe(0.3, 'max(event_time) AS latest')
		|| maybe(0.2, 'min(amount) AS least') $$;
CREATE FUNCTION random_window() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT one_of('size => ''10 minutes''', 'size => ''1 hour''', 'size => ''1 hour'', slide => ''20 minutes''', 'size => ''30 minutes'', slide => ''10 minutes''', 'size => ''6 hours'', step => ''1 hour''',
			'size => ''1 day'', time_zone => ''Europe/Vienna''', 'size => ''2 hours'', origin => ''2024-01-01 00:17+00''')
		|| format(', measures => %L', measures()) || maybe(0.5, format('group_by => %L', one_of('page_url', 'user_id', 'event_type, page_url', 'amount > 50 AS dear')))
		|| maybe(0.4, format('filter => %L', condition())) || maybe(0.5, format('allowed_lateness => %L', one_of('10 minutes', '1 hour', '8 hours'))) || maybe(0.5, format('emit => %L', one_of('changes', 'closed')))
		|| maybe(0.3, 'emit_interval => ''0''') $$;
CREATE FUNCTION random_session() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT format('gap => %L, measures => %L', one_of('3 minutes', '10 minutes', '1 hour'), measures())
		|| maybe(0.3, format('key => %L', one_of('user_id', 'page_url', 'anonymous_id'))) || maybe(0.3, format('filter => %L', condition())) || maybe(0.3, format('max_length => %L', one_of('15 minutes', '2 hours')))
		|| maybe(0.2, format('split_on => %L', one_of('page_url', 'amount > 50'))) || maybe(0.2, format('end_when => %L', condition())) || maybe(0.2, 'split_at_midnight => true, time_zone => ''America/New_York''')
		|| maybe(0.4, format('allowed_lateness => %L', one_of('10 minutes', '1 hour'))) || maybe(0.5, format('emit => %L', one_of('changes', 'closed'))) || maybe(0.3, 'emit_interval => ''0''') $$;
CREATE FUNCTION random_funnel() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT format('within => %L, steps => ARRAY[%s]', one_of('5 minutes', '20 minutes', '2 hours'), (SELECT string_agg(format('clickstream.step(%L, %L%s)', 's' || i, condition(),
			CASE WHEN i NOT IN (1, n) AND random() < 0.3 THEN ', true' ELSE '' END), ', ') FROM generate_series(1, n) i))
		|| maybe(0.6, format('mode => %L', one_of('ordered', 'strict', 'unordered'))) || maybe(0.2, format('key => %L', one_of('user_id', 'page_url'))) || maybe(0.3, format('filter => %L', condition()))
		|| maybe(0.2, 'strict_increase => true') || maybe(0.2, 'within_exclusive => true') || maybe(0.2, format('exclusions => ARRAY[clickstream.exclusion(%L)]', condition())) || maybe(0.3, 'breakdown => ''event_type''')
		|| maybe(0.4, format('allowed_lateness => %L', one_of('10 minutes', '1 hour'))) || maybe(0.4, format('emit => %L', one_of('changes', 'closed')))
	FROM (SELECT 2 + floor(random() * 3)::int AS n) x $$;
CREATE TABLE definition (n int, kind text, arguments text, refused text);
-- Makes those of the table, with a suffix; whoever is refused is so each time.
CREATE PROCEDURE make(suffix text, backfill text) LANGUAGE plpgsql AS $$
DECLARE
	d definition;
BEGIN
	FOR d IN SELECT * FROM definition WHERE refused IS NULL ORDER BY n LOOP
		BEGIN
			EXECUTE format('SELECT clickstream.create_%s(%L, stream => ''s847'', %s%s)', d.kind, 'd' || d.n || suffix, d.arguments, backfill);
		EXCEPTION WHEN invalid_parameter_value OR feature_not_supported THEN
			IF suffix <> '' THEN
				RAISE;
			END IF;
			UPDATE definition SET refused = SQLERRM WHERE definition.n = d.n;
		END;
	END LOOP;
END
$$;
CREATE TABLE outcome (round int, source text, at text, n int, differs bigint);
CREATE TABLE wrong (round int, source text, at text, n int, differs bigint, kind text, arguments text);
CREATE TABLE refused (round int, n int, kind text, arguments text, error text);
CREATE VIEW good AS SELECT n, 'd' || n AS t FROM definition WHERE refused IS NULL;
CREATE TABLE event AS SELECT * FROM test.random_visits(0, interval '1 hour', 1);
-- Which definitions' rows explain_event() names that are not there, or cannot evaluate though the definition could.
CREATE FUNCTION badly_explained(messages bigint) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	x record;
	found bigint;
BEGIN
	FOR x IN SELECT e.*
		FROM (SELECT p.partition, o FROM clickstream.stat_partition p, generate_series(p.start_offset, p.next_offset - 1) o WHERE p.stream = 's847' ORDER BY random() LIMIT messages) m,
			clickstream.explain_event('s847', m.partition, m.o) e
		WHERE e.row_id IS NOT NULL OR e.outcome = 'error'
	LOOP
		found := 0;
		IF x.row_id IS NOT NULL THEN
			EXECUTE format('SELECT count(*) FROM %s r WHERE coalesce(to_jsonb(r) ->> ''session_id'', to_jsonb(r) ->> ''attempt_id'') = ANY (string_to_array($1, '', ''))', x.definition)
				INTO found USING x.row_id;
		END IF;
		IF found = 0 THEN
			RETURN NEXT x.definition;
		END IF;
	END LOOP;
END
$$;
-- Round r.
CREATE PROCEDURE run(seed float, r int, from_log boolean, explained bigint) LANGUAGE plpgsql AS $$
DECLARE
	source text := CASE WHEN from_log THEN 'log' ELSE 'topic' END;
	parts int := CASE WHEN from_log THEN 3 ELSE 1 END;
BEGIN
	PERFORM setseed(seed / 1e6 + r / 1e12);
	TRUNCATE definition, event;
	INSERT INTO event SELECT * FROM test.random_visits(60, interval '10 hours', 15);
	INSERT INTO definition SELECT i, k, CASE k WHEN 'window' THEN random_window() WHEN 'session' THEN random_session() ELSE random_funnel() END
	FROM (SELECT i, one_of('window', 'session', 'funnel') AS k FROM generate_series(1, 8) i OFFSET 0) x;
	PERFORM set_config('clickstream.batch_messages', one_of('1', '5', '40', '1000'), false);
	PERFORM test.create_visits_stream('s847');
	IF from_log THEN
		PERFORM clickstream.create_event_log('log', stream => 's847');
	END IF;
	CALL make('', '');
	PERFORM test.produce_visits('s847', 0, 3, parts);
	COMMIT;
	CALL clickstream.process('s847');
	CALL make('_filled', ', backfill => true');
	PERFORM test.produce_visits('s847', 1, 3, parts);
	COMMIT;
	CALL clickstream.process('s847', 4);
	CALL clickstream.process('s847');
	INSERT INTO outcome SELECT r, source, 'joined', n, test.differences(t::regclass, (t || '_filled')::regclass) FROM good;
	PERFORM test.produce_visits('s847', 2, 3, parts);
	COMMIT;
	CALL clickstream.process('s847');
	INSERT INTO outcome SELECT r, source, 'live', n, test.differences((t || '_live')::regclass, (t || '_filled_live')::regclass) FROM good;
	IF from_log THEN
		INSERT INTO outcome SELECT r, source, 'verified', n, (SELECT count(*) FROM clickstream.verify(t::regclass)) + (SELECT count(*) FROM clickstream.verify((t || '_filled')::regclass)) FROM good;
		PERFORM clickstream.apply_late(t::regclass), clickstream.apply_late((t || '_filled')::regclass) FROM good;
		INSERT INTO outcome SELECT r, source, 'applied', n, test.differences(t::regclass, (t || '_filled')::regclass) FROM good;
		INSERT INTO outcome SELECT r, source, 'verified again', n, (SELECT count(*) FROM clickstream.verify(t::regclass)) FROM good;
	END IF;
	PERFORM clickstream.audit('s847');
	CALL clickstream.finish('s847');
	INSERT INTO outcome SELECT r, source, 'finished', n, test.differences(t::regclass, (t || '_filled')::regclass) FROM good;
	IF from_log THEN
		INSERT INTO outcome SELECT r, source, 'verified at last', n, (SELECT count(*) FROM clickstream.verify(t::regclass)) + (SELECT count(*) FROM clickstream.verify((t || '_filled')::regclass)) FROM good;
		INSERT INTO outcome SELECT r, source, 'explained', n, count(*) FROM good JOIN badly_explained(explained) b ON b IN (t, t || '_filled') GROUP BY n;
	END IF;
	INSERT INTO wrong SELECT o.*, d.kind, d.arguments FROM outcome o JOIN definition d USING (n) WHERE o.round = r AND differs <> 0;
	INSERT INTO refused SELECT r, n, kind, arguments, d.refused FROM definition d WHERE d.refused IS NOT NULL;
	PERFORM clickstream.drop_stream('s847');
END
$$;
CREATE PROCEDURE rounds(seed float, rounds int, explained bigint) LANGUAGE plpgsql AS $$
BEGIN
	FOR r IN 1 .. rounds LOOP
		CALL run(seed, r, r % 2 = 1, explained);
		COMMIT;
	END LOOP;
END
$$;
\getenv rounds CLICKSTREAM_ROUNDS_847
\if :{?rounds}
\else
\set rounds 2
\endif
\getenv explained CLICKSTREAM_EXPLAINED_847
\if :{?explained}
\else
\set explained 20
\endif
CALL rounds(:seed, :rounds, :explained);
SELECT * FROM wrong ORDER BY round, at, n;
SELECT count(*) > 20 AS compared, count(DISTINCT at) >= 7 AS ways FROM outcome;
-- It notices mistakes: late events that are left out, those that waited applied in order of arrival.
TRUNCATE outcome, wrong;
SET clickstream.mutant = 'late_left_out';
CALL run(847, 1, true, 0);
SET clickstream.mutant = 'unsorted_apply';
CALL run(847, 3, true, 0);
RESET clickstream.mutant;
SELECT round, count(*) > 0 AS noticed FROM wrong GROUP BY round ORDER BY round;
RESET clickstream.batch_messages;
DROP SCHEMA t847 CASCADE;
