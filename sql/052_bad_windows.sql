-- Windows that cannot be: each a clear error that names the options, before
-- anything is made.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t052;
SET search_path = t052;
SELECT clickstream.create_stream('s052', max_future => NULL) > 0 AS made;
CREATE FUNCTION try(options text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT clickstream.create_window(''bad'', stream => ''s052'', measures => ''count(*) AS n'', %s)', options);
END
$$;
\set VERBOSITY default
\set SHOW_CONTEXT never
-- step with slide; step that does not fit
SELECT try($$size => '1 day', slide => '1 hour', step => '1 hour'$$);
SELECT try($$size => '1 day', step => '7 hours'$$);
SELECT try($$size => '1 hour', step => '1 day'$$);
SELECT try($$size => '1 day', step => '0'$$);
SELECT try($$size => '1 day', step => '-1 hour'$$);
SELECT try($$size => '1 day', step => '1 second'$$);
SELECT try($$size => '1 day', step => '1 microsecond'$$);
-- lengths that no calendar has
SELECT try($$size => '1 month 2 days'$$);
SELECT try($$size => '1 day 2 hours', time_zone => 'Europe/Berlin'$$);
SELECT try($$size => '5 hours', time_zone => 'Europe/Berlin'$$);
SELECT try($$size => '500 milliseconds', time_zone => 'Europe/Berlin'$$);
SELECT try($$size => '-1 month'$$);
SELECT try($$size => '2 years'$$);
-- months and days, days and hours are no multiples of each other
SELECT try($$size => '1 month', slide => '1 day'$$);
SELECT try($$size => '1 month', slide => '1 hour', time_zone => 'Europe/Berlin'$$);
SELECT try($$size => '1 day', slide => '1 hour', time_zone => 'Europe/Berlin'$$);
SELECT try($$size => '1 month', step => '7 days', time_zone => 'Europe/Berlin'$$);
SELECT try($$size => '7 days', step => '1 month', time_zone => 'Europe/Berlin'$$);
SELECT try($$size => '5 months', slide => '2 months'$$);
SELECT try($$size => '7 days', step => '2 days', time_zone => 'Europe/Berlin'$$);
-- zones, origins, lateness
SELECT try($$size => '1 day', time_zone => 'Europe/Berln'$$);
SELECT try($$size => '1 day', time_zone => ''$$);
SELECT try($$size => '1 day', origin => 'infinity'$$);
SELECT try($$size => '1 day', origin => '2024-01-01 00:00:00.0005+00'$$);
SELECT try($$size => '1 day', allowed_lateness => '-1 hour'$$);
SELECT try($$size => '1 day', allowed_lateness => '1 month'$$);
SELECT try($$size => '1 day', allowed_lateness => '400 days'$$);
-- nothing was made
SELECT count(*) FROM clickstream.definition d JOIN clickstream.stream s USING (stream_id) WHERE s.name = 's052';
-- these can be
SELECT try($$size => '24 hours', time_zone => 'Europe/Berlin'$$);
SELECT d.size, d.slide, d.step, d.time_zone, d.origin FROM clickstream.definition d WHERE d.table_oid = 'bad'::regclass;
-- what would change the meaning of what is kept
SELECT clickstream.alter_window('bad', step => '1 hour');
SELECT clickstream.alter_window('bad', time_zone => 'UTC');
SELECT clickstream.alter_window('bad', origin => '2024-01-01 00:00+00');
SELECT clickstream.alter_window('bad', allowed_lateness => '1 hour');
SELECT * FROM clickstream.window_starts(now(), '1 day', '1 day', now(), 'nowhere');
SELECT * FROM clickstream.cumulative_windows(now(), '1 day', '7 hours', now(), 'UTC');
SELECT * FROM clickstream.window_starts('294276-12-31', '1 month', '1 month', '2000-01-01 00:00+00', 'UTC');
SELECT count(*) FROM clickstream.cumulative_windows(NULL, '1 day', '1 hour', now(), 'UTC');
-- an event at the end of time is a dead letter of the window, not lost
SELECT clickstream.produce('s052', '{"event_time": "294276-12-31T23:59:59Z"}', message_timestamp => '2024-01-01') AS message_offset;
CALL clickstream.process('s052');
SELECT definition, error FROM clickstream.dead_letter WHERE stream = 's052';
SELECT clickstream.drop_stream('s052');
DROP SCHEMA t052 CASCADE;
