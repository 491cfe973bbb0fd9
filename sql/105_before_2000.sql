-- Before 2000 moments are negative numbers: what a silent topic shows in parts is
-- all of it nevertheless, also of what is read back from the spill table.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t105;
SET search_path = t105;
CREATE PROCEDURE run(at_once int, entries int, OUT sessions text, OUT attempts text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('clickstream.mock_clock', '1999-06-01 12:00+00', false), set_config('clickstream.force_closings', at_once::text, false),
		set_config('clickstream.force_spill', entries::text, false);
	PERFORM clickstream.create_stream('s105', watermark_delay => '0', idle_timeout => '1 minute', max_future => NULL);
	PERFORM clickstream.create_session('t105.visits', stream => 's105', gap => '10 minutes', emit => 'closed');
	PERFORM clickstream.create_funnel('t105.tries', stream => 's105', within => '10 minutes', emit => 'closed',
		steps => ARRAY[clickstream.step('come', 'true'), clickstream.step('buy', $c$event_type = 'purchase'$c$)]);
	PERFORM clickstream.produce('s105', format('{"user_id": "u%s", "event_type": "page_view", "event_time": "1999-06-01T11:59:%sZ"}', i, 50 + i * 0.2), message_timestamp => NULL)
		FROM generate_series(0, 29) AS i;
	COMMIT;
	CALL clickstream.process('s105');
	PERFORM set_config('clickstream.mock_clock', '1999-06-01 12:30+00', false);
	CALL clickstream.process('s105');
	SELECT format('%s of %s users, until %s', count(*), count(DISTINCT effective_user_id), max(session_end)) INTO sessions FROM visits WHERE closed_reason = 'idle';
	SELECT format('%s of %s users, until %s', count(*), count(DISTINCT effective_user_id), max(started_at)) INTO attempts FROM tries WHERE closed_reason IS NOT NULL;
	CALL clickstream.finish('s105');
	SELECT sessions || ', then ' || count(*) INTO sessions FROM visits WHERE closed_reason = 'finish';
	PERFORM clickstream.drop_stream('s105');
END
$$;
CALL run(0, -1, NULL, NULL);
CALL run(1, -1, NULL, NULL);
CALL run(7, -1, NULL, NULL);
CALL run(1, 0, NULL, NULL);
CALL run(7, 0, NULL, NULL);
RESET clickstream.mock_clock;
RESET clickstream.force_closings;
RESET clickstream.force_spill;
DROP SCHEMA t105 CASCADE;
