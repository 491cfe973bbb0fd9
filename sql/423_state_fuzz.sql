-- Entries of the state, damaged at random in memory: each is shown or refused,
-- and nothing else happens.  Another seed: CLICKSTREAM_SEED.
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t423;
SET search_path = t423;
CREATE FUNCTION fuzz_state(t regclass, seed bigint, cases integer, OUT shown bigint, OUT refused bigint) RETURNS SETOF record
AS '$libdir/clickstream', 'clickstream_fuzz_state' LANGUAGE C STRICT;
SELECT clickstream.create_stream('s423', watermark_delay => '10 minutes', visitor => 'user_id', dedupe_by => 'message_offset') > 0 AS made;
CREATE FUNCTION numbers() RETURNS text LANGUAGE sql AS $$ SELECT 'count(*) AS n, count(DISTINCT page_url) AS pages, sum(length(page_url)) AS s,
	min(event_time) AS mi, max(length(page_url)) AS ma, first(page_url) AS f, last(country) AS l, max(page_url) AS a, clickstream.approx_count_distinct(user_id) AS about, page_dwell(page_url) AS stays,
bool_or(page_url = ''1'') AS b' $$;
CREATE FUNCTION abc() RETURNS clickstream.step[] LANGUAGE sql AS $$
	SELECT ARRAY[clickstream.step('a', 'page_url = ''1'''), clickstream.step('b', 'page_url = ''2''', optional => true), clickstream.step('c', 'page_url = ''3''')] $$;
SELECT clickstream.create_session('plain', stream => 's423', gap => '3 minutes', measures => numbers());
SELECT clickstream.create_session('revised', stream => 's423', gap => '3 minutes', allowed_lateness => '10 minutes', emit => 'changes', measures => numbers());
SELECT clickstream.create_session('cut', stream => 's423', gap => '3 minutes', split_on => 'country', end_when => 'page_url = ''3''', max_length => '5 minutes', measures => numbers());
SELECT clickstream.create_session('nightly', stream => 's423', gap => '30 minutes', split_at_midnight => true, time_zone => 'Europe/Vienna', measures => numbers());
SELECT clickstream.create_session('numbered', stream => 's423', gap => '3 minutes', key => 'length(page_url)', measures => numbers());
SELECT clickstream.create_window('tumbling', stream => 's423', size => '10 minutes', group_by => 'page_url, length(country) AS len', measures => numbers());
SELECT clickstream.create_window('hopping', stream => 's423', size => '10 minutes', slide => '5 minutes', group_by => 'page_url', measures => numbers(), allowed_lateness => '5 minutes');
SELECT clickstream.create_window('cumulative', stream => 's423', size => '1 hour', step => '20 minutes', group_by => 'page_url', measures => numbers());
SELECT clickstream.create_rollup('rolled', source => 'plain', size => '1 day', measures => 'count(*) AS n, sum(n) AS s, max(pages) AS m');
SELECT clickstream.create_funnel('ordered', stream => 's423', within => '8 minutes', steps => abc(), exclusions => ARRAY[clickstream.exclusion('page_url = ''0''')]);
SELECT clickstream.create_funnel('broken_down', stream => 's423', within => '8 minutes', steps => abc(), breakdown => 'country', allowed_lateness => '10 minutes', emit => 'changes');
SELECT clickstream.create_funnel('strict', stream => 's423', within => '8 minutes', mode => 'strict', steps => abc());
SELECT clickstream.create_funnel('unordered', stream => 's423', within => '8 minutes', mode => 'unordered',
	steps => ARRAY[clickstream.step('a', 'page_url = ''1'''), clickstream.step('b', 'page_url = ''2'''), clickstream.step('c', 'page_url = ''3''')]);
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\echo seed :seed
SELECT setseed(:seed / 1000000.0);
-- whatever the seed, something is open of each of them: a session that is over for the rollup, attempts
SELECT test.feed('s423', E'v 0:01 3\nw 0:02 1 country=A');
SELECT test.feed('s423', string_agg(format('u%s %s %s country=%s', (random() * 8)::int, make_interval(secs => t * 4 + (random() * 60)::int),
	(random() * 3)::int, chr(65 + (random() * 2)::int)), E'\n')) FROM generate_series(0, 400) AS t;
-- more than fit into an entry
SELECT test.feed('s423', string_agg(format('u1 0:27 /%s', i), E'\n')) FROM generate_series(1, 60) AS i;
SELECT test.feed('s423', E'w 0:27 1 country=A');
CALL clickstream.process('s423');
SELECT t, shown + refused AS cases, shown > 0 AS some_are_shown, refused > 300 AS many_are_refused
FROM unnest('{plain,revised,cut,nightly,numbered,tumbling,hopping,cumulative,rolled,ordered,broken_down,strict,unordered}'::text[]) AS t,
	LATERAL fuzz_state(t::regclass, :seed::bigint, 2000);
-- nothing of it was stored
SELECT count(*) FROM clickstream.damaged_state('s423');
CALL clickstream.finish('s423');
SELECT * FROM clickstream.audit('s423');
SELECT clickstream.drop_stream('s423');
