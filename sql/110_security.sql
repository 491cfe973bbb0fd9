-- Who may do what, who sees what, and with whose rights expressions run.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
-- an owner who is no superuser, an analyst who may read, and anybody
CREATE ROLE regress_cs_owner IN ROLE clickstream_admin;
CREATE ROLE regress_cs_reader;
CREATE ROLE regress_cs_anybody;
CREATE ROLE regress_cs_other IN ROLE clickstream_admin;
CREATE SCHEMA t110 AUTHORIZATION regress_cs_owner;
GRANT USAGE ON SCHEMA t110, test TO PUBLIC;
GRANT SELECT ON test.ledger TO PUBLIC;
SET search_path = t110;
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';

-- Everything, as the owner.
SET ROLE regress_cs_owner;
SELECT clickstream.create_stream('s110') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's110', gap => '10 minutes', measures => 'count(*) AS events');
-- a function that tells as whom it runs, and fails where there is nothing to count
CREATE FUNCTION runs_as(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
	IF $1 = '/fail' THEN RAISE EXCEPTION 'run by %', current_user; END IF;
	RETURN current_user; END $$;
SELECT clickstream.create_window('minute', stream => 's110', size => '1 minute', group_by => 't110.runs_as(page_url) AS who', measures => 'count(*) AS events');
SELECT clickstream.create_rollup('metrics', source => 'visits', size => '1 minute', measures => 'count(*) AS total');
SELECT clickstream.create_funnel('buying', stream => 's110', within => '1 hour', steps => ARRAY[clickstream.step('a', 'true'), clickstream.step('b', 'true')]);
SELECT clickstream.create_event_log('log', stream => 's110');
SELECT test.feed('s110', $$
	a   0:00    /a
	b   0:20    /fail
	a   0:30    -   raw=broken
	c   0:30    /c
	d   0:01    /late
$$);
CALL clickstream.process('s110');
GRANT SELECT ON visits TO regress_cs_reader;
RESET ROLE;
-- run by the superuser, or by anybody: as the owner
SELECT clickstream.produce('s110', '{"event_time": "2024-06-01T00:31:00Z", "user_id": "c", "page_url": "/fail"}') AS o;
CALL clickstream.process('s110');
SELECT who, sum(events) FROM minute GROUP BY 1;
SELECT message_offset, definition, error FROM clickstream.dead_letter WHERE stream = 's110' ORDER BY 1;

-- What each sees: owner all, reader what concerns visits, anybody nothing.
SET ROLE regress_cs_owner;
SELECT count(*) AS dead, count(definition) AS of_definitions FROM clickstream.dead_letter WHERE stream = 's110';
SELECT message_offset, definition FROM clickstream.late_event WHERE stream = 's110' ORDER BY 1, definition::text;
SELECT count(*) AS open FROM clickstream.open_sessions('visits');
SELECT consumed, balanced FROM clickstream.audit('s110');
SET ROLE regress_cs_reader;
SELECT count(*) AS dead, count(definition) AS of_definitions FROM clickstream.dead_letter WHERE stream = 's110';
SELECT message_offset, definition FROM clickstream.late_event WHERE stream = 's110' ORDER BY 1, definition::text;
SELECT count(*) AS open FROM clickstream.open_sessions('visits');
SELECT consumed, balanced FROM clickstream.audit('s110');
SET ROLE regress_cs_anybody;
SELECT count(*) AS dead FROM clickstream.dead_letter;
SELECT count(*) AS late FROM clickstream.late_event;
SELECT count(*) AS ledger FROM clickstream.ledger;
SELECT count(*) AS open FROM clickstream.open_sessions('visits');
SELECT consumed, balanced FROM clickstream.audit('s110');
SELECT count(*) FROM clickstream.dead_letter_data;
SELECT count(*) FROM clickstream.late_event_data;
SELECT count(*) FROM clickstream.local_message;
SELECT count(*) FROM clickstream.stream;
SELECT stream, state, lag, last_error FROM clickstream.stat_stream WHERE stream = 's110';
SELECT partition, next_offset, lag FROM clickstream.stat_partition WHERE stream = 's110';
-- and what anybody may do: nothing
SELECT clickstream.create_stream('mine');
SELECT clickstream.produce('s110', '{}');
CALL clickstream.process('s110');
CALL clickstream.finish('s110');
CALL clickstream.wait_for('s110');
SELECT clickstream.start('s110');
SELECT clickstream.reset('s110');
SELECT clickstream.advance_watermark('s110', '2024-06-01 12:00+00');
SELECT clickstream.quickstart('mine');
SELECT clickstream.trim_local_topic('s110', '0');
UPDATE clickstream.stream SET owner = 'regress_cs_anybody';
-- Another admin has streams of his own, and no rights on this one.
SET ROLE regress_cs_other;
SELECT clickstream.create_window('t110.mine', stream => 's110', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.create_rollup('t110.mine', source => 't110.visits', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.alter_stream('s110', watermark_delay => '1 second');
SELECT clickstream.alter_window('t110.minute', emit_interval => '1 second');
SELECT clickstream.drop_session('t110.visits');
SELECT clickstream.drop_stream('s110');
SELECT clickstream.produce('s110', '{}');
CALL clickstream.process('s110');
CALL clickstream.wait_for('s110');
SELECT clickstream.start('s110');
SELECT clickstream.stop('s110');
SELECT clickstream.reset('s110');
SELECT clickstream.advance_watermark('s110', '2024-06-01 12:00+00');
SELECT count(*) AS dead FROM clickstream.dead_letter;
-- a function he may not run, in a stream of his own
RESET ROLE;
REVOKE EXECUTE ON FUNCTION runs_as(text) FROM PUBLIC;
CREATE SCHEMA t110_other AUTHORIZATION regress_cs_other;
SET ROLE regress_cs_other;
SELECT clickstream.create_stream('other') > 0 AS made;
SELECT clickstream.create_window('t110_other.mine', stream => 'other', size => '1 minute', group_by => 't110.runs_as(page_url) AS who', measures => 'count(*) AS n');
-- nor a table in somebody else's schema
SELECT clickstream.create_window('t110.mine', stream => 'other', size => '1 minute', measures => 'count(*) AS n');
SELECT clickstream.drop_stream('other');
RESET ROLE;

-- Row-level security on a result table is refused, and nothing is lost by it.
SET ROLE regress_cs_owner;
ALTER TABLE minute ENABLE ROW LEVEL SECURITY;
SELECT clickstream.produce('s110', '{"event_time": "2024-06-01T01:00:00Z", "user_id": "c", "page_url": "/c"}') AS o;
CALL clickstream.process('s110');
SELECT consumed, used, dead FROM test.ledger WHERE stream = 's110';
ALTER TABLE minute DISABLE ROW LEVEL SECURITY;
-- so is a table that has another owner
RESET ROLE;
ALTER TABLE minute OWNER TO regress_cs_other;
CALL clickstream.process('s110');
SELECT consumed, used, dead FROM test.ledger WHERE stream = 's110';
ALTER TABLE minute OWNER TO regress_cs_owner;
SET ROLE regress_cs_owner;
CALL clickstream.process('s110');
SELECT consumed, used, dead FROM test.ledger WHERE stream = 's110';
CALL clickstream.finish('s110');
SELECT clickstream.reset('s110');
SELECT clickstream.alter_stream('s110', watermark_delay => '1 second');
SELECT clickstream.drop_rollup('metrics');
SELECT clickstream.drop_stream('s110');
SELECT clickstream.quickstart('q110', target_schema => 't110', start => false);
SELECT clickstream.drop_stream('q110');
RESET ROLE;
RESET clickstream.mock_clock;
DROP SCHEMA t110 CASCADE;
DROP SCHEMA t110_other CASCADE;
DROP ROLE regress_cs_owner, regress_cs_reader, regress_cs_anybody, regress_cs_other;
REVOKE USAGE ON SCHEMA test FROM PUBLIC;
