-- Other systems' answers as funnels: PostHog's steps, time to convert and
-- definition errors, ClickHouse's levels.  What the files are and how they are
-- run: test/cases/README.md, funnel_runner.sql.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv here PG_ABS_SRCDIR
\set runner :here '/test/cases/funnel_runner.sql'
\set posthog :here '/test/cases/posthog_funnels_sample.json'
\set clickhouse :here '/test/cases/clickhouse_window_funnel_sample.json'
\set ECHO none
\i :runner
\set ECHO all
CALL test.funnel_file(:'posthog');
CALL test.funnel_file(:'clickhouse');
SELECT file, outcome, count(*) FROM test.funnel_result GROUP BY 1, 2 ORDER BY 1, 2;
SELECT file, name, outcome, detail FROM test.funnel_result WHERE outcome <> 'ok' OR detail IS NOT NULL ORDER BY 1, 2;
-- The runner sees what is wrong: the same cases with other windows, and with exclusions that are none.
SELECT pg_read_file(:'posthog') AS posthog_cases, pg_read_file(:'clickhouse') AS clickhouse_cases \gset
\set ECHO none
CALL test.funnel_cases('window less 1 s', regexp_replace(:'posthog_cases', '"window_s": \d+(\d)', '"window_s": \1', 'g')::jsonb);
CALL test.funnel_cases('exclusions of nothing', replace(:'posthog_cases', '"from_step": 0', '"props": {"never": 1}, "from_step": 0')::jsonb);
CALL test.funnel_cases('another order', replace(:'posthog_cases', '"order": "strict"', '"order": "ordered"')::jsonb);
CALL test.funnel_cases('another window', replace(:'clickhouse_cases', '"window": 3', '"window": 2')::jsonb);
\set ECHO all
SELECT file, count(*) FILTER (WHERE outcome IN ('differs', 'refused')) AS differs FROM test.funnel_result WHERE file NOT LIKE '%json' GROUP BY 1 ORDER BY 1;
