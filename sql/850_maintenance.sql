-- Retention and maintain(): what is old goes, in small transactions, and no more than may.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE ROLE regress_cs_keeper IN ROLE clickstream_admin;
CREATE ROLE regress_cs_stranger IN ROLE clickstream_admin;
CREATE SCHEMA t850 AUTHORIZATION regress_cs_keeper;
GRANT USAGE ON SCHEMA test TO PUBLIC;
SET search_path = t850;
SET clickstream.mock_clock = '2024-06-03 00:00:00+00';
SET ROLE regress_cs_keeper;
SELECT clickstream.create_stream('s850') > 0 AS made;
SELECT clickstream.create_window('minutes', stream => 's850', size => '1 minute', group_by => 'page_url', measures => 'count(*) AS events');
SELECT clickstream.create_session('visits', stream => 's850', gap => '10 minutes', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('hours', source => 'visits', size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events');
SELECT clickstream.create_rollup('forties', source => 'visits', size => '40 minutes', measures => 'count(*) AS visits');
SELECT clickstream.create_funnel('ab', stream => 's850', within => '10 minutes', steps => ARRAY[
	clickstream.step('a', $$page_url = '/a'$$), clickstream.step('b', $$page_url = '/b'$$)]);
SELECT clickstream.create_event_log('log', stream => 's850');
-- who deletes, and in which transaction
CREATE TABLE deleted (who text, xact xid8);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO t850.deleted VALUES (current_user, pg_current_xact_id()); RETURN OLD; END $$;
CREATE TRIGGER note BEFORE DELETE ON minutes FOR EACH ROW EXECUTE FUNCTION note();
-- every ten minutes from 0:00 to 6:50 a visitor of his own; late and dead ones
SELECT test.feed('s850', string_agg(format('v%s %s /a', m, make_interval(mins => m)), E'\n' ORDER BY m)) FROM generate_series(0, 410, 10) AS m;
SELECT test.feed('s850', $$
	late   0:05    /a
	late   4:55    /a
	x      7:00    -   raw=no JSON
$$);
CALL clickstream.process('s850');
CREATE VIEW kept AS
SELECT 'minutes' AS t, count(*), test.at(min(window_start)) AS oldest FROM minutes UNION ALL
SELECT 'visits', count(*), test.at(min(session_start)) FROM visits UNION ALL
SELECT 'hours', count(*), test.at(min(window_start)) FROM hours UNION ALL
SELECT 'forties', count(*), test.at(min(window_start)) FROM forties UNION ALL
SELECT 'ab', count(*), test.at(min(started_at)) FROM ab UNION ALL
SELECT 'late', count(*), NULL FROM clickstream.late_event WHERE stream = 's850' UNION ALL
SELECT 'dead', count(*), NULL FROM clickstream.dead_letter WHERE stream = 's850';
TABLE kept;
-- nothing has a retention yet
CALL clickstream.maintain();
TABLE kept;
-- Minutes before 3:49:50 go: that is three hours before the watermark, not before the clock, which is two days on.
SELECT clickstream.set_retention('minutes', '3 hours');
SELECT stream, kind, definition, keep, test.at(deleted_before) AS deleted_before FROM clickstream.stat_retention WHERE stream = 's850' ORDER BY 2, 3;
RESET ROLE;
CALL clickstream.maintain('s850', max_rows => 5);
SELECT * FROM kept WHERE t = 'minutes';
-- as the owner, though a superuser called, five rows a transaction
SELECT who, count(*), count(DISTINCT xact), max(n) FROM (SELECT who, xact, count(*) OVER (PARTITION BY xact) AS n FROM deleted) AS d GROUP BY who;
SET ROLE regress_cs_keeper;
SELECT clickstream.trim_rows('minutes');
SELECT stream, definition, keep, test.at(deleted_before) AS deleted_before FROM clickstream.stat_retention WHERE definition = 'minutes'::regclass;
-- What was deleted is not made again: the late event of 0:05 is refused, that of 4:55 is not.
SELECT test.at(event_time) AS event, applied, reason FROM clickstream.apply_late('minutes');
SELECT count(*) FROM minutes WHERE window_start < '2024-06-01 03:49:50+00';
-- Sessions go in whole buckets of both rollups over them: 3:49:50 is in the bucket from 3:20 of one and from 3:00 of the other; both begin one at 2:00.
SELECT clickstream.set_retention('visits', '3 hours'), clickstream.set_retention('ab', '5 hours');
CALL clickstream.maintain();
TABLE kept;
SELECT definition, test.at(deleted_before) AS deleted_before FROM clickstream.stat_retention WHERE definition IN ('visits'::regclass, 'ab'::regclass) ORDER BY 1;
SELECT test.at(event_time) AS event, applied, reason FROM clickstream.apply_late('visits');
SELECT test.at(window_start) AS bucket, visits, events, is_final, revision FROM hours ORDER BY 1;
-- The rollups themselves.
SELECT clickstream.set_retention('hours', '4 hours');
CALL clickstream.maintain('s850');
SELECT test.at(window_start) AS bucket, visits, is_final FROM hours ORDER BY 1;
-- Letters; the audit still agrees.
SELECT clickstream.set_letter_retention('s850', '0');
-- (they came by the clock that is on the wall, so it is that that counts)
RESET ROLE;
RESET clickstream.mock_clock;
SET ROLE regress_cs_keeper;
SELECT clickstream.trim_letters('s850', '0', max_rows => 1) AS trimmed;
CALL clickstream.maintain('s850', 1);
SELECT * FROM kept WHERE t IN ('late', 'dead');
SELECT consumed, used, late, dead, balanced FROM clickstream.audit('s850');
RESET ROLE;
SET clickstream.mock_clock = '2024-06-03 00:00:00+00';
SET ROLE regress_cs_keeper;
-- An event log's days; today's stay.
SELECT count(*) AS days FROM pg_inherits WHERE inhparent = 'log'::regclass;
SELECT clickstream.set_retention('log', '1 day');
RESET ROLE;
SET clickstream.mock_clock = '2024-06-07 00:00:00+00';
SET ROLE regress_cs_keeper;
CALL clickstream.maintain();
SELECT count(*) AS days FROM pg_inherits WHERE inhparent = 'log'::regclass;
-- A window that can still change stays, however old it is; so does what its stream has not passed.
SELECT clickstream.create_window('patient', stream => 's850', size => '1 minute', allowed_lateness => '2 hours', measures => 'count(*) AS events');
SELECT test.feed('s850', E'p 8:00 /\np 9:30 /\np 11:00 /');
CALL clickstream.process('s850');
SELECT clickstream.set_retention('patient', '1 hour');
CALL clickstream.maintain();
SELECT test.at(window_start) AS start, is_final FROM patient ORDER BY 1;
-- One that fails does not keep the others from theirs, and says so.
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not from here' USING HINT = 'Leave it.'; END $$;
CREATE TRIGGER no BEFORE DELETE ON minutes FOR EACH ROW EXECUTE FUNCTION no();
SELECT clickstream.set_retention('minutes', '1 minute'), clickstream.set_retention('ab', '1 hour');
CALL clickstream.maintain();
SELECT count(*) AS minutes FROM minutes;
SELECT count(*) AS ab FROM ab;
DROP TRIGGER no ON minutes;
-- reset begins anew
SELECT clickstream.reset('s850');
SELECT count(deleted_before) AS deleted FROM clickstream.stat_retention WHERE stream = 's850';
SELECT clickstream.set_retention('minutes', NULL);
SELECT keep FROM clickstream.stat_retention WHERE definition = 'minutes'::regclass;
-- what is refused
SELECT clickstream.set_retention('minutes', '0');
SELECT clickstream.set_retention('log', '1 hour');
SELECT clickstream.set_retention('pg_class', '1 hour');
SELECT clickstream.set_retention(NULL, '1 hour');
SELECT clickstream.set_letter_retention('s850', '-1 day');
SELECT clickstream.set_alert_retention('s850', '-1 day');
SELECT clickstream.trim_alert_history('s850', NULL);
SELECT clickstream.trim_rows('minutes', 0);
SELECT clickstream.trim_letters('s850', '0', -1);
CALL clickstream.maintain('nowhere');
CALL clickstream.maintain(max_rows => 0);
SELECT clickstream.schedule_maintenance(stream => 'nowhere');
SELECT clickstream.schedule_maintenance(NULL);
-- without pg_cron it says how to do without, or get it
\set VERBOSITY terse
\set SHOW_CONTEXT never
SELECT clickstream.schedule_maintenance();
SELECT clickstream.unschedule_maintenance();
\set VERBOSITY default
RESET ROLE;
SELECT 'minutes'::regclass::oid AS minutes \gset
SET ROLE regress_cs_stranger;
SELECT clickstream.set_retention(:minutes, '1 hour');
SELECT clickstream.set_letter_retention('s850', '1 hour');
SELECT clickstream.set_alert_retention('s850', '1 hour');
SELECT clickstream.trim_alert_history('s850', '0');
SELECT clickstream.trim_rows(:minutes);
CALL clickstream.maintain('s850');
SELECT count(*) FROM clickstream.stat_retention;
RESET ROLE;
DROP VIEW kept;
SELECT clickstream.drop_stream('s850');
DROP OWNED BY regress_cs_keeper, regress_cs_stranger;
DROP ROLE regress_cs_keeper, regress_cs_stranger;
