-- sequence_match(), sequence_count(), retention(): what ClickHouse's cases do not ask.
SET timezone = 'UTC';
SET search_path = public, clickstream;
CREATE TABLE e810 (who text, t timestamptz, what text);
INSERT INTO e810 VALUES
	('a', '2024-06-01 10:00', 'view'), ('a', '2024-06-01 10:10', 'cart'), ('a', '2024-06-01 11:10', 'buy'), ('a', '2024-06-01 11:20', 'view'),
	('a', '2024-06-01 11:30', 'buy'),
	('b', '2024-06-01 11:00', 'buy'), ('b', '2024-06-01 10:30', 'cart'), ('b', '2024-06-01 10:00', 'view'), ('b', NULL, 'view'),
	('c', '2024-06-01 10:00', NULL), ('c', '2024-06-01 10:00', 'cart');
SELECT who, p, sequence_match(p, t, what = 'view', what = 'cart', what = 'buy') AS found, sequence_count(p, t, what = 'view', what = 'cart', what = 'buy') AS times
FROM e810, (VALUES (1, '(?1)(?2)(?3)'), (2, '(?1).*(?3)'), (3, '(?1).(?3)'), (4, '(?2)(?t<=3600)(?3)'), (5, '(?2)(?t<3600)(?3)'), (6, '(?2)(?t>=3600)(?3)'),
	(7, '(?1)(?t==600)(?2)'), (8, '(?2)(?t>1800)(?3)'), (9, ''), (10, '(?3)(?t<=600.5)(?1)(?t<=0600.000000)(?3)')) AS p(n, p)
GROUP BY who, n, p ORDER BY n, who;
-- Of equal times, the order in which rows come, or that of ORDER BY.
SELECT sequence_match('(?1)(?2)', t, x = 1, x = 2 ORDER BY x) AS up, sequence_match('(?1)(?2)', t, x = 1, x = 2 ORDER BY x DESC) AS down
FROM (VALUES ('2024-06-01'::timestamptz, 1), ('2024-06-01', 2)) AS v(t, x);
SELECT sequence_match('(?1)', t, what = 'view'), sequence_count('(?1)', t, what = 'view') FROM e810 WHERE false;
-- A long pattern.
SELECT sequence_match(repeat('(?1)', n), t, true), sequence_match(repeat('(?1)', n + 1), t, true), sequence_count(repeat('(?1).*', n), t, true)
FROM (VALUES (63), (64), (200)) AS v(n), LATERAL (SELECT '2024-06-01'::timestamptz + i * interval '1 second' AS t FROM generate_series(1, n) AS i) AS s GROUP BY n ORDER BY n;
-- What is refused.
SELECT sequence_match(NULL, t, true) FROM e810;
SELECT format('SELECT sequence_match(%L, t, true, false) FROM e810', p) FROM unnest(ARRAY['(?3)', '(?0)', '(?)', '(?1', '(?1) (?2)', '(?t=5)', '(?t<=-5)',
	'(?1)(?t<=1)(?t>1)(?2)', '(?1)(?t<=x)(?2)', '(?1)ä(?2)', '*']) WITH ORDINALITY AS u(p, n) ORDER BY n \gexec
SELECT sequence_match('(?1)', t, what) FROM e810;
SELECT sequence_count('(?1).*(?1).*(?t>9999)(?1).*(?1).*(?1)(?t>1)(?2)', '2024-06-01'::timestamptz + i * interval '1 second', true, false) FROM generate_series(1, 1000) AS i;
-- Times that overflow are just long.
SELECT sequence_match('(?1)(?t<=99999999999999999999)(?2)', t, x = 1, x = 2), sequence_match('(?1)(?t>99999999999999999999)(?2)', t, x = 1, x = 2)
FROM (VALUES ('2024-06-01'::timestamptz, 1), ('2025-06-01', 2)) AS v(t, x);

-- Retention: NULL is false; nothing counts without the first.
SELECT who, retention(what = 'view', what = 'cart', what = 'buy'), retention(VARIADIC ARRAY[what = 'cart', what = 'buy']) AS of_array FROM e810 GROUP BY who ORDER BY who;
SELECT retention(what = 'view', true), retention(VARIADIC ARRAY[true]) AS of_array FROM e810 WHERE false;
SELECT retention(VARIADIC CASE what WHEN 'view' THEN ARRAY[true] ELSE ARRAY[true, false] END) FROM e810;
SELECT who, what, retention(what = 'view', what = 'buy') OVER (PARTITION BY who ORDER BY t) FROM e810 WHERE who = 'a';
SELECT retention(what) FROM e810;
-- In parallel.
CREATE TABLE many810 AS SELECT i % 100 AS who, '2024-06-01'::timestamptz + abs(hashint4(i) % 86400) * interval '1 second' + i * interval '1 microsecond' AS t, abs(hashint8(i) / 9 % 7) AS what FROM generate_series(1, 20000) AS i;
ALTER TABLE many810 SET (parallel_workers = 2);
CREATE VIEW answer810 AS
SELECT md5(string_agg(s::text, '' ORDER BY who)) FROM (
	SELECT who, sequence_count('(?1).*(?2)(?t<=600)(?3)', t, what = 1, what = 2, what = 3) AS n, sequence_match('(?1)(?2)(?3)', t, what = 1, what = 2, what = 3) AS found,
		retention(what = 1, what = 2 AND who > 50) AS retained
	FROM many810 GROUP BY who) AS s;
SET max_parallel_workers_per_gather = 0;
SELECT * FROM answer810 \gset alone_
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT who, sequence_count('(?1)', t, what = 1), retention(what = 1) FROM many810 GROUP BY who;
SELECT md5 = :'alone_md5' AS same FROM answer810;
RESET ALL;
DROP VIEW public.answer810;
DROP TABLE public.e810, public.many810;
