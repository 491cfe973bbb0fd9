-- Asks the questions of a file that answers.js wrote, and counts the answers
-- that differ from ClickHouse's.
--
--   CALL test.clickhouse_file('path');
--   TABLE test.clickhouse_result;       by function and mode: groups, differs, the first that does
CREATE TABLE test.clickhouse_line (n bigint GENERATED ALWAYS AS IDENTITY, line text[]);
CREATE TABLE test.clickhouse_event (set_number int, g int, i int, t timestamptz, m int);
CREATE TABLE test.clickhouse_result (function text, mode text, groups bigint, differs bigint, first text);

CREATE PROCEDURE test.clickhouse_load(path text) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE test.clickhouse_line, test.clickhouse_event, test.clickhouse_result;
	INSERT INTO test.clickhouse_line (line) SELECT string_to_array(l, E'\t') FROM regexp_split_to_table(pg_read_file(path), E'\n') AS l;
	INSERT INTO test.clickhouse_event
	SELECT line[2]::int, line[3]::int, i, 'epoch'::timestamptz + split_part(e, ':', 1)::int * interval '1 second', split_part(e, ':', 2)::int
	FROM test.clickhouse_line, string_to_table(line[4], ' ') WITH ORDINALITY AS u(e, i) WHERE line[1] = 'e';
	ANALYZE test.clickhouse_event;
END
$$;

-- The question in SQL; its answer as ClickHouse writes it.
CREATE FUNCTION test.clickhouse_sql(line text[]) RETURNS text LANGUAGE sql AS $$
	SELECT CASE line[4]
		WHEN 'window_funnel' THEN format('clickstream.window_funnel(%L, %L, t, %s ORDER BY i)::text', line[6] || ' seconds', line[7], c)
		WHEN 'retention' THEN format('translate(array_to_string(clickstream.retention(%s), ''''), ''tf'', ''10'')', c)
		ELSE format('clickstream.%s(%L, t, %s ORDER BY i)::int::text', line[4], line[6], c) END
	FROM (SELECT string_agg(format('m & %s <> 0', 1 << k), ', ' ORDER BY k) AS c FROM generate_series(0, line[5]::int - 1) AS k) AS c
$$;

CREATE PROCEDURE test.clickhouse_ask(question text[], answers text[]) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format($q$
		INSERT INTO test.clickhouse_result
		SELECT $1, $2, count(*), count(*) FILTER (WHERE a.a IS DISTINCT FROM got.a),
			min(format('question %%s, group %%s: expected %%s, got %%s', $3, g, a.a, got.a)) FILTER (WHERE a.a IS DISTINCT FROM got.a)
		FROM unnest($4) WITH ORDINALITY AS a(a, g)
		FULL JOIN (SELECT g, %s AS a FROM test.clickhouse_event WHERE set_number = $5 GROUP BY g) AS got USING (g)
		$q$, test.clickhouse_sql(question))
	USING question[4], question[7], question[2], answers, question[3]::int;
END
$$;

CREATE PROCEDURE test.clickhouse_file(path text) LANGUAGE plpgsql AS $$
DECLARE
	question text[];
	answers text;
BEGIN
	CALL test.clickhouse_load(path);
	FOR question, answers IN
		SELECT q.line, a.line[3] FROM test.clickhouse_line AS q JOIN test.clickhouse_line AS a ON a.line[2] = q.line[2]
		WHERE q.line[1] = 'q' AND a.line[1] = 'a' ORDER BY q.n
	LOOP
		CALL test.clickhouse_ask(question, string_to_array(answers, ','));
	END LOOP;
END
$$;
