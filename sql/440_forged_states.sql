-- What an aggregate or a type believes of its stored bytes has a checksum:
-- damaged, it is refused with the key named, and never shown or handed on.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA t440;
SET search_path = t440;
CREATE FUNCTION fuzz_state(t regclass, seed bigint, cases integer, OUT shown bigint, OUT refused bigint) RETURNS SETOF record
AS '$libdir/clickstream', 'clickstream_fuzz_state' LANGUAGE C STRICT;
CREATE FUNCTION flip_state(t regclass, "column" text, OUT shown bigint, OUT refused bigint, OUT changed bigint) RETURNS SETOF record
AS '$libdir/clickstream', 'clickstream_flip_state' LANGUAGE C STRICT;
SELECT clickstream.create_stream('s440', watermark_delay => '10 minutes') > 0 AS made;
CREATE FUNCTION believing() RETURNS text LANGUAGE sql AS $$ SELECT 'avg(length(page_url) + 0.5) AS a, variance(length(page_url)::numeric) AS v,
	sum(length(page_url)::numeric * 1e30) AS s, avg(length(page_url)::float8) AS f, first(jsonb_build_object(''page'', page_url, ''n'', ARRAY[1, 2])) AS j,
	last(ARRAY[page_url, user_id]) AS l, count(*) AS n, max(page_url::name::text) AS m, first(page_url::name) AS name, min(make_interval(mins => length(page_url))) AS i' $$;
SELECT clickstream.create_session('visits', stream => 's440', gap => '3 minutes', measures => believing());
SELECT clickstream.create_session('visits_by_list', stream => 's440', gap => '3 minutes', key => 'ARRAY[user_id, page_url]', measures => believing());
SELECT clickstream.create_window('views', stream => 's440', size => '10 minutes', group_by => 'page_url, jsonb_build_object(''page'', page_url) AS page', measures => believing());
SELECT clickstream.create_window('rolling', stream => 's440', size => '10 minutes', slide => '5 minutes', group_by => 'page_url', measures => believing());
SELECT clickstream.create_rollup('metrics', source => 'visits', size => '1 day', measures => 'avg(a) AS a, max(a) AS m, variance(v) AS v');
SELECT clickstream.create_funnel('buys', stream => 's440', within => '8 minutes', breakdown => 'ARRAY[page_url] AS pages',
	steps => ARRAY[clickstream.step('a', 'page_url <> ''/b'''), clickstream.step('b', 'page_url = ''/b''')]);
-- the window has nothing in it but this: where the bits are that count
SELECT clickstream.create_window('average', stream => 's440', size => '10 minutes', measures => 'avg(length(page_url) + 0.25) AS x');
SELECT clickstream.create_window('one_json', stream => 's440', size => '10 minutes', measures => 'last(jsonb_build_object(''page'', page_url)) AS x');
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\echo seed :seed
SELECT test.feed('s440', E'ann 0:00 /a\nann 0:01 /bb\nbob 0:01:30 /b\nbob 0:02 /ccc\ncid 0:11 /a\nzed 0:18 /a');
CALL clickstream.process('s440');
SELECT t, shown + refused AS cases, shown > 0 AS some_are_shown, refused > 600 AS many_are_refused
FROM unnest('{visits,visits_by_list,views,rolling,metrics,buys,average,one_json}'::text[]) AS t, LATERAL fuzz_state(t::regclass, :seed::bigint, 2000);
-- each bit of an entry: whatever it is, what is shown was so before
SELECT t, c, refused > shown AS most_are_refused, changed > 0 AS changed
FROM (VALUES ('average', 'x'), ('one_json', 'x'), ('views', 'a'), ('views', 'v'), ('views', 's'), ('views', 'f'), ('views', 'j'), ('views', 'l'),
	('views', 'page')) AS c(t, c), LATERAL flip_state(t::regclass, c);
-- a text may be anything, so that one bit makes another one of it
SELECT changed > 0 AS changed FROM flip_state('views', 'page_url');
-- the stream stops, and says which entry it is; and goes on without it
CALL clickstream.process('s440');
SET clickstream.mutant = 'damage_value';
SELECT test.feed('s440', E'dan 0:12 /d');
CALL clickstream.process('s440');
RESET clickstream.mutant;
CALL clickstream.process('s440');
\set VERBOSITY terse
SELECT * FROM clickstream.open_windows('views');
SELECT * FROM clickstream.open_windows('average');
SELECT * FROM clickstream.open_sessions('visits_by_list');
SELECT definition, state_key, problem FROM clickstream.damaged_state('s440') ORDER BY definition::text, 2, 3;
SELECT count(*) > 0 AS given_up FROM clickstream.discard_damaged_state('s440');
\set VERBOSITY default
CALL clickstream.process('s440');
SELECT count(*) FROM clickstream.damaged_state('s440');
SELECT test.feed('s440', E'dan 0:13 /d');
CALL clickstream.process('s440');
SELECT visitor, measures -> 'n' AS n, measures -> 'a' AS a FROM clickstream.open_sessions('visits') ORDER BY 1;
-- an aggregate that is not what it was: it does not take its state back
CREATE AGGREGATE mean(numeric) (sfunc = numeric_avg_accum, stype = internal, finalfunc = numeric_avg, serialfunc = numeric_avg_serialize,
	deserialfunc = numeric_avg_deserialize, combinefunc = numeric_avg_combine, parallel = safe);
SELECT clickstream.create_session('measured', stream => 's440', gap => '3 minutes', measures => 'mean(length(page_url)) AS x');
SELECT clickstream.create_window('also', stream => 's440', size => '10 minutes', measures => 'mean(length(page_url)) AS x');
SELECT clickstream.create_rollup('too', source => 'measured', size => '1 day', measures => 'mean(x) AS x');
SELECT test.feed('s440', E'dan 0:14 /d\neve 0:18 /d\neve 0:30 /d');
CALL clickstream.process('s440');
SELECT groups, measures FROM clickstream.open_windows('also') ORDER BY 1;
CREATE OR REPLACE AGGREGATE mean(numeric) (sfunc = numeric_avg_accum, stype = internal, finalfunc = numeric_avg, serialfunc = numeric_avg_serialize,
	deserialfunc = numeric_poly_deserialize, combinefunc = numeric_avg_combine, parallel = safe);
\set VERBOSITY terse
SELECT * FROM clickstream.open_windows('also');
SELECT test.feed('s440', E'eve 0:31 /d');
CALL clickstream.process('s440');
\set VERBOSITY default
SELECT definition, state_key, problem FROM clickstream.damaged_state('s440') ORDER BY definition::text, 2, 3;
CREATE OR REPLACE AGGREGATE mean(numeric) (sfunc = numeric_avg_accum, stype = internal, finalfunc = numeric_avg, serialfunc = numeric_avg_serialize,
	deserialfunc = numeric_avg_deserialize, combinefunc = numeric_avg_combine, parallel = safe);
CALL clickstream.finish('s440');
SELECT effective_user_id, x FROM measured ORDER BY session_start;
SELECT x FROM also ORDER BY window_start;
SELECT * FROM clickstream.audit('s440');
SELECT clickstream.drop_stream('s440');
