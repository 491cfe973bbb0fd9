-- Runs the cases of test/cases/flink_*.json: each as a stream over the local
-- topic with one definition, a window or a session.
--
--   CALL test.flink_file('path');      all cases of a file
--   TABLE test.flink_result;           what came of each: ok, differs, refused
--                                   (by the definition), not expressible
--
-- A file is of one of two kinds.
--   Rows: "datasets" and "cases", a case with "window", "group_by", "select"
--   and "expected"; or with rows of its own and "subcases".  Everything is
--   fed, the stream is finished, the table is compared as a bag of rows.
--   Steps: a case with "config" and "steps" (event, watermark, expect,
--   expect_none).  The table is looked at after each event and watermark; what
--   has changed since is a list of +I, -U, +U, -D as Flink writes it, from
--   which each "expect" takes one row, and which must be empty at an
--   "expect_none" and at the end.  Where a case never retracts, a new value of
--   a row counts as its +I.
CREATE TABLE test.flink_result (file text, name text, outcome text, detail text);

-- The distinct words of a text, in the order of their bytes: Flink's test has
-- a concatenation in order of arrival, which is compared as a set.
CREATE FUNCTION test.add_word(words text[], word text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT CASE WHEN word IS NULL OR word = ANY (words) THEN words ELSE words || word END $$;
CREATE FUNCTION test.join_words(a text[], b text[]) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT array_agg(DISTINCT w) FROM unnest(a || b) AS w $$;
CREATE FUNCTION test.show_words(words text[]) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
	$$ SELECT string_agg(w, '|' ORDER BY w COLLATE "C") FROM unnest(words) AS w $$;
CREATE AGGREGATE test.words(text) (SFUNC = test.add_word, STYPE = text[], COMBINEFUNC = test.join_words,
	FINALFUNC = test.show_words, INITCOND = '{}', PARALLEL = SAFE);

-- Type of a column of Flink's tests, by its name.
CREATE FUNCTION test.flink_type(name text) RETURNS text LANGUAGE sql AS $$
	SELECT CASE name WHEN 'int' THEN 'integer' WHEN 'double' THEN 'double precision' WHEN 'float' THEN 'real'
		WHEN 'bigdec' THEN 'numeric' WHEN 'price' THEN 'numeric' WHEN 'value' THEN 'bigint' ELSE 'text' END
$$;

-- A selected expression: as a measure (NULL: a column of the table), and how
-- its value reads in Flink.
CREATE FUNCTION test.flink_select(item text, OUT measure text, OUT shown text) LANGUAGE plpgsql AS $$
DECLARE
	part text[] := regexp_match(item, '^(count|sum|min|max|avg)\((distinct )?(\*|\w+)\)$');
BEGIN
	IF item IN ('window_start', 'window_end') THEN
		shown := format('to_char(%I AT TIME ZONE ''UTC'', ''YYYY-MM-DD HH24:MI:SS.US'')', item);
	ELSIF item LIKE 'distinct concat(%) with | %' THEN
		measure := format('test.words(%I)', substring(item FROM '\((\w+)\)'));
		shown := format('%I', item);
	ELSIF part IS NOT NULL THEN
		measure := format('%s(%s%s)', part[1], part[2], CASE part[3] WHEN '*' THEN '*' ELSE quote_ident(part[3]) END);
		shown := CASE WHEN part[1] <> 'count' AND test.flink_type(part[3]) IN ('double precision', 'real')
			THEN format('regexp_replace(%1$I::text, ''^-?\d+$'', ''\&.0'')', item) ELSE format('%I::text', item) END;
	ELSIF item ~ '^\w+$' THEN
		shown := format('%I::text', item);
	ELSE
		RAISE EXCEPTION 'unknown expression %', item;
	END IF;
END
$$;

-- An expected value in the form that the expression above gives it.
CREATE FUNCTION test.flink_expected(item text, value text) RETURNS text LANGUAGE sql AS $$
	SELECT CASE
		WHEN value IS NULL THEN NULL
		WHEN item IN ('window_start', 'window_end') THEN to_char(replace(value, 'T', ' ')::timestamp, 'YYYY-MM-DD HH24:MI:SS.US')
		WHEN item LIKE 'distinct concat%' THEN (SELECT string_agg(w, '|' ORDER BY w COLLATE "C") FROM string_to_table(value, '|') AS w)
		ELSE value END
$$;

-- Make view test_flink.result, with columns window_start and window_end, of a
-- definition over stream flink.  Returns the error if it cannot be made.
CREATE FUNCTION test.flink_define(win jsonb, groups text[], measures text, lateness interval) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	ms constant interval := interval '1 millisecond';
	options text := format('stream => ''flink'', measures => %L', measures);
	by_key text[] := ARRAY(SELECT jsonb_array_elements_text(coalesce(win -> 'partition_by', to_jsonb(groups))));
	named text := (SELECT string_agg(quote_ident(g), ', ') FROM unnest(groups) AS g);
BEGIN
	IF lateness > interval '0' THEN
		options := options || format(', allowed_lateness => %L', lateness);
	END IF;
	IF win ->> 'type' = 'session' THEN
		-- A session's key is one that is not NULL; Flink's is any.
		PERFORM clickstream.create_session('test_flink.sessions', stream => 'flink', max_length => NULL, allowed_lateness => lateness,
			gap => (win ->> 'gap_ms')::bigint * ms, measures => measures
				|| coalesce((SELECT string_agg(format(', first(%1$I) AS %1$I', g), '') FROM unnest(groups) AS g), ''),
			key => format('jsonb_build_array(%s)::text AS session_key',
				(SELECT string_agg(quote_ident(k), ', ') FROM unnest(by_key) AS k)));
		CREATE VIEW test_flink.result AS
			SELECT *, session_start AS window_start, session_end AS window_end FROM test_flink.sessions
			WHERE closed_reason IS NOT NULL; -- one that goes on is no result yet
		RETURN NULL;
	ELSIF win ->> 'type' IN ('tumble', 'hop', 'cumulate') THEN
		options := options || format(', size => %L', coalesce(win ->> 'size_ms', win ->> 'max_size_ms')::bigint * ms);
	ELSE
		RAISE EXCEPTION 'unknown window %', win ->> 'type';
	END IF;
	IF win ->> 'type' = 'hop' THEN
		options := options || format(', slide => %L', (win ->> 'slide_ms')::bigint * ms);
	ELSIF win ->> 'type' = 'cumulate' THEN
		options := options || format(', step => %L', (win ->> 'step_ms')::bigint * ms);
	END IF;
	IF win ? 'offset_ms' THEN
		options := options || format(', origin => %L', timestamptz '1970-01-01 00:00+00' + (win ->> 'offset_ms')::bigint * ms);
	END IF;
	IF named IS NOT NULL THEN
		options := options || format(', group_by => %L', named);
	END IF;
	EXECUTE format('SELECT clickstream.create_window(''test_flink.windows'', emit => ''closed'', %s)', options);
	CREATE VIEW test_flink.result AS TABLE test_flink.windows;
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	RETURN sqlerrm;
END
$$;

CREATE PROCEDURE test.flink_begin(columns text[], delay interval) LANGUAGE plpgsql AS $$
BEGIN
	CREATE SCHEMA test_flink;
	PERFORM clickstream.create_stream('flink', watermark_delay => delay, visitor => '''nobody''',
		extra_columns => (SELECT string_agg(format('%I %s', c, test.flink_type(c)), ', ') FROM unnest(columns) AS c));
END
$$;

CREATE PROCEDURE test.flink_end() LANGUAGE plpgsql AS $$
BEGIN
	DROP VIEW IF EXISTS test_flink.result;
	PERFORM clickstream.drop_stream('flink');
	DROP SCHEMA test_flink CASCADE;
END
$$;

CREATE FUNCTION test.flink_produce(at timestamptz, event jsonb) RETURNS bigint LANGUAGE sql AS $$
	SELECT clickstream.produce('flink', (event || jsonb_build_object('event_time',
		to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))::text, message_timestamp => at)
$$;

-- ---- files of rows

CREATE PROCEDURE test.flink_rows(file text, name text, watermark text, columns jsonb, rows jsonb, item jsonb) LANGUAGE plpgsql AS $$
DECLARE
	col text[] := ARRAY(SELECT jsonb_array_elements_text(columns));
	selected text[] := ARRAY(SELECT jsonb_array_elements_text(item -> 'select'));
	-- a plain name is a group column, and so is what group_by says
	groups text[] := ARRAY(SELECT s FROM unnest(selected) AS s WHERE s ~ '^\w+$' AND s NOT IN ('window_start', 'window_end')
		UNION SELECT jsonb_array_elements_text(item -> 'group_by'));
	measures text := (SELECT string_agg(format('%s AS %I', m.measure, s), ', ')
		FROM unnest(selected) AS s, test.flink_select(s) AS m WHERE m.measure IS NOT NULL);
	shown text := (SELECT string_agg(m.shown, ', ' ORDER BY ord)
		FROM unnest(selected) WITH ORDINALITY AS u(s, ord), test.flink_select(s) AS m);
	expected jsonb := (SELECT jsonb_agg(r ORDER BY r) FROM (
		SELECT (SELECT jsonb_agg(test.flink_expected(selected[o], v) ORDER BY o)
			FROM jsonb_array_elements_text(e) WITH ORDINALITY AS c(v, o)) AS r FROM jsonb_array_elements(item -> 'expected') AS e) AS x);
	found jsonb;
	cells text[];
	trouble text;
	i int;
BEGIN
	CALL test.flink_begin(col[2:], coalesce(substring(watermark FROM '- (\d+ s)$')::interval, '0'));
	trouble := test.flink_define(item -> 'window', groups, measures, '0');
	IF trouble IS NOT NULL THEN
		INSERT INTO test.flink_result VALUES (file, name, 'refused', trouble);
		CALL test.flink_end();
		RETURN;
	END IF;
	FOR i IN 0 .. jsonb_array_length(rows) - 1 LOOP
		cells := ARRAY(SELECT jsonb_array_elements_text(rows -> i));
		PERFORM test.flink_produce(cells[1]::timestamp AT TIME ZONE 'UTC', jsonb_object(col, cells) - col[1]);
	END LOOP;
	CALL clickstream.finish('flink');
	EXECUTE format('SELECT jsonb_agg(r ORDER BY r) FROM (SELECT jsonb_build_array(%s) AS r FROM test_flink.result) AS x', shown)
		INTO found;
	INSERT INTO test.flink_result VALUES (file, name, CASE WHEN found = expected THEN 'ok' ELSE 'differs' END,
		CASE WHEN found <> expected THEN (SELECT string_agg(sign || r, E'\n' ORDER BY r) FROM (
			(SELECT '+', r FROM jsonb_array_elements(found) AS r EXCEPT SELECT '+', r FROM jsonb_array_elements(expected) AS r)
			UNION ALL
			(SELECT '-', r FROM jsonb_array_elements(expected) AS r EXCEPT SELECT '-', r FROM jsonb_array_elements(found) AS r))
			AS d(sign, r)) END);
	CALL test.flink_end();
END
$$;

-- ---- files of steps

CREATE FUNCTION test.ms(t timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT trunc(extract(epoch FROM t) * 1000) $$;
-- The table's rows as Flink names them, by key and window.
CREATE FUNCTION test.flink_look() RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	result jsonb;
BEGIN
	SELECT coalesce(jsonb_object_agg(jsonb_build_array(key, test.ms(window_start), test.ms(window_end))::text,
		jsonb_build_array(sum, count)), '{}') INTO result FROM test_flink.result;
	RETURN result;
END
$$;

-- What is in one look and not in the other, as changes; -U stands before its +U.
CREATE FUNCTION test.flink_changes(before jsonb, after jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT coalesce(jsonb_agg(change), '[]') FROM (
		SELECT jsonb_build_array(CASE WHEN after ? key THEN '-U' ELSE '-D' END, key, value) AS change
		FROM jsonb_each(before) WHERE after -> key IS DISTINCT FROM value
		UNION ALL
		SELECT jsonb_build_array(CASE WHEN before ? key THEN '+U' ELSE '+I' END, key, value)
		FROM jsonb_each(after) WHERE before -> key IS DISTINCT FROM value) AS c
$$;

-- Why a case cannot be asked of a table fed by a topic; NULL if it can.
CREATE FUNCTION test.flink_objection(item jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT CASE
		WHEN EXISTS (SELECT FROM jsonb_array_elements(item -> 'steps') AS s
			WHERE s ->> 'op' = 'event' AND coalesce(s ->> 'kind', '+I') NOT IN ('+I', '+U'))
			THEN 'takes events back: a topic is only added to'
		WHEN item #>> '{config,window}' ~ 'count' THEN 'windows that count rows, not time'
		WHEN EXISTS (SELECT FROM jsonb_array_elements(item -> 'steps') AS s WHERE s ->> 'op' ~ 'proc')
			THEN 'windows of processing time'
		END
$$;

CREATE PROCEDURE test.flink_steps(file text, item jsonb) LANGUAGE plpgsql AS $$
DECLARE
	epoch constant timestamptz := '1970-01-01 00:00+00';
	ms constant interval := interval '1 millisecond';
	config constant jsonb := item -> 'config';
	type constant text := CASE regexp_replace(config ->> 'window', '^(tumbl|hop|slid|cumul|session).*$', '\1')
		WHEN 'tumbl' THEN 'tumble' WHEN 'slid' THEN 'hop' WHEN 'cumul' THEN 'cumulate' ELSE left(config ->> 'window', 7) END;
	retracts constant boolean := jsonb_path_exists(item, '$.steps[*] ? (@.op == "expect" && (@.kind == "-U" || @.kind == "-D"))');
	before jsonb := '{}';
	after jsonb;
	pending jsonb := '[]';
	step jsonb;
	wanted jsonb;
	at int;
	trouble text;
	late bigint;
	n int := 0;
BEGIN
	IF test.flink_objection(item) IS NOT NULL THEN
		INSERT INTO test.flink_result VALUES (file, item ->> 'name', 'not expressible', test.flink_objection(item));
		RETURN;
	END IF;
	-- the watermark is moved by the steps only
	CALL test.flink_begin(ARRAY['key', 'value'], '300 days');
	trouble := test.flink_define(config || jsonb_build_object('type', type), ARRAY['key'], 'sum(value) AS sum, count(*) AS count',
		coalesce((config ->> 'allowed_lateness_ms')::bigint, 0) * ms);
	IF trouble IS NOT NULL THEN
		INSERT INTO test.flink_result VALUES (file, item ->> 'name', 'refused', trouble);
		CALL test.flink_end();
		RETURN;
	END IF;
	FOR n IN 0 .. jsonb_array_length(item -> 'steps') - 1 LOOP
		step := item #> ARRAY['steps', n::text];
		IF step ->> 'op' IN ('event', 'watermark') THEN
			IF step ->> 'op' = 'event' THEN
				PERFORM test.flink_produce(epoch + (step ->> 'ts')::bigint * ms,
					jsonb_build_object('key', step -> 'key', 'value', coalesce(step -> 'value', '1')));
			ELSE
				PERFORM clickstream.advance_watermark('flink', epoch + (step ->> 'wm')::bigint * ms);
			END IF;
			CALL clickstream.process('flink');
			after := test.flink_look();
			pending := pending || test.flink_changes(before, after);
			before := after;
		ELSIF step ->> 'op' = 'expect' THEN
			wanted := jsonb_build_array(jsonb_build_array(step -> 'key', step -> 'window_start', step -> 'window_end')::text,
				jsonb_build_array(step -> 'sum', step -> 'count'));
			SELECT o - 1 INTO at FROM jsonb_array_elements(pending) WITH ORDINALITY AS p(c, o)
			WHERE c - 0 = wanted AND (c ->> 0 = step ->> 'kind' OR NOT retracts AND c ->> 0 = '+U' AND step ->> 'kind' = '+I'
				OR type = 'session' AND left(c ->> 0, 1) = left(step ->> 'kind', 1)) ORDER BY o LIMIT 1;
			trouble := CASE WHEN at IS NULL THEN format('step %s: %s is missing among %s', n, step - 'op', pending) END;
			pending := pending - at;
		ELSIF step ->> 'op' = 'expect_none' THEN
			pending := test.flink_left(pending, retracts);
			trouble := CASE WHEN pending <> '[]' THEN format('step %s: too early: %s', n, pending) END;
		ELSIF step ->> 'op' !~ '^(snapshot|restore|close|open)' THEN
			trouble := format('step %s is of no known kind: %s', n, step ->> 'op');
		END IF;
		EXIT WHEN trouble IS NOT NULL;
	END LOOP;
	SELECT count(*) INTO late FROM clickstream.late_event WHERE stream = 'flink';
	trouble := coalesce(trouble,
		CASE WHEN test.flink_left(pending, retracts) <> '[]' THEN format('not expected: %s', pending) END,
		CASE WHEN late <> (item ->> 'num_late_records_dropped')::bigint THEN format('%s late', late) END);
	INSERT INTO test.flink_result VALUES (file, item ->> 'name', CASE WHEN trouble IS NULL THEN 'ok' ELSE 'differs' END, trouble);
	CALL test.flink_end();
END
$$;

-- Changes nobody has asked for; without what a case that never retracts leaves unsaid.
CREATE FUNCTION test.flink_left(pending jsonb, retracts boolean) RETURNS jsonb LANGUAGE sql AS $$
	SELECT coalesce(jsonb_agg(c), '[]') FROM jsonb_array_elements(pending) AS c WHERE retracts OR c ->> 0 NOT IN ('-U', '-D')
$$;

-- ---- a file

CREATE PROCEDURE test.flink_cases(file text, content jsonb) LANGUAGE plpgsql AS $$
DECLARE
	item jsonb;
	sub jsonb;
	data jsonb;
	i int;
	k int;
BEGIN
	FOR i IN 0 .. jsonb_array_length(content -> 'cases') - 1 LOOP
		item := content #> ARRAY['cases', i::text];
		IF item ? 'steps' THEN
			CALL test.flink_steps(file, item);
			CONTINUE;
		END IF;
		data := coalesce(content #> ARRAY['datasets', item ->> 'dataset'], item);
		FOR k IN 0 .. jsonb_array_length(coalesce(item -> 'subcases', '[0]')) - 1 LOOP
			sub := coalesce(item #> ARRAY['subcases', k::text], item);
			CALL test.flink_rows(file, concat_ws(': ', item ->> 'name', CASE WHEN item ? 'subcases' THEN sub -> 'window' END),
				data ->> 'watermark', data -> 'columns', data -> 'rows', sub);
		END LOOP;
	END LOOP;
END
$$;

CREATE PROCEDURE test.flink_file(path text) LANGUAGE plpgsql AS $$
BEGIN
	CALL test.flink_cases(regexp_replace(path, '^.*/', ''), pg_read_file(path)::jsonb);
END
$$;
