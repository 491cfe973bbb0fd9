-- What a chunk of messages needs from the spill table comes back at once for each
-- definition: six hundred visitors are read in a few goes, not one by one.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t412;
SET search_path = t412;
SELECT clickstream.create_stream('s412', idle_timeout => '1 day', max_future => NULL) > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's412', gap => '1 hour');
SELECT clickstream.create_window('hours', stream => 's412', size => '1 hour', group_by => 'user_id', emit => 'closed', measures => 'count(*) AS events');
SELECT clickstream.create_funnel('steps', stream => 's412', within => '1 hour', emit => 'closed',
	steps => ARRAY[clickstream.step('first', $$page_url = '/a'$$), clickstream.step('second', $$page_url = '/b'$$)]);
CREATE FUNCTION say(page text, seconds int) RETURNS bigint LANGUAGE sql AS $$
SELECT count(clickstream.produce('s412', json_build_object('user_id', 'u' || i, 'page_url', page, 'event_time', '2025-01-01 00:00+00'::timestamptz + seconds * interval '1 second')::text))
FROM generate_series(1, 600) AS i
$$;
CREATE FUNCTION clock(seconds int) RETURNS boolean LANGUAGE sql AS $$
SELECT clickstream.produce('s412', json_build_object('user_id', 'clock', 'page_url', '/', 'event_time', '2025-01-01 00:00+00'::timestamptz + seconds * interval '1 second')::text) > 0
$$;
SET clickstream.force_spill = 0;
SELECT say('/a', 0);
CALL clickstream.process('s412');
SELECT clock(1);
CALL clickstream.process('s412');
SELECT say('/b', 2);
-- the tenth time that entries are read back would be an error
SET clickstream.fault = 'spill_read:error:10';
CALL clickstream.process('s412');
RESET clickstream.fault;
SELECT count(*), sum(event_count) FROM clickstream.open_sessions('visits');
SELECT count(*) FROM clickstream.open_funnels('steps') WHERE step = 'second';
-- and so it is the first time: they are read back
SELECT clock(3);
CALL clickstream.process('s412');
SELECT say('/b', 4);
SET clickstream.fault = 'spill_read:error:0';
CALL clickstream.process('s412');
RESET clickstream.fault;
CALL clickstream.process('s412');
CALL clickstream.finish('s412');
SELECT count(*), sum(event_count) FROM visits;
SELECT count(*), sum(events) FROM hours;
RESET clickstream.force_spill;
DROP SCHEMA t412 CASCADE;
SELECT clickstream.drop_stream('s412');
