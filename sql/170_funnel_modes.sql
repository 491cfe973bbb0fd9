-- Funnels: strict, unordered, optional steps, exclusions, breakdown, report.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t170;
SET search_path = t170;
\set SHOW_CONTEXT never
-- A funnel over steps a, b, c in each way; one stream.
SELECT clickstream.create_stream('s170', watermark_delay => '1 hour') > 0 AS made;
CREATE FUNCTION abc(optional boolean DEFAULT false) RETURNS clickstream.step[] LANGUAGE sql AS $$
	SELECT ARRAY[clickstream.step('a', 'page_url ~ ''a'''), clickstream.step('b', 'page_url ~ ''b''', optional => optional),
		clickstream.step('c', 'page_url ~ ''c''')] $$;
SELECT clickstream.create_funnel('strict', stream => 's170', within => '10 minutes', mode => 'strict', filter => $$page_url <> 'hidden'$$,
	steps => abc());
SELECT clickstream.create_funnel('strict_optional', stream => 's170', within => '10 minutes', mode => 'strict', steps => abc(true));
SELECT clickstream.create_funnel('unordered', stream => 's170', within => '10 minutes', mode => 'unordered', steps => abc());
SELECT clickstream.create_funnel('exclusive', stream => 's170', within => '10 minutes', within_exclusive => true, steps => abc());
SELECT clickstream.create_funnel('optional', stream => 's170', within => '10 minutes', steps => abc(true));
SELECT clickstream.create_funnel('excluding', stream => 's170', within => '10 minutes', steps => abc(),
	exclusions => ARRAY[clickstream.exclusion($$page_url = 'x'$$, 'b', 'c')]);
SELECT clickstream.create_funnel('excluding_all', stream => 's170', within => '10 minutes', mode => 'unordered', steps => abc(),
	exclusions => ARRAY[clickstream.exclusion($$page_url = 'x'$$)]);
CREATE FUNCTION seen(t regclass) RETURNS TABLE (who text, level int, a text, b text, c text, seconds bigint, converted boolean, started text, reason text)
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT effective_user_id, level, test.at(a_time), test.at(b_time), test.at(c_time),
		funnel_duration_seconds, is_conversion, test.at(started_at), closed_reason FROM %s ORDER BY effective_user_id, started_at, attempt_id', t);
END
$$;
-- plain    converts everywhere but where x spoils it
-- between  something lies between b and c
-- hidden   something lies between, but the strict funnel's filter leaves it out
-- again    a, a, b, c: the second a begins anew
-- twice    a, b, b, c: consecutive only as a, b
-- edge     the last step at exactly 10 minutes
-- skip     no b
-- back     c, b, a
-- spoilt   x between b and c; the a and b behind it come less far
-- spared   x between a and b
-- anew     a, b, a, c: the optional b is shown, though its chain is the older one
-- ties     b, x, c at one time: in place order strict breaks at x; else there is an order in which x does no harm
SELECT test.feed('s170', $$
	plain    0:00   a
	plain    0:01   b
	plain    0:02   c
	between  0:00   a
	between  0:01   b
	between  0:02   other
	between  0:03   c
	hidden   0:00   a
	hidden   0:01   b
	hidden   0:02   hidden
	hidden   0:03   c
	again    0:00   a
	again    0:01   a
	again    0:02   b
	again    0:03   c
	twice    0:00   a
	twice    0:01   b
	twice    0:02   b
	twice    0:03   c
	edge     0:00   a
	edge     0:01   b
	edge     0:10   c
	skip     0:00   a
	skip     0:01   c
	back     0:00   c
	back     0:01   b
	back     0:02   a
	spoilt   0:00   a
	spoilt   0:01   b
	spoilt   0:02   x
	spoilt   0:03   c
	spoilt   0:04   a
	spoilt   0:05   b
	spared   0:00   a
	spared   0:01   x
	spared   0:02   b
	spared   0:03   c
	ties     0:00   a
	ties     0:01   b
	ties     0:01   x
	ties     0:01   c
	anew     0:00   a
	anew     0:01   b
	anew     0:02   a
	anew     0:03   c
$$);
CALL clickstream.finish('s170');
SELECT * FROM seen('strict');
SELECT * FROM seen('strict_optional') WHERE who IN ('skip', 'plain', 'twice', 'between');
SELECT * FROM seen('unordered') WHERE who IN ('plain', 'back', 'skip', 'twice', 'edge', 'spoilt');
SELECT * FROM seen('exclusive') WHERE who IN ('plain', 'edge');
SELECT * FROM seen('optional') WHERE who IN ('plain', 'skip', 'twice', 'back', 'anew');
SELECT * FROM seen('excluding') WHERE who IN ('plain', 'spoilt', 'spared', 'ties');
SELECT * FROM seen('excluding_all') WHERE who IN ('plain', 'back', 'spoilt', 'spared', 'ties');
SELECT used, filtered, late, balanced FROM test.ledger WHERE stream = 's170';
-- What the report makes of it.
SELECT step, name, reached, attempts, rate_from_previous AS previous, rate_from_first AS first, median_time, average_time FROM clickstream.funnel_report('excluding');
SELECT step, name, reached, attempts, rate_from_previous AS previous, rate_from_first AS first, median_time, average_time FROM clickstream.funnel_report('optional');
SELECT step, name, reached, attempts, rate_from_previous AS previous, rate_from_first AS first, median_time, average_time FROM clickstream.funnel_report('excluding_all');
SELECT clickstream.drop_stream('s170');

