-- What is open: open_windows, open_funnels, open_rows; who may see it; against
-- the rows that emit => 'changes' writes.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t420;
SET search_path = t420;
SELECT clickstream.create_stream('s420') > 0 AS made;
SELECT clickstream.create_window('views', stream => 's420', size => '10 minutes', group_by => 'page_url, length(page_url) AS len',
	measures => 'count(*) AS n, count(DISTINCT user_id) AS users, last(user_id) AS newest', emit => 'closed');
SELECT clickstream.create_window('rolling', stream => 's420', size => '10 minutes', slide => '5 minutes', measures => 'count(*) AS n');
SELECT clickstream.create_window('so_far', stream => 's420', size => '1 day', step => '6 hours', measures => 'count(*) AS n');
SELECT clickstream.create_window('months', stream => 's420', size => '1 month', time_zone => 'Europe/Vienna', measures => 'count(*) AS n');
SELECT clickstream.create_session('visits', stream => 's420', gap => '30 minutes', measures => 'count(*) AS event_count');
SELECT clickstream.create_rollup('by_hour', source => 'visits', size => '1 hour', measures => 'count(*) AS sessions', emit => 'closed');
SELECT clickstream.create_funnel('buy', stream => 's420', within => '1 hour', breakdown => 'utm_source', steps => ARRAY[
	clickstream.step('look', 'page_url LIKE ''/p%'''), clickstream.step('cart', 'page_url = ''/cart'''), clickstream.step('pay', 'page_url = ''/paid''')]);
SELECT count(*) AS before_anything FROM clickstream.open_windows('views');
SELECT test.feed('s420', $$
	ann 0:00    /p1     utm_source=ad
	bob 0:01    /p2
	ann 0:05    /cart
	cid 0:11    /p1     utm_source=ad
	cid 0:12    /cart
	cid 0:12:01 /paid
	bob 0:12:05 /p1
	-   0:12:07 /p1
$$);
CALL clickstream.process('s420');
SELECT test.at(window_start) AS start, test.at(window_end) AS "end", groups, measures, is_rest FROM clickstream.open_windows('views') ORDER BY 1, groups;
SELECT test.at(window_start) AS start, test.at(window_end) AS "end", groups, measures FROM clickstream.open_windows('rolling') ORDER BY 1;
SELECT test.at(window_start) AS start, test.at(window_end) AS "end", measures FROM clickstream.open_windows('so_far') ORDER BY 2;
SELECT window_start, window_end, measures FROM clickstream.open_windows('months') ORDER BY 1;
-- attempts: 11:57 is the watermark, so cid's payment waits, and is counted as if nothing more came
SELECT attempt_id, visitor, level, step, test.at(started_at) AS started, test.at(expires_at) AS expires, step_times, breakdown, waiting_events,
	commit_number <= (SELECT commit_number FROM clickstream.stat_stream WHERE stream = 's420') AS newest
FROM clickstream.open_funnels('buy') ORDER BY 1;
SELECT test.at(window_start) AS start, measures FROM clickstream.open_windows('by_hour');
-- as rows of the table
SELECT test.at(window_start) AS start, page_url, len, n, users, newest, is_final, revision FROM views_live WHERE NOT is_final ORDER BY 1, 2;
SELECT attempt_id, effective_user_id, utm_source, level, test.at(cart_time) AS cart, is_conversion, closed_reason FROM buy_live WHERE NOT is_final ORDER BY 1;
SELECT session_id, effective_user_id, event_count, closed_reason, is_final FROM visits_live ORDER BY 1;
-- the table may be given columns and another name
ALTER TABLE views ADD COLUMN note text DEFAULT 'x';
ALTER TABLE views RENAME TO page_views;
SELECT n, page_url FROM clickstream.open_rows('page_views') AS o(page_url text, n bigint) ORDER BY 1, 2;
-- later: an hour in which a session has closed; then ann's attempt has ended
SELECT test.feed('s420', 'dan 0:40:10 /p1');
CALL clickstream.process('s420');
SELECT test.at(window_start) AS start, measures FROM clickstream.open_windows('by_hour');
SELECT test.feed('s420', 'dan 1:05:10 /p1');
CALL clickstream.process('s420');
SELECT visitor, level, step, waiting_events FROM clickstream.open_funnels('buy') ORDER BY 1;
-- mistakes
SELECT clickstream.open_windows('visits');
SELECT clickstream.open_funnels('page_views');
SELECT clickstream.open_sessions('by_hour');
CREATE TABLE other (a int);
SELECT clickstream.open_windows('other');
SELECT * FROM clickstream.open_rows('other') AS o(a int);
SELECT clickstream.open_rows('page_views');
SELECT * FROM clickstream.open_rows('page_views') AS o(n int);
SELECT * FROM clickstream.open_rows('page_views') AS o(note text);
SELECT * FROM clickstream.open_windows(NULL);
-- who may see it: who may read the table
CREATE ROLE reader420;
GRANT USAGE ON SCHEMA t420 TO reader420;
SET ROLE reader420;
SELECT clickstream.open_windows('page_views');
SELECT * FROM clickstream.open_rows('page_views') AS o(n bigint);
SELECT clickstream.open_funnels('buy');
RESET ROLE;
GRANT SELECT ON page_views, buy TO reader420;
SET ROLE reader420;
SELECT count(*) FROM clickstream.open_windows('page_views');
SELECT count(*) FROM clickstream.open_rows('page_views') AS o(n bigint);
SELECT count(*) FROM clickstream.open_funnels('buy');
RESET ROLE;
REVOKE ALL ON page_views, buy FROM reader420;
REVOKE ALL ON SCHEMA t420 FROM reader420;
DROP ROLE reader420;
SELECT clickstream.drop_stream('s420');

