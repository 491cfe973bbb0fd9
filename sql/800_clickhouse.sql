-- Random questions to the aggregates, and ClickHouse's answers to them: what is
-- kept of "make check-clickhouse", which asks many more (test/clickhouse).
SET client_min_messages = warning;
\getenv here PG_ABS_SRCDIR
\set compare :here '/test/clickhouse/compare.sql'
\set answers :here '/test/cases/clickhouse_answers.tsv'
\set ECHO none
\i :compare
\set ECHO all
CALL test.clickhouse_file(:'answers');
SELECT function, mode, count(*) AS questions, sum(groups) AS groups, sum(differs) AS differs, min(first)
FROM test.clickhouse_result GROUP BY 1, 2 ORDER BY function, mode COLLATE "C";
-- Questions with more than one answer.
SELECT line[4] AS function, count(DISTINCT a) AS answers, count(*) FILTER (WHERE a <> '0') * 100 / count(*) AS percent_not_0
FROM test.clickhouse_line q
JOIN LATERAL (SELECT string_to_table(l.line[3], ',') FROM test.clickhouse_line l WHERE l.line[1] = 'a' AND l.line[2] = q.line[2]) AS a(a) ON true
WHERE q.line[1] = 'q' GROUP BY 1 ORDER BY 1;
-- The comparison sees what is wrong: with each of these mistakes answers differ.
SET clickstream.mutant = 'within_exclusive';
CALL test.clickhouse_file(:'answers');
SELECT function, sum(differs) > 0 AS differs FROM test.clickhouse_result GROUP BY 1 ORDER BY 1;
-- Only strict_once looks at what is of one time as the streaming funnel does.
SET clickstream.mutant = 'tie_overwrites';
CALL test.clickhouse_file(:'answers');
SELECT mode ~ 'once' AS strict_once, sum(differs) > 0 AS differs FROM test.clickhouse_result WHERE function = 'window_funnel' GROUP BY 1 ORDER BY 1;
SET clickstream.mutant = 'sequence_greedy';
CALL test.clickhouse_file(:'answers');
SELECT function, sum(differs) > 0 AS differs FROM test.clickhouse_result GROUP BY 1 ORDER BY 1;
SET clickstream.mutant = 'unsorted_apply';
CALL test.clickhouse_file(:'answers');
SELECT function, sum(differs) > 0 AS differs FROM test.clickhouse_result GROUP BY 1 ORDER BY 1;
RESET clickstream.mutant;
