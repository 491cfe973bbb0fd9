-- The spill table in a stream's life: readers, altered and dropped
-- definitions, reset(), late events applied again, damage.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
SET clickstream.force_spill = 0;
CREATE SCHEMA t411;
SET search_path = t411;
-- what lies in the table, by definition; sets are under the complement
CREATE FUNCTION spilled(OUT definition text, OUT entries bigint, OUT rows bigint) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format($q$SELECT coalesce(d.table_oid::text, CASE WHEN s.definition < 0 THEN 'sets' ELSE 'no definition' END),
			count(DISTINCT (s.bucket, s.who)), count(*)
		FROM %s s LEFT JOIN clickstream.definition d ON d.definition_id = s.definition GROUP BY 1 ORDER BY 1$q$,
		(SELECT spill_relation FROM clickstream.stream WHERE name = 's411'));
END
$$;
CREATE FUNCTION spill_table() RETURNS regclass LANGUAGE sql AS $$ SELECT spill_relation FROM clickstream.stream WHERE name = 's411' $$;

SELECT clickstream.create_stream('s411', watermark_delay => '0', idle_timeout => '1 day') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's411', gap => '30 minutes',
	measures => 'count(*) AS event_count, count(DISTINCT page_url) AS pages, max(repeat(page_url, 3000)) AS long');
SELECT clickstream.create_session('others', stream => 's411', gap => '30 minutes');
SELECT clickstream.create_window('hours', stream => 's411', size => '1 hour', group_by => 'user_id', emit => 'closed', measures => 'count(*) AS events');
-- one visitor with 60 pages, three with one
SELECT test.feed('s411', string_agg(format('a 0:%s /a%s', to_char(i, 'FM00'), to_char(i, 'FM000')), E'\n' ORDER BY i)) FROM generate_series(0, 9) i;
SELECT test.feed('s411', string_agg(format('a 0:10:%s /b%s', to_char(i, 'FM00'), to_char(i, 'FM000')), E'\n' ORDER BY i)) FROM generate_series(0, 49) i;
SELECT test.feed('s411', $$
	b   0:11    /b
	c   0:11    /c
	d   0:11    /d
$$);
CALL clickstream.process('s411');
-- a commit leaves what it has touched, but for some that go to the table at once
SELECT * FROM spilled();
SELECT test.feed('s411', 'x 0:12 /x');
CALL clickstream.process('s411');
SELECT * FROM spilled();

-- readers see all of it
SELECT visitor, event_count, measures->>'pages' AS pages, length(measures->>'long') AS long FROM clickstream.open_sessions('visits') ORDER BY visitor;
SELECT count(*) FROM clickstream.open_sessions('others');
SELECT groups, (measures->>'events')::int AS events FROM clickstream.open_windows('hours') ORDER BY 1;
SELECT state_entries FROM clickstream.stat_definition WHERE definition = 'visits'::regclass;

-- what comes back unchanged keeps its row; what changes has another one, or none
SELECT test.feed('s411', $$
	b   0:13    /b
	x   0:13    /x
$$);
CALL clickstream.process('s411');
SELECT * FROM spilled();
SELECT visitor, event_count FROM clickstream.open_sessions('visits') ORDER BY visitor;

-- altered: all is read again, and due by what is said now
SELECT clickstream.alter_session('visits', allowed_lateness => '1 hour');
SELECT test.feed('s411', 'y 0:14 /y');
CALL clickstream.process('s411');
SELECT visitor, event_count FROM clickstream.open_sessions('visits') ORDER BY visitor;

-- dropped: the next commits delete what is left of it
SELECT clickstream.drop_session('others');
SELECT * FROM spilled();
SELECT test.feed('s411', 'y 0:15 /y');
CALL clickstream.process('s411');
SELECT * FROM spilled();

-- closed on time, though nobody has asked for them: at 0:43 b, c, d and a; y and x later
SELECT test.feed('s411', 'z 0:43 /z');
CALL clickstream.process('s411');
SELECT effective_user_id, event_count, pages, length(long) AS long, closed_reason, is_final FROM visits ORDER BY 1;
SELECT visitor, event_count FROM clickstream.open_sessions('visits') ORDER BY visitor;
-- a late event of one that is closed and spilled
SELECT test.feed('s411', 'c 0:20 /c2');
CALL clickstream.process('s411');
SELECT effective_user_id, event_count, pages, is_final, revision FROM visits WHERE effective_user_id = 'c';

-- damage is found where it is read, and says so (not with its stream's number: that depends on who was before)

DO $$ BEGIN EXECUTE format('CREATE TABLE kept_rows AS TABLE %s', spill_table()); END $$;
DO $$ BEGIN EXECUTE format('UPDATE %s SET data = overlay(data PLACING ''\x00'' FROM 9) WHERE definition >= 0 AND piece = 0', spill_table()); END $$;
SELECT test.feed('s411', 'd 0:44 /d');
\set VERBOSITY sqlstate
CALL clickstream.process('s411');
SELECT regexp_replace(:'LAST_ERROR_MESSAGE', '_\d+,', '_N,') AS error;
DO $$ BEGIN EXECUTE format('DELETE FROM %s', spill_table()); EXECUTE format('INSERT INTO %s TABLE kept_rows', spill_table()); END $$;
DO $$ BEGIN EXECUTE format('DELETE FROM %s WHERE piece = 1', spill_table()); END $$;
CALL clickstream.process('s411');
SELECT regexp_replace(:'LAST_ERROR_MESSAGE', '_\d+,', '_N,') AS error;
\set VERBOSITY default
DO $$ BEGIN EXECUTE format('DELETE FROM %s', spill_table()); EXECUTE format('INSERT INTO %s TABLE kept_rows', spill_table()); END $$;
CALL clickstream.process('s411');
SELECT visitor, event_count FROM clickstream.open_sessions('visits') ORDER BY visitor;

-- all is closed, nothing is left
CALL clickstream.finish('s411');
SELECT effective_user_id, event_count, pages, length(long) AS long, is_final FROM visits ORDER BY 1, 2;
SELECT * FROM spilled();

-- reset() empties the table, too; and what was there does not come back
SELECT clickstream.reset('s411');
CALL clickstream.process('s411', 62);
CALL clickstream.process('s411', 1);
SELECT sum(entries) > 0 AS has_entries FROM spilled();
SELECT clickstream.reset('s411');
SELECT * FROM spilled();
SELECT count(*) FROM clickstream.open_sessions('visits');
CALL clickstream.process('s411');
SELECT visitor, event_count FROM clickstream.open_sessions('visits') ORDER BY visitor;

-- and it goes with the stream
SELECT clickstream.drop_stream('s411');
SELECT count(*) FROM pg_class WHERE relname LIKE 'state_spill_%';
RESET clickstream.force_spill;
DROP SCHEMA t411 CASCADE;