-- Of each kind one that shows its rows when they close and one that shows them
-- at once: what is open of the first is what is not final in the second.
SELECT clickstream.create_stream('s420', watermark_delay => '0') > 0 AS made;
DO $$
DECLARE
	emit text;
	form text;
	forms constant text[] := ARRAY['size => ''10 minutes''', 'size => ''30 minutes'', slide => ''5 minutes''',
		'size => ''1 hour'', step => ''5 minutes''', 'size => ''1 day'', time_zone => ''Europe/Vienna'''];
BEGIN
	FOREACH emit IN ARRAY ARRAY['closed', 'changes'] LOOP
		FOR i IN 1 .. 4 LOOP
			EXECUTE format('SELECT clickstream.create_window(%L, stream => ''s420'', %s, group_by => ''page_url'', emit => %L, emit_interval => ''0'',
				measures => ''count(*) AS n, count(DISTINCT user_id) AS users, first(user_id) AS f, avg(length(user_id)::numeric) AS a'')',
				'w' || i || '_' || emit, forms[i], emit);
		END LOOP;
		EXECUTE format('SELECT clickstream.create_session(%L, stream => ''s420'', gap => ''7 minutes'', emit => %L, emit_interval => ''0'')', 'v_' || emit, emit);
		EXECUTE format('SELECT clickstream.create_funnel(%L, stream => ''s420'', within => ''20 minutes'', emit => %L, emit_interval => ''0'', breakdown => ''country'',
			steps => ARRAY[clickstream.step(''a'', ''page_url = ''''1''''''), clickstream.step(''b'', ''page_url = ''''2''''''), clickstream.step(''c'', ''page_url = ''''3'''''')])',
			'f_' || emit, emit);
	END LOOP;
END
$$;
-- Of a cumulative window a running total that is open, and not in the table: its group has had no event since the step before.
CREATE FUNCTION repeats_step(r jsonb, tab regclass) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	other constant text[] := ARRAY['window_end', 'is_final', 'revision'];
	repeats boolean;
BEGIN
	EXECUTE format('SELECT p.window_end < ($1 ->> ''window_end'')::timestamptz AND to_jsonb(p) - $2 = $1 - $2 FROM %s AS p
		WHERE p.window_start = ($1 ->> ''window_start'')::timestamptz AND p.group_key = ($1 ->> ''group_key'')::uuid
		AND p.window_end <= ($1 ->> ''window_end'')::timestamptz ORDER BY p.window_end DESC LIMIT 1', tab) INTO repeats USING r, other;
	RETURN coalesce(repeats, false);
END
$$;
CREATE PROCEDURE compare(seed int) LANGUAGE plpgsql AS $$
DECLARE
	name text;
	differences bigint;
	found_open bigint := 0;
	now_at int := 0;
	n bigint;
BEGIN
	PERFORM setseed(seed / 1e6);
	FOR round IN 1 .. 12 LOOP
		PERFORM test.feed('s420', string_agg(format('u%s %s %s country=%s', (random() * 6)::int,
			make_interval(secs => greatest(0, now_at + (random() * 240)::int - 60)), (random() * 3)::int, chr(65 + (random() * 1)::int)), E'\n'))
		FROM generate_series(1, 30);
		now_at := now_at + 60 + (random() * 600)::int;
		COMMIT;
		CALL clickstream.process('s420');
		FOREACH name IN ARRAY ARRAY['w1', 'w2', 'w3', 'w4', 'v', 'f'] LOOP
			EXECUTE format('WITH open AS (SELECT to_jsonb(o) AS r FROM %1$s_closed_live AS o WHERE NOT is_final), rows AS (SELECT to_jsonb(o) AS r FROM %1$s_changes AS o WHERE NOT is_final)
				SELECT count(*) FROM ((TABLE open EXCEPT ALL TABLE rows) UNION ALL (TABLE rows EXCEPT ALL TABLE open)) AS d WHERE %2$s', name,
				CASE name WHEN 'w3' THEN 'NOT repeats_step(r, ''w3_changes'')' ELSE 'true' END) INTO differences;
			IF differences > 0 THEN
				RAISE WARNING 'seed %: % differs in % rows in round %', seed, name, differences, round;
			END IF;
			EXECUTE format('SELECT count(*) FROM clickstream.open_rows(%L) AS o(is_final boolean)', name || '_changes') INTO n;
			found_open := found_open + n;
		END LOOP;
	END LOOP;
	IF found_open < 100 THEN
		RAISE WARNING 'seed %: only % open things were seen', seed, found_open;
	END IF;
END
$$;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\echo seed :seed
CALL compare(:seed);
SELECT clickstream.drop_stream('s420');
