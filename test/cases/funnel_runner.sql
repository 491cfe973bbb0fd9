-- Runs the cases of test/cases/posthog_funnels_sample.json and
-- clickhouse_window_funnel_sample.json: each as a stream over the local topic
-- with one funnel.
--
--   CALL test.funnel_file('path');      all cases of a file
--   TABLE test.funnel_result;           what came of each: ok, differs (and how),
--                                       refused (by the definition), not required (and why)
--
-- PostHog's counts, times and actors are compared with funnel_report() and
-- with the table itself, its time to convert with funnel_time_to_convert(); of
-- its definition errors it must be one when the funnel is made, or when it is
-- asked for the time between its steps.  ClickHouse's levels are the greatest
-- level of each key, where its rule is the stream's: strict_once, and the
-- default where no event meets two conditions, within more than no time.  Whatever the mode, they are
-- what window_funnel() says of the same events as rows.
--
-- How a definition is said in our terms:
--   max_length 732 days: PostHog's persons are never cut.
--   attribution all_events: only events of the same value belong together, so
--   the value is part of the key.
--   ClickHouse counts time in units of whatever the column holds: microseconds.
--   A single condition: a second step that nothing meets.
-- Not required: attribution other than by the first step, steps that count a
-- user's first event only; functions of ClickHouse other than windowFunnel.
-- Trends are not required either: those
-- by days are compared with funnel_report() all the same, and one that differs
-- says how.
CREATE TABLE test.funnel_result (file text, name text, outcome text, detail text);
CREATE SCHEMA test_funnel;

-- A condition in SQL over the event's columns.
CREATE FUNCTION test.funnel_property(name text) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT format('event_properties->>%L', name) $$;

