-- How far approx_count_distinct() is off: for each number of different values,
-- in percent of it, over many sets of values.  README.md and doc/semantics.md
-- have the figures.  In any database that has the extension:
--
--   psql -X -f bench/approx_error.sql
--
-- A minute or so.  -v most=100000 leaves out the larger ones.
\if :{?most}
\else
\set most 10000000
\endif
SET max_parallel_workers_per_gather = 0;
WITH plan(n, sets) AS (
	VALUES (100, 200), (1000, 200), (2048, 100), (2100, 100), (3000, 100), (5000, 100), (10000, 100), (20000, 100), (30000, 100), (40000, 100),
		(50000, 60), (70000, 60), (100000, 60), (300000, 30), (1000000, 16), (3000000, 6), (10000000, 3)
), counted AS (
	SELECT n, s, (SELECT clickstream.approx_count_distinct(s * 1000000007::bigint * 4099 + i) FROM generate_series(1, n) AS i) AS about
	FROM plan, generate_series(1, sets) AS s WHERE n <= :most
)
SELECT n AS "values", count(*) AS sets,
	round(avg(100.0 * (about - n) / n), 3) AS "mean error, %",
	round(sqrt(avg((100.0 * (about - n) / n) ^ 2)), 3) AS "standard error, %",
	round(max(abs(100.0 * (about - n) / n)), 3) AS "largest error, %"
FROM counted GROUP BY n ORDER BY n;
