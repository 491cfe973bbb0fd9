-- Definitions do not touch each other: each table is the same alone and
-- together with others, and an error harms only the definition that has it.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t080;
SET search_path = t080;
-- what can be made on a stream, one at a time
CREATE FUNCTION make(what text, stream text, prefix text) RETURNS regclass LANGUAGE plpgsql AS $$
DECLARE
	name text := format('t080.%s%s', prefix, what);
BEGIN
	RETURN CASE what
		WHEN 'sessions' THEN clickstream.create_session(name, stream => stream, gap => '2 minutes')
		WHEN 'cut' THEN clickstream.create_session(name, stream => stream, gap => '2 minutes', max_length => '5 minutes',
			measures => 'count(*) AS events, last(page_url) AS page', filter => $f$page_url <> '/3'$f$)
		WHEN 'tumbling' THEN clickstream.create_window(name, stream => stream, size => '1 minute', group_by => 'page_url',
			measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors, first(user_id) AS who')
		WHEN 'hopping' THEN clickstream.create_window(name, stream => stream, size => '3 minutes', slide => '1 minute',
			measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors')
		WHEN 'failing' THEN clickstream.create_window(name, stream => stream, size => '1 minute',
			measures => 'count(*) AS events, sum(60 / substr(page_url, 2)::int) AS broken')
		WHEN 'picky' THEN clickstream.create_window(name, stream => stream, size => '1 minute', filter => $f$user_id = 'v1'$f$,
			measures => 'count(*) AS events')
		WHEN 'funnel' THEN clickstream.create_funnel(name, stream => stream, within => '3 minutes', steps => ARRAY[
			clickstream.step('one', $f$page_url = '/1'$f$), clickstream.step('two', $f$page_url = '/2'$f$)])
	END;
END
$$;
CREATE TABLE kind (what text PRIMARY KEY);
INSERT INTO kind VALUES ('sessions'), ('cut'), ('tumbling'), ('hopping'), ('failing'), ('picky'), ('funnel');
-- every fifth event comes two or ten minutes late: some are late for the one, some for the other
CREATE TABLE line AS
SELECT i, format('v%s %s /%s part=%s', i % 7, (i * interval '7 seconds') - CASE i % 10 WHEN 0 THEN interval '10 minutes' WHEN 5 THEN '2 minutes' ELSE '0' END
	+ interval '15 minutes', i % 6, i % 2) AS line
FROM generate_series(1, 300) i;
INSERT INTO line VALUES (301, 'v1 1:00 -'), (302, '- 1:00:01 /nobody');
-- all together, then each on a stream of its own: of the same name, because ids begin with it
SELECT clickstream.create_stream('all') > 0 AS made;
SELECT make(what, 'all', 'all_') FROM kind ORDER BY what;
SELECT test.feed('all', string_agg(line, E'\n' ORDER BY i)) FROM line;
CALL clickstream.process('all');
CALL clickstream.finish('all');
CREATE TABLE together (what text, content text, late bigint, dead bigint);
INSERT INTO together
SELECT what, test.content(t), (SELECT count(*) FROM clickstream.late_event WHERE definition = t),
	(SELECT count(*) FROM clickstream.dead_letter WHERE definition = t)
FROM kind, LATERAL (SELECT ('all_' || what)::regclass AS t) x;
-- dead letters name the definition; / 0 and text that is no number
SELECT message_offset % 3 AS sample, partition, definition, cause, error, sqlstate FROM clickstream.dead_letter
WHERE stream = 'all' AND message_offset BETWEEN 2 AND 4 OR stream = 'all' AND error NOT LIKE 'division%' ORDER BY partition, message_offset;
SELECT count(*) FROM clickstream.dead_letter WHERE stream = 'all' AND definition IS NULL;
-- the failing one counts all others: 301 with a page less 50 of /0 and one of /nobody
SELECT sum(events) + (SELECT late FROM together WHERE what = 'failing') AS counted FROM all_failing;
SELECT dead FROM together WHERE what = 'failing';
SELECT clickstream.drop_stream('all');
CREATE PROCEDURE alone(what text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.create_stream('all');
	PERFORM make(what, 'all', 'all_');
	PERFORM test.feed('all', string_agg(line, E'\n' ORDER BY i)) FROM line;
	COMMIT;
	CALL clickstream.process('all');
	CALL clickstream.finish('all');
END
$$;
CREATE TABLE apart (LIKE together);
CREATE FUNCTION note(what text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO apart SELECT what, test.content(t), (SELECT count(*) FROM clickstream.late_event WHERE definition = t),
		(SELECT count(*) FROM clickstream.dead_letter WHERE definition = t)
	FROM (SELECT ('all_' || what)::regclass AS t) x;
	SELECT clickstream.drop_stream('all');
$$;
SELECT format('CALL alone(%L)', what), format('SELECT note(%L)', what) FROM kind ORDER BY what \gexec
SELECT what, t.content = a.content AS same_rows, t.late = a.late AS same_late, t.dead = a.dead AS same_dead,
	t.content <> 'empty' AS has_rows, t.late > 0 AS has_late, t.dead
FROM together t FULL JOIN apart a USING (what) ORDER BY what;

-- The ledger: used by any, else late for any, else filtered.
-- wm before the last lines is 0:59:50
SELECT clickstream.create_stream('s080') > 0 AS made;
SELECT clickstream.create_window('minute', stream => 's080', size => '1 minute', filter => $$page_url ~ 'm'$$, measures => 'count(*) AS events');
SELECT clickstream.create_window('hour', stream => 's080', size => '1 hour', filter => $$page_url ~ 'h'$$, measures => 'count(*) AS events');
SELECT clickstream.create_session('visits', stream => 's080', filter => $$page_url ~ 's'$$, measures => 'count(*) AS events');
SELECT test.feed('s080', $$
	a   1:00    /zzz
	a   0:30    /mh
	a   0:30    /m
	a   0:30    /h
	a   0:30    /n
	-   0:30    /s
	a   0:29    /ms
	a   0:31    /ms
	a   1:00    /n raw=
	a   1:00    /n raw=[]
$$);
CALL clickstream.process('s080');
-- used: /mh, /h, /ms at 0:31; late: /m, /ms at 0:29; filtered: /zzz, /n, /s of nobody; dead: "" and []
SELECT consumed, used, late, filtered, dead, balanced FROM test.ledger WHERE stream = 's080';
SELECT message_offset, definition FROM clickstream.late_event WHERE stream = 's080' ORDER BY 1, definition::text;
SELECT * FROM clickstream.audit('s080');
SELECT clickstream.drop_stream('s080');

-- The stream's own filter and an error in it: for all definitions alike.
SELECT clickstream.create_stream('s080', filter => 'length(page_url) > 10 / (length(page_url) - 3)') > 0 AS made;
SELECT clickstream.create_window('minute', stream => 's080', size => '1 minute', measures => 'count(*) AS events');
SELECT clickstream.create_session('visits', stream => 's080', measures => 'count(*) AS events');
SELECT test.feed('s080', $$
	a   0:00    /aa
	a   0:01    /aaaaa
	a   0:02    /aaa
$$);
CALL clickstream.finish('s080');
-- 10/0: dead; 10/3: 6 > 3 counts; 10/1: 4 > 10 filtered
SELECT message_offset, definition, cause, error, sqlstate FROM clickstream.dead_letter WHERE stream = 's080';
SELECT consumed, used, late, filtered, dead, balanced FROM test.ledger WHERE stream = 's080';
SELECT m.events AS windows, v.events AS sessions FROM minute m, visits v;
SELECT clickstream.drop_stream('s080');

-- Aggregates that fail: the transition belongs to the event, combine and what
-- is computed of the result to the measure, which is NULL then.
CREATE FUNCTION few(integer, integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE STRICT AS $$ BEGIN
	IF $1 + $2 > 5 THEN RAISE EXCEPTION 'too many'; END IF;
	RETURN $1 + $2; END $$;
CREATE AGGREGATE few(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0', COMBINEFUNC = few);
SELECT clickstream.create_stream('s080', extra_columns => 'n integer, big bigint') > 0 AS made;
SELECT clickstream.create_window('sums', stream => 's080', size => '1 minute',
	measures => 'count(*) AS events, sum(big::numeric) AS fine, sum(n) AS small, 100 / (sum(n) - 3) AS final, t080.few(n) AS few');
SELECT test.feed('s080', $$
	a   0:00:00 /   n=1 big=9223372036854775807
	a   0:00:01 /   n=2 big=9223372036854775807
	a   0:01:00 /   n=5 big=1
	a   0:02:00 /   n=4
	a   0:02:01 /   n=4
	a   0:02:02 /   n=0
$$);
CALL clickstream.finish('s080');
-- final: 100 / 0; few: 8 is more than 5, and stays so
SELECT test.at(window_start) AS start, events, fine, small, final, few FROM sums ORDER BY 1;
SELECT consumed, used, dead FROM test.ledger WHERE stream = 's080';
SELECT clickstream.drop_stream('s080');
DROP SCHEMA t080 CASCADE;