-- Breakdown: each value is a funnel of its own.
SELECT clickstream.create_stream('s170', watermark_delay => '2 hours') > 0 AS made;
SELECT clickstream.create_funnel('by_source', stream => 's170', within => '10 minutes', breakdown => 'utm_source, length(utm_campaign) AS campaign',
	steps => ARRAY[clickstream.step('a', $$page_url = 'a'$$), clickstream.step('b', $$page_url = 'b'$$)]);
SELECT clickstream.create_funnel('unordered_by_source', stream => 's170', within => '10 minutes', breakdown => 'utm_source', mode => 'unordered',
	steps => ARRAY[clickstream.step('a', $$page_url = 'a'$$), clickstream.step('b', $$page_url = 'b'$$)]);
SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute
WHERE attrelid = 'by_source'::regclass AND attnum BETWEEN 2 AND 6 ORDER BY attnum;
-- two      begins by mail and by search, and converts in both
-- none     no source, and another campaign later
-- one      search, then the same again
SELECT test.feed('s170', $$
	two   0:00  a  utm_source=mail
	two   0:01  a  utm_source=search  utm_campaign=summer
	two   0:02  b  utm_source=other
	none  0:00  a
	none  0:20  a  utm_campaign=spring
	none  0:21  b
	one   0:00  a  utm_source=search
	one   0:05  a  utm_source=search
	one   0:15  b
$$);
CALL clickstream.process('s170');
CALL clickstream.finish('s170');
SELECT attempt_id, effective_user_id AS who, utm_source, campaign, level, test.at(a_time) AS a, test.at(b_time) AS b, closed_reason
FROM by_source ORDER BY who, started_at;
SELECT attempt_id, effective_user_id AS who, utm_source, level, test.at(a_time) AS a, test.at(b_time) AS b, closed_reason
FROM unordered_by_source ORDER BY who, started_at;
SELECT breakdown_value, step, name, reached, attempts, rate_from_previous AS rate, median_time
FROM clickstream.funnel_report('by_source', breakdown => '{utm_source}');
SELECT breakdown_value, step, reached FROM clickstream.funnel_report('by_source', breakdown => '{utm_source, campaign}') WHERE step = 2;
-- By the time of entry; a key counts in each bucket that it enters.
SELECT test.at(bucket_start) AS bucket, step, reached, attempts FROM clickstream.funnel_report('by_source', bucket => '10 minutes');
SELECT test.at(bucket_start) AS bucket, step, reached FROM clickstream.funnel_report('by_source', bucket => '1 day', time_zone => 'Europe/Paris');
SELECT step, reached FROM clickstream.funnel_report('by_source', start_time => '2024-06-01 00:01+00', end_time => '2024-06-01 00:20+00');
SELECT * FROM clickstream.funnel_time_to_convert('by_source');
SELECT * FROM clickstream.funnel_time_to_convert('by_source', bins => 3, start_time => '2024-06-01 00:01+00');
SELECT * FROM clickstream.funnel_time_to_convert('by_source', start_time => '2024-06-02 00:00+00');
SELECT * FROM clickstream.funnel_time_to_convert('by_source', 2);
SELECT * FROM clickstream.funnel_time_to_convert('by_source', 1, 3);
SELECT * FROM clickstream.funnel_time_to_convert('by_source', bins => 0);
SELECT * FROM clickstream.funnel_time_to_convert('pg_class');
SELECT * FROM clickstream.funnel_time_to_convert(NULL);
SELECT * FROM clickstream.funnel_report('by_source', bucket => '1 month');
SELECT * FROM clickstream.funnel_report('pg_class');
SELECT * FROM clickstream.funnel_report('by_source_live');
SELECT * FROM clickstream.funnel_report('by_source', breakdown => '{nothing}');
SELECT * FROM clickstream.funnel_report(NULL);
SELECT clickstream.drop_stream('s170');

-- 32 steps, all of them optional but the first and the last, and a key with more attempts at a time than there may be.
SELECT clickstream.create_stream('s170', watermark_delay => '2 hours') > 0 AS made;
SELECT clickstream.create_funnel('long', stream => 's170', within => '1 hour',
	steps => ARRAY(SELECT clickstream.step('s' || i, format('page_url = %L', i), optional => i NOT IN (1, 16, 32)) FROM generate_series(1, 32) AS i));
SELECT clickstream.create_funnel('many', stream => 's170', within => '1 hour', breakdown => 'utm_source',
	steps => ARRAY[clickstream.step('a', 'utm_source IS NOT NULL'), clickstream.step('b', $$page_url = 'b'$$)]);
