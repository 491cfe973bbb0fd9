-- What an event that comes behind the watermark joins does not depend on where batches end: the visitor's last session, over by then, holds
-- back the decision about events that wait only until it is retired, be that at the end of a batch or before the next event.
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE SCHEMA t171;
SET search_path = t171;
CREATE TABLE outcome (batch_messages int, session_id text, session_start text, n bigint, closed_reason text);
CREATE PROCEDURE run(batch_messages int) LANGUAGE plpgsql AS $$
DECLARE
	e record;
BEGIN
	PERFORM set_config('clickstream.batch_messages', batch_messages::text, false);
	PERFORM clickstream.create_stream('s171', watermark_delay => '10 minutes');
	PERFORM clickstream.create_session('visits', stream => 's171', gap => '1 hour', max_length => '15 minutes', measures => 'count(*) AS n');
	-- a's first session is over when b has come; the event of 06:37 waits, and the next one is earlier
	FOR e IN SELECT * FROM (VALUES (1, 'a', '03:45'), (2, 'a', '06:37'), (3, 'b', '06:41'), (4, 'a', '06:20'), (5, 'b', '09:00')) v (i, who, at) ORDER BY i LOOP
		PERFORM clickstream.produce('s171', jsonb_build_object('user_id', e.who, 'event_time', '2024-06-01 ' || e.at || '+00', 'event_type', 'page_view')::text);
	END LOOP;
	COMMIT;
	CALL clickstream.process('s171');
	CALL clickstream.finish('s171');
	INSERT INTO outcome SELECT batch_messages, session_id, to_char(session_start, 'HH24:MI'), n, closed_reason FROM visits WHERE effective_user_id = 'a';
	PERFORM clickstream.drop_stream('s171');
END
$$;
CALL run(1000);
CALL run(1);
CALL run(3);
SELECT * FROM outcome ORDER BY batch_messages, session_start;
RESET clickstream.batch_messages;
SET client_min_messages = warning;
DROP SCHEMA t171 CASCADE;
