-- What a running stream's open state takes of clickstream.state_memory, and
-- what is read of it while it runs.
CREATE SCHEMA t400;
SET search_path = t400;
SELECT clickstream.create_stream('s400', watermark_delay => '0 s', idle_timeout => '1 day') AS id \gset
SELECT clickstream.create_session('visits', stream => 's400', gap => '1 hour', measures => 'count(*) AS event_count, count(DISTINCT page_url) AS pages');
SELECT clickstream.create_window('hours', stream => 's400', size => '1 hour', measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors');

CREATE PROCEDURE poll(what text) LANGUAGE plpgsql AS $$
DECLARE
	done boolean;
BEGIN
	FOR i IN 1 .. 30000 LOOP
		EXECUTE 'SELECT ' || what INTO done;
		COMMIT;
		EXIT WHEN done;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE INFO '%: %', what, done;
END $$;

-- not running: only what lies on disk
SELECT stream, budget, used, entries, own_bytes, log_a_bytes, log_b_bytes > 0 AS log_b, spill_table_bytes > 0 AS spill FROM clickstream.stat_memory WHERE stream = 's400';

SELECT clickstream.start('s400');
-- 100 visitors, one of them with an entry of more than 8 kB, and a set of 3,000 members
SELECT count(clickstream.produce('s400', json_build_object('event_type', 'page_view', 'user_id', 'v' || i % 100,
	'event_time', '2024-06-01 00:00:00+00'::timestamptz + i * interval '10 ms', 'page_url', '/' || i)::text)) FROM generate_series(1, 1000) AS i;
SELECT count(clickstream.produce('s400', json_build_object('event_type', 'page_view', 'user_id', 'reader', 'event_time', '2024-06-01 00:01:00+00',
	'page_url', '/' || i)::text)) FROM generate_series(1, 3000) AS i;
SELECT count(clickstream.produce('s400', json_build_object('event_type', 'page_view', 'user_id', repeat('long ', 4000), 'event_time', '2024-06-01 00:01:00+00',
	'page_url', '/' || i)::text)) FROM generate_series(1, 2) AS i;
CALL clickstream.wait_for('s400', '5 minutes');
CALL poll($$entries = 103 FROM clickstream.stat_memory WHERE stream = 's400'$$);
SELECT budget > used AS fits, used > 100 * 128 + 20000 + 3000 * 16 AS used, set_bytes > 3000 * 16 AS sets, index_bytes > 0 AS index, kept_bytes >= 0 AS kept,
	own_bytes, spilled_keys, spill_index_bytes, batch_bytes > 0 AS batch
FROM clickstream.stat_memory WHERE stream = 's400';

-- out of shared memory, also what lies there in pieces
SELECT left(visitor, 10) AS visitor, length(visitor), event_count, measures FROM clickstream.open_sessions('visits')
WHERE visitor !~ '^v' OR visitor = 'v7' ORDER BY 1;
SELECT measures FROM clickstream.open_windows('hours');
-- the very same out of the log
CREATE TABLE seen AS SELECT visitor, session_start, event_count, measures, commit_number > 0 AS has_number FROM clickstream.open_sessions('visits');
SELECT clickstream.stop('s400');
CALL poll($$state = 'stopped' FROM clickstream.stat_stream WHERE stream = 's400'$$);
SELECT count(*) FROM seen;
(TABLE seen EXCEPT SELECT visitor, session_start, event_count, measures, commit_number > 0 FROM clickstream.open_sessions('visits'))
UNION ALL
(SELECT visitor, session_start, event_count, measures, commit_number > 0 FROM clickstream.open_sessions('visits') EXCEPT TABLE seen);
SELECT budget, entries FROM clickstream.stat_memory WHERE stream = 's400';

-- goes on where it was
SELECT clickstream.start('s400');
SELECT clickstream.produce('s400', json_build_object('event_type', 'page_view', 'user_id', 'reader', 'event_time', '2024-06-01 00:02:00+00', 'page_url', '/more')::text) >= 0 AS produced;
CALL clickstream.wait_for('s400', '5 minutes');
SELECT event_count, measures FROM clickstream.open_sessions('visits') WHERE visitor = 'reader';

-- what finds 1,400 more entries has places for 4,096, 16 bytes each: it is at most 0.6 full
SELECT count(clickstream.produce('s400', json_build_object('event_type', 'page_view', 'user_id', 'more' || i, 'event_time', '2024-06-01 00:02:00+00')::text))
FROM generate_series(1, 1400) AS i;
CALL clickstream.wait_for('s400', '5 minutes');
CALL poll($$entries = 1503 FROM clickstream.stat_memory WHERE stream = 's400'$$);
SELECT index_bytes >= 4096 * 16 AS index FROM clickstream.stat_memory WHERE stream = 's400';
SELECT clickstream.stop('s400');
CALL poll($$state = 'stopped' FROM clickstream.stat_stream WHERE stream = 's400'$$);
SELECT clickstream.drop_stream('s400');
DROP SCHEMA t400 CASCADE;