CREATE FUNCTION test.funnel_condition(item jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	field text := test.funnel_property(item ->> 'field');
	op text := lower(item ->> 'op');
	parts text[] := '{}';
	k text;
	v jsonb;
BEGIN
	IF item ? 'and' THEN
		RETURN (SELECT '(' || string_agg(test.funnel_condition(e), ' AND ') || ')' FROM jsonb_array_elements(item -> 'and') AS e);
	ELSIF item ? 'or' THEN
		RETURN (SELECT '(' || string_agg(test.funnel_condition(e), ' OR ') || ')' FROM jsonb_array_elements(item -> 'or') AS e);
	ELSIF item ? 'not' THEN
		RETURN format('NOT (%s)', test.funnel_condition(item -> 'not'));
	ELSIF item ? 'field' THEN
		IF op IN ('is null', 'is not null') THEN
			RETURN format('%s %s', field, upper(op));
		ELSIF op IN ('in', 'not in') THEN
			RETURN format('%s %s (%s)', field, op, (SELECT string_agg(quote_literal(e), ', ') FROM jsonb_array_elements_text(item -> 'value') AS e));
		ELSIF op IN ('=', '!=', '<>') THEN
			RETURN format('%s %s %L', field, op, item ->> 'value');
		ELSIF op IN ('<', '<=', '>', '>=') THEN
			RETURN format('(%s)::numeric %s %s', field, op, item ->> 'value');
		END IF;
	ELSIF item ? 'event' OR item ? 'events' OR item ? 'props' OR item ? 'properties' THEN
		FOR k, v IN SELECT * FROM jsonb_each(item) LOOP
			CASE
				WHEN k IN ('event', 'events') AND jsonb_typeof(v) = 'string' THEN
					parts := parts || format('event_type = %L', v #>> '{}');
				WHEN k IN ('event', 'events') AND jsonb_typeof(v) = 'array' THEN
					parts := parts || format('event_type IN (%s)', (SELECT string_agg(quote_literal(e), ', ') FROM jsonb_array_elements_text(v) AS e));
				WHEN k IN ('event', 'events') AND jsonb_typeof(v) = 'null' THEN
					parts := parts || 'true'::text;
				WHEN k IN ('props', 'properties') AND jsonb_typeof(v) = 'object' THEN
					parts := parts || ARRAY(
						SELECT CASE jsonb_typeof(e.value)
							WHEN 'null' THEN format('%s IS NULL', test.funnel_property(e.key))
							WHEN 'array' THEN format('%s IN (%s)', test.funnel_property(e.key),
								(SELECT string_agg(quote_literal(x), ', ') FROM jsonb_array_elements_text(e.value) AS x))
							ELSE format('%s = %L', test.funnel_property(e.key), e.value #>> '{}') END
						FROM jsonb_each(v) AS e);
				WHEN k IN ('name', 'optional', 'from_step', 'to_step') THEN
					NULL;
				ELSE
					RAISE EXCEPTION 'unknown part of a condition: %', k;
			END CASE;
		END LOOP;
		RETURN array_to_string(parts, ' AND ');
	END IF;
	RAISE EXCEPTION 'unknown condition %', item;
END
$$;

-- Why a case is not asked for, or NULL.
CREATE FUNCTION test.funnel_not_required(item jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	def jsonb := item -> 'definition';
BEGIN
	IF item ->> 'kind' = 'trends' AND coalesce(def ->> 'interval', 'day') <> 'day' THEN
		RETURN 'trends';
	ELSIF EXISTS (SELECT FROM jsonb_array_elements(def -> 'steps') AS s WHERE s ? 'first_time') THEN
		RETURN 'steps that count a user''s first event only';
	ELSIF coalesce(def ->> 'attribution', 'step_0') NOT IN ('step_0', 'all_events') THEN
		RETURN 'attribution by ' || (def ->> 'attribution');
	ELSIF def ->> 'function' <> 'windowFunnel' THEN
		RETURN 'function ' || (def ->> 'function');
	END IF;
	RETURN NULL;
END
$$;

-- ClickHouse's numbers are microseconds.
CREATE FUNCTION test.funnel_time(ts jsonb) RETURNS timestamptz LANGUAGE sql AS $$
	SELECT CASE jsonb_typeof(ts) WHEN 'number' THEN '2000-01-01 00:00+00'::timestamptz + ts::bigint * interval '1 microsecond'
		ELSE (ts #>> '{}')::timestamptz END
$$;

-- Is ClickHouse's rule the stream's?
CREATE FUNCTION test.funnel_streams(item jsonb, conditions text[]) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	modes jsonb := item -> 'definition' -> 'modes';
	overlap boolean;
BEGIN
	IF (item -> 'definition' ->> 'window')::bigint = 0 THEN
		RETURN false; -- a stream's funnel takes more than that
	END IF;
	IF modes = '[]' THEN
		EXECUTE format('SELECT bool_or(%s > 1) FROM jsonb_array_elements($1) AS event_properties',
			(SELECT string_agg(format('coalesce((%s)::int, 0)', c), ' + ') FROM unnest(conditions) AS c)) INTO overlap USING item -> 'events';
		RETURN NOT overlap;
	END IF;
	RETURN modes IS NULL OR modes = '["strict_once"]';
END
$$;

-- How window_funnel() differs from ClickHouse's levels, or NULL.
CREATE FUNCTION test.funnel_levels_differ(item jsonb, conditions text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format($q$
		SELECT string_agg(format('window_funnel of %%s: expected %%s, got %%s', k, v, level), '; ' ORDER BY k)
		FROM jsonb_each_text($1 -> 'expected' -> 'level') AS want(k, v)
		LEFT JOIN (
			SELECT event_properties ->> 'actor' AS k,
				clickstream.window_funnel(($1 -> 'definition' ->> 'window')::bigint * interval '1 microsecond',
					array_to_string(ARRAY(SELECT jsonb_array_elements_text($1 -> 'definition' -> 'modes')), ', '),
					test.funnel_time(event_properties -> 'ts'), %s ORDER BY i) AS level
			FROM jsonb_array_elements($1 -> 'events') WITH ORDINALITY AS e(event_properties, i) GROUP BY 1) AS got USING (k)
		WHERE level IS DISTINCT FROM v::int $q$, array_to_string(conditions, ', ')) INTO result USING item;
	RETURN result;
END
$$;

-- Parts of a definition that this runner knows.
CREATE FUNCTION test.funnel_unknown(def jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(k, ', ') FROM jsonb_object_keys(def) AS k
	WHERE k NOT IN ('steps', 'window_s', 'window', 'order', 'exclusions', 'breakdown', 'attribution', 'aggregate_by', 'from_step', 'to_step',
		'function', 'modes', 'bin_count', 'interval')
$$;

-- Make stream and funnel; the error, if the definition is refused.
CREATE FUNCTION test.funnel_make(def jsonb, conditions text[], OUT state text, OUT message text) LANGUAGE plpgsql AS $$
DECLARE
	is_clickhouse boolean := def ? 'function';
	steps clickstream.step[];
	exclusions clickstream.exclusion[];
	breakdown text;
	key text := 'user_id';
BEGIN
	PERFORM clickstream.create_stream('test_funnel', watermark_delay => '366 days');
	steps := ARRAY(SELECT clickstream.step('s' || n, conditions[n], coalesce((def -> 'steps' -> (n - 1)::int ->> 'optional')::boolean, false))
		FROM generate_series(1, cardinality(conditions)) AS n);
	IF is_clickhouse AND cardinality(steps) = 1 THEN
		steps := steps || clickstream.step('never', 'false');
	END IF;
	IF def ? 'exclusions' THEN
		exclusions := ARRAY(SELECT clickstream.exclusion(test.funnel_condition(e), 's' || (e ->> 'from_step')::int + 1, 's' || (e ->> 'to_step')::int + 1)
			FROM jsonb_array_elements(def -> 'exclusions') AS e);
	END IF;
	IF def ? 'aggregate_by' THEN
		key := format('(%s) AS user_id', test.funnel_property(def ->> 'aggregate_by'));
	END IF;
	IF def ? 'breakdown' THEN
		SELECT string_agg(format('coalesce(%s, '''')', test.funnel_property(b)), ' || ''|'' || ') INTO breakdown
		FROM jsonb_array_elements_text(CASE jsonb_typeof(def -> 'breakdown') WHEN 'array' THEN def -> 'breakdown'
			ELSE jsonb_build_array(def -> 'breakdown') END) AS b;
		IF def ->> 'attribution' = 'all_events' THEN
			key := format('(user_id || ''/'' || %s) AS user_id', breakdown);
		END IF;
		breakdown := breakdown || ' AS value';
	END IF;
	PERFORM clickstream.create_funnel('test_funnel.result', stream => 'test_funnel', steps => steps, mode => coalesce(def ->> 'order', 'ordered'),
		within => CASE WHEN is_clickhouse THEN (def ->> 'window')::bigint * interval '1 microsecond'
			ELSE coalesce((def ->> 'window_s')::float8, 1209600) * interval '1 second' END,
		key => key, max_length => '732 days', exclusions => exclusions, breakdown => breakdown);
	IF def ? 'from_step' OR def ? 'to_step' THEN
		PERFORM clickstream.funnel_time_to_convert('test_funnel.result', test.funnel_from(def), test.funnel_to(def));
	END IF;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
END
$$;

CREATE FUNCTION test.funnel_feed(item jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	e jsonb;
	t timestamptz;
BEGIN
	FOR e IN SELECT * FROM jsonb_array_elements(item -> 'events') LOOP
		t := test.funnel_time(e -> 'ts');
		PERFORM clickstream.produce('test_funnel', jsonb_build_object('event_type', e ->> 'event', 'event_time',
			to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
			'user_id', coalesce(item -> 'identity' ->> (e ->> 'actor'), e ->> 'actor'),
			'event_properties', CASE WHEN item -> 'definition' ? 'function' THEN e ELSE coalesce(e -> 'props', '{}') END)::text,
			message_timestamp => t);
	END LOOP;
END
$$;

-- Of each key (and value of the breakdown) the times of its best attempt.
CREATE FUNCTION test.funnel_best(def jsonb) RETURNS TABLE (who text, value text, times timestamptz[]) LANGUAGE plpgsql AS $$
DECLARE
	n int := jsonb_array_length(def -> 'steps');
BEGIN
	RETURN QUERY EXECUTE format($q$
		SELECT DISTINCT ON (user_id, value) user_id, value, CASE WHEN is_spoilt THEN '{}' ELSE times END
		FROM (SELECT user_id, %s AS value, started_at, attempt_id, closed_reason = 'excluded' AS is_spoilt,
				CASE WHEN %L THEN ARRAY(SELECT x FROM unnest(ARRAY[%s]) AS x WHERE x IS NOT NULL ORDER BY x) ELSE ARRAY[%3$s] END AS times
			FROM test_funnel.result) AS r
		ORDER BY user_id, value, (SELECT max(m) FROM unnest(times) WITH ORDINALITY AS u(x, m) WHERE x IS NOT NULL) DESC NULLS LAST,
			is_spoilt, started_at, attempt_id
		$q$, CASE WHEN def ? 'breakdown' THEN 'value' ELSE 'NULL::text' END, def ->> 'order' = 'unordered',
		(SELECT string_agg(format('s%s_time', m), ', ') FROM generate_series(1, n) AS m));
END
$$;

-- funnel_report() as PostHog shows it: {value: {counts, avg_s, median_s}}.
CREATE FUNCTION test.funnel_reported(def jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT coalesce(jsonb_object_agg(value, result), '{}')
	FROM (
		SELECT coalesce(breakdown_value[1], '') AS value, jsonb_build_object('counts', jsonb_agg(reached ORDER BY step),
			'avg_s', jsonb_agg(extract(epoch FROM average_time)::float8 ORDER BY step),
			'median_s', jsonb_agg(extract(epoch FROM median_time)::float8 ORDER BY step)) AS result
		FROM clickstream.funnel_report('test_funnel.result', breakdown => CASE WHEN def ? 'breakdown' THEN '{value}'::text[] END)
		GROUP BY 1) AS r);
END
$$;

-- Are numbers (and NULLs) the same, to a microsecond?
CREATE FUNCTION test.funnel_same(a jsonb, b jsonb) RETURNS boolean LANGUAGE sql AS $$
	SELECT jsonb_array_length(a) = jsonb_array_length(b) AND coalesce(bool_and(x IS NOT DISTINCT FROM y OR abs(x - y) < 0.000001), true)
	FROM (SELECT x::float8, y::float8 FROM ROWS FROM (jsonb_array_elements_text(a), jsonb_array_elements_text(b)) AS r(x, y)) AS n
$$;

CREATE FUNCTION test.funnel_check_numbers(what text, expected jsonb, got jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s: expected %s, got %s', what, k, expected -> k, got -> k), '; ')
	FROM unnest(ARRAY['counts', 'avg_s', 'median_s']) AS k
	WHERE expected ? k AND NOT coalesce(test.funnel_same(expected -> k, got -> k), false)
$$;

CREATE FUNCTION test.funnel_check_actors(what text, expected jsonb, step int, got_value text, def jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	wanted text[] := ARRAY(SELECT a FROM jsonb_array_elements_text(expected) AS a ORDER BY a COLLATE "C");
	got text[];
BEGIN
	SELECT ARRAY(SELECT DISTINCT b.who COLLATE "C" FROM test.funnel_best(def) AS b
		WHERE b.times[step] IS NOT NULL AND (got_value IS NULL OR b.value = got_value) ORDER BY 1) INTO got;
	RETURN CASE WHEN wanted <> got THEN format('%s: expected %s, got %s', what, wanted, got) END;
END
$$;

-- Steps from 0 as steps from 1, and the last one where none is given.
CREATE FUNCTION test.funnel_from(def jsonb) RETURNS int LANGUAGE sql AS $$ SELECT coalesce((def ->> 'from_step')::int, 0) + 1 $$;
CREATE FUNCTION test.funnel_to(def jsonb) RETURNS int LANGUAGE sql AS $$
	SELECT coalesce((def ->> 'to_step')::int, jsonb_array_length(def -> 'steps') - 1) + 1 $$;

CREATE FUNCTION test.funnel_bins(def jsonb, OUT bins jsonb, OUT average float8, OUT median float8) LANGUAGE plpgsql AS $$
BEGIN
	SELECT jsonb_agg(jsonb_build_array(extract(epoch FROM bin_start)::int, keys) ORDER BY bin_start), max(extract(epoch FROM average_time)),
		max(extract(epoch FROM median_time))
	INTO bins, average, median
	FROM clickstream.funnel_time_to_convert('test_funnel.result', test.funnel_from(def), test.funnel_to(def),
		least(90, greatest(1, (def ->> 'bin_count')::int)) + CASE WHEN def ? 'bin_count' THEN 0 END);
END
$$;

-- What differs from what is expected; NULL nothing.
CREATE FUNCTION test.funnel_differs(item jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	def jsonb := item -> 'definition';
	want jsonb := item -> 'expected';
	got jsonb := test.funnel_reported(def);
	zeros jsonb := (SELECT jsonb_agg(0) FROM jsonb_array_elements(def -> 'steps'));
	nothing jsonb := (SELECT jsonb_build_object('counts', zeros, 'avg_s', nulls, 'median_s', nulls)
		FROM (SELECT jsonb_agg(NULL::int) AS nulls FROM jsonb_array_elements(def -> 'steps')) AS n);
	found text[] := '{}';
	k text;
	v jsonb;
	bins record;
	level int;
BEGIN
	FOR k, v IN SELECT * FROM jsonb_each(want) LOOP
		CASE k
			WHEN 'counts' THEN
				found := found || test.funnel_check_numbers('all', want, coalesce(got -> '', nothing));
			WHEN 'avg_s', 'median_s' THEN
				NULL; -- with counts, or bins
			WHEN 'actors' THEN
				found := found || (SELECT string_agg(test.funnel_check_actors('actors ' || e.key, e.value, e.key::int, NULL, def), '; ') FROM jsonb_each(v) AS e);
			WHEN 'actors_step1' THEN
				found := found || (SELECT string_agg(test.funnel_check_actors('actors of ' || e.key, e.value, 1, e.key, def), '; ') FROM jsonb_each(v) AS e);
			WHEN 'breakdowns' THEN
				found := found || (SELECT string_agg(test.funnel_check_numbers(e.key, e.value, coalesce(got -> e.key, nothing)), '; ') FROM jsonb_each(v) AS e);
				IF NOT coalesce((want ->> 'only_listed')::boolean, false) THEN
					found := found || (SELECT 'more values: ' || string_agg(g, ', ') FROM jsonb_object_keys(got) AS g WHERE NOT v ? g
						AND NOT coalesce(test.funnel_same(got -> g -> 'counts', zeros), false));
				END IF;
			WHEN 'only_listed' THEN
				NULL;
			WHEN 'bins' THEN
				bins := test.funnel_bins(def);
				IF bins.bins IS DISTINCT FROM v THEN
					found := found || format('bins: expected %s, got %s', v, bins.bins);
				END IF;
				IF abs(bins.average - (want ->> 'avg_s')::float8) > 0.000001 THEN
					found := found || format('average: expected %s, got %s', want ->> 'avg_s', bins.average);
				END IF;
			WHEN 'level' THEN
				FOR k, v IN SELECT * FROM jsonb_each(v) LOOP
					EXECUTE 'SELECT coalesce(max(level), 0) FROM test_funnel.result WHERE user_id = $1' INTO level USING k;
					IF level <> v::int THEN
						found := found || format('level of %s: expected %s, got %s', k, v, level);
					END IF;
				END LOOP;
			ELSE
				found := found || format('unknown expectation %s', k);
		END CASE;
	END LOOP;
	RETURN nullif(array_to_string(found, '; '), '');
END
$$;

-- The same for trends: keys by the day of their attempt's first event.
CREATE FUNCTION test.funnel_trends_differ(item jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	def jsonb := item -> 'definition';
	from_ int := test.funnel_from(def);
	to_ int := test.funnel_to(def);
BEGIN
	RETURN (
		SELECT string_agg(format('%s: expected %s, got %s of %s', day, item -> 'expected' -> day, converted, entered), '; ' ORDER BY day)
		FROM (
			SELECT to_char(bucket_start AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, sum(reached) FILTER (WHERE step = from_) AS entered,
				sum(reached) FILTER (WHERE step = to_) AS converted
			FROM clickstream.funnel_report('test_funnel.result', bucket => '1 day') GROUP BY 1) AS got
		FULL JOIN (SELECT jsonb_object_keys(item -> 'expected') AS day) AS want USING (day)
		WHERE coalesce(entered, 0) <> coalesce((item -> 'expected' -> day ->> 'entered')::int, 0)
			OR coalesce(converted, 0) <> coalesce((item -> 'expected' -> day ->> 'converted')::int, 0));
END
$$;

CREATE PROCEDURE test.funnel_case(file text, item jsonb) LANGUAGE plpgsql AS $$
DECLARE
	def jsonb := item -> 'definition';
	conditions text[];
	reason text;
	refused record;
BEGIN
	conditions := ARRAY(SELECT test.funnel_condition(s - 'first_time') FROM jsonb_array_elements(def -> 'steps') AS s);
	reason := coalesce(test.funnel_not_required(item), 'unknown part of the definition: ' || test.funnel_unknown(def));
	IF reason IS NOT NULL THEN
		INSERT INTO test.funnel_result VALUES (file, item ->> 'name', 'not required', reason);
		RETURN;
	END IF;
	IF def ? 'function' THEN
		reason := test.funnel_levels_differ(item, conditions);
		IF reason IS NOT NULL OR NOT test.funnel_streams(item, conditions) THEN
			INSERT INTO test.funnel_result VALUES (file, item ->> 'name', CASE WHEN reason IS NULL THEN 'ok' ELSE 'differs' END, reason);
			RETURN;
		END IF;
	END IF;
	refused := test.funnel_make(def, conditions);
	IF item ->> 'kind' = 'definition_error' THEN
		INSERT INTO test.funnel_result VALUES (file, item ->> 'name',
			CASE WHEN refused.state ~ '^(22|42|54)' THEN 'ok' ELSE 'differs' END,
			format('expected "%s", got "%s"', item -> 'expected' ->> 'error', refused.message));
	ELSIF refused.state IS NOT NULL THEN
		INSERT INTO test.funnel_result VALUES (file, item ->> 'name', 'refused', refused.message);
	ELSE
		PERFORM test.funnel_feed(item);
		CALL clickstream.finish('test_funnel');
		IF item ->> 'kind' = 'trends' THEN
			reason := test.funnel_trends_differ(item);
			INSERT INTO test.funnel_result VALUES (file, item ->> 'name', CASE WHEN reason IS NULL THEN 'ok' ELSE 'not required' END, 'trends; ' || reason);
			PERFORM clickstream.drop_stream('test_funnel');
			COMMIT;
			RETURN;
		END IF;
		reason := test.funnel_differs(item);
		INSERT INTO test.funnel_result VALUES (file, item ->> 'name', CASE WHEN reason IS NULL THEN 'ok' ELSE 'differs' END, reason);
	END IF;
	IF refused.state IS NULL THEN
		PERFORM clickstream.drop_stream('test_funnel');
	END IF;
	COMMIT;
END
$$;

CREATE PROCEDURE test.funnel_cases(file text, cases jsonb) LANGUAGE plpgsql AS $$
DECLARE
	item jsonb;
BEGIN
	FOR item IN SELECT * FROM jsonb_array_elements(cases) LOOP
		CALL test.funnel_case(file, item);
	END LOOP;
END
$$;

CREATE PROCEDURE test.funnel_file(path text) LANGUAGE plpgsql AS $$
BEGIN
	CALL test.funnel_cases(regexp_replace(path, '^.*/', ''), pg_read_file(path)::jsonb);
END
$$;
