-- Flink's answers: window functions of its own tests and documents, and steps
-- of events and watermarks at the edges of windows and sessions.  What the
-- files are and how they are run: test/cases/README.md, flink_runner.sql.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv here PG_ABS_SRCDIR
\set runner :here '/test/cases/flink_runner.sql'
\set tvf :here '/test/cases/flink_window_tvf.json'
\set boundary :here '/test/cases/flink_boundary_derived.json'
\set ECHO none
\i :runner
\set ECHO all
CALL test.flink_file(:'tvf');
CALL test.flink_file(:'boundary');
SELECT file, outcome, count(*) FROM test.flink_result GROUP BY 1, 2 ORDER BY 1, 2;
SELECT file, name, outcome, detail FROM test.flink_result WHERE outcome <> 'ok' ORDER BY 1, 2;
-- The runner sees what is wrong: the same files with another gap, size and sum.
SELECT pg_read_file(:'boundary') AS steps, pg_read_file(:'tvf') AS rows \gset
\set ECHO none
CALL test.flink_cases('gap 9', replace(:'steps', '"gap_ms": 10', '"gap_ms": 9')::jsonb);
CALL test.flink_cases('size 9', replace(:'steps', '"size_ms": 10', '"size_ms": 9')::jsonb);
CALL test.flink_cases('another sum', replace(:'rows', '11.10', '11.11')::jsonb);
\set ECHO all
SELECT file, count(*) FILTER (WHERE outcome = 'differs') AS differs FROM test.flink_result WHERE file NOT LIKE '%json' GROUP BY 1 ORDER BY 1;