SELECT test.feed('s170', string_agg(format('all 0:%s %s', i, i), E'\n') || E'\nsome 0:00 1\nsome 0:01 8\nsome 0:02 16\nsome 0:03 20\nsome 0:04 32\nwrong 0:01 1\nwrong 0:02 32')
FROM generate_series(1, 32) AS i;
SELECT test.feed('s170', string_agg(format('many 0:00:%s x utm_source=u%s', i * 0.1, i), E'\n')) FROM generate_series(1, 120) AS i;
CALL clickstream.finish('s170');
SELECT effective_user_id, level, is_conversion, funnel_duration_seconds, test.at(s1_time) AS s1, test.at(s2_time) AS s2, test.at(s8_time) AS s8,
	test.at(s16_time) AS s16, test.at(s31_time) AS s31, test.at(s32_time) AS s32 FROM long ORDER BY 1;
SELECT closed_reason, count(*), count(DISTINCT utm_source) FROM many GROUP BY 1 ORDER BY 1;
SELECT clickstream.drop_stream('s170');

-- What contradicts itself is an error that names it, before anything is made.
SELECT clickstream.create_stream('s170') > 0 AS made;
CREATE FUNCTION bad(steps clickstream.step[], mode text DEFAULT 'ordered', exclusions clickstream.exclusion[] DEFAULT NULL, breakdown text DEFAULT NULL)
RETURNS regclass LANGUAGE sql AS $$
	SELECT clickstream.create_funnel('bad', stream => 's170', within => '1 hour', steps => steps, mode => mode, exclusions => exclusions, breakdown => breakdown) $$;
-- optional steps
SELECT bad(ARRAY[clickstream.step('a', $$page_url = 'a'$$, optional => true), clickstream.step('b', $$page_url = 'b'$$)]);
SELECT bad(ARRAY[clickstream.step('a', $$page_url = 'a'$$), clickstream.step('b', $$page_url = 'b'$$, optional => true)]);
SELECT bad(ARRAY[clickstream.step('a', $$page_url = 'a'$$), clickstream.step('b', $$page_url = 'b'$$, optional => true), clickstream.step('c', $$page_url = 'c'$$)], mode => 'unordered');
SELECT bad(ARRAY[clickstream.step('a', $$page_url = 'a'$$), clickstream.step('b', $$page_url = 'b'$$, optional => true), clickstream.step('b_again', $$page_url = 'b'$$)]);
SELECT bad(ARRAY[clickstream.step('a', $$page_url = 'a'$$), clickstream.step('b', $$page_url = 'b' AND user_id = 'u'$$, optional => true), clickstream.step('wider', $$page_url = 'b'$$)]);
-- exclusions
SELECT bad(abc(), exclusions => ARRAY[clickstream.exclusion($$page_url = 'x'$$, 'b', 'b')]);
SELECT bad(abc(), exclusions => ARRAY[clickstream.exclusion($$page_url = 'x'$$, 'c', 'b')]);
SELECT bad(abc(), exclusions => ARRAY[clickstream.exclusion($$page_url = 'x'$$, 'b', 'd')]);
SELECT bad(abc(), exclusions => ARRAY[clickstream.exclusion(NULL)]);
SELECT bad(abc(), exclusions => ARRAY[clickstream.exclusion('page_url')]);
SELECT bad(abc(), exclusions => ARRAY[clickstream.exclusion($$page_url ~ 'b'$$, 'a', 'b')]);
SELECT bad(abc(), exclusions => ARRAY[clickstream.exclusion($$page_url ~ 'b' OR page_url = 'x'$$)]);
SELECT bad(abc(), mode => 'unordered', exclusions => ARRAY[clickstream.exclusion($$page_url = 'x'$$, 'a', 'b')]);
SELECT bad(abc(), exclusions => ARRAY(SELECT clickstream.exclusion(format('page_url = %L', i)) FROM generate_series(1, 40) AS i));
-- modes, times, names
SELECT bad(abc(), mode => NULL);
SELECT bad(abc(), mode => 'loose');
SELECT bad(abc(), breakdown => 'utm_source AS level');
SELECT bad(abc(), breakdown => 'event_time AS a_time');
SELECT bad(abc(), breakdown => 'count(*) AS n');
SELECT bad(abc(), breakdown => 'point(1, 2) AS p');
SELECT clickstream.create_funnel('bad', stream => 's170', within => '1 hour', allowed_lateness => '-1 second', steps => abc());
SELECT clickstream.create_funnel('bad', stream => 's170', within => '1 hour', emit => 'sometimes', steps => abc());
SELECT to_regclass('bad') AS made;
-- an exclusion elsewhere than the step it equals is none of these
SELECT clickstream.create_funnel('good', stream => 's170', within => '1 hour', steps => abc(), exclusions => ARRAY[clickstream.exclusion($$page_url ~ 'c'$$, 'a', 'b')]);
SELECT clickstream.alter_funnel('good', mode => 'strict');
SELECT clickstream.alter_funnel('good', allowed_lateness => '1 hour');
SELECT clickstream.alter_funnel('good', emit_interval => '1 minute');
SELECT clickstream.drop_stream('s170');
DROP SCHEMA t170 CASCADE;
