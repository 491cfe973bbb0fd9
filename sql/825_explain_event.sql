-- explain_event(): what became of each message.
SET timezone = 'UTC';
SET client_min_messages = warning;
SELECT clickstream.create_stream('s825', filter => $$event_type IS DISTINCT FROM 'noise'$$, dedupe_by => $$event_properties->>'id'$$, max_future => NULL,
	watermark_delay => '1 minute') > 0 AS made;
SELECT clickstream.create_event_log('log825', stream => 's825');
SELECT clickstream.create_session('visits825', stream => 's825', gap => '30 minutes', measures => 'count(*) AS events');
SELECT clickstream.create_window('pages825', stream => 's825', size => '10 minutes', slide => '5 minutes', filter => $$page_url <> '/none'$$, group_by => 'page_url', measures => 'count(*) AS n');
SELECT clickstream.create_window('shares825', stream => 's825', size => '1 hour', measures => 'sum(1 / length(page_title)) AS n');
SELECT clickstream.create_funnel('funnel825', stream => 's825', within => '1 hour', key => 'user_id', steps => ARRAY[
	clickstream.step('a', $$page_url = '/a'$$), clickstream.step('b', $$page_url IN ('/a', '/b')$$)],
	exclusions => ARRAY[clickstream.exclusion($$page_url = '/none' OR page_url = '/c'$$)]);
SELECT test.feed('s825', $$
	u 0:00 /a
	u 0:10 /b
	u 0:11 /b event_type=noise
	u 0:12 raw=not JSON
	- 0:20 /none
	v 0:21 /a page_title=
	w 2:00 /a
	x 0:30 /b$$);
SELECT count(clickstream.produce('s825', p, message_timestamp => '2024-06-01 02:01+00')) FROM (VALUES (NULL),
	('{"event_time": "2024-06-01T02:01:00Z", "user_id": "w", "page_url": "/c", "event_properties": {"id": "1"}}'),
	('{"event_time": "2024-06-01T02:01:01Z", "user_id": "w", "page_url": "/c", "event_properties": {"id": "1"}}')) AS v(p);
CALL clickstream.process('s825');
SELECT clickstream.create_window('later825', stream => 's825', size => '1 hour', measures => 'count(*) AS n');
SELECT test.feed('s825', 'y 2:02 /c');
CALL clickstream.process('s825');
CREATE VIEW why825 AS
SELECT o AS message, definition, outcome, row_id, CASE WHEN definition IS NULL THEN concat_ws(' ', detail ->> 'cause', detail ->> 'event_time', detail ->> 'page_url', detail ->> 'hint')
	ELSE (detail - '{error,arrived_at,sqlstate,watermark}'::text[])::text END AS detail
FROM generate_series(0, 12) AS o, clickstream.explain_event('s825', 0, o) WITH ORDINALITY AS e(definition, outcome, row_id, detail, n) ORDER BY o, n;
SELECT * FROM why825;
-- A late event that was applied after all is used; one session has two events.
SELECT topic, partition, message_offset, applied, reason FROM clickstream.apply_late('visits825');
SELECT definition, outcome, row_id FROM clickstream.explain_event('s825', 0, 7, 's825');
SELECT e.user_id, e.event_time FROM visits825 AS s JOIN log825 AS e ON e.effective_user_id = s.effective_user_id AND e.event_time BETWEEN s.session_start AND s.session_end
WHERE s.session_id = 's825/0/0' ORDER BY e.event_time;
-- Who may see what: tables that one may read.
CREATE ROLE why825_reader;
GRANT SELECT ON pages825 TO why825_reader;
SET ROLE why825_reader;
SELECT definition, outcome, detail ->> 'hint' IS NOT NULL AS hint FROM clickstream.explain_event('s825', 0, 7);
RESET ROLE;
-- A dead letter that was trimmed.
SELECT clickstream.trim_letters('s825', '0') AS trimmed;
SELECT definition, outcome, detail FROM clickstream.explain_event('s825', 0, 5) WHERE outcome <> 'used';
-- Without a log.
SELECT clickstream.drop_event_log('log825');
SELECT definition, outcome, row_id, detail - '{arrived_at,watermark}'::text[] AS detail FROM clickstream.explain_event('s825', 0, 5);
-- What was passed over; and from before the stream's beginning, that a definition with history has read.
SELECT clickstream.create_stream('r825', start_from => 'latest', watermark_delay => '1 minute') > 0 AS made;
SELECT test.feed('r825', E'a 0:00 /a\nb 0:01 /a raw=not JSON');
CALL clickstream.process('r825');
SELECT clickstream.create_session('since825', stream => 'r825', gap => '30 minutes', measures => 'count(*) AS n');
SELECT clickstream.create_session('all825', stream => 'r825', gap => '30 minutes', measures => 'count(*) AS n', backfill => true);
SELECT test.feed('r825', E'c 0:02 /a\nd 0:03 /a\ne 0:04 /a');
CALL clickstream.process('r825', 1);
SELECT clickstream.seek('r825', 0, 4) AS passed_over;
CALL clickstream.process('r825');
SELECT o AS message, definition, outcome, detail - '{arrived_at,passed_at}'::text[] AS detail FROM generate_series(0, 5) AS o, clickstream.explain_event('r825', 0, o) WITH ORDINALITY AS e(definition, outcome, row_id, detail, n) ORDER BY o, n;
SELECT clickstream.drop_stream('r825');
-- What is refused.
\set VERBOSITY terse
SELECT * FROM clickstream.explain_event('s825', 1, 0);
SELECT * FROM clickstream.explain_event('s825', 0, 0, 'other');
SELECT * FROM clickstream.explain_event('none', 0, 0);
SELECT * FROM clickstream.explain_event('s825', 0, NULL);
DROP VIEW why825;
SELECT clickstream.drop_stream('s825');
DROP OWNED BY why825_reader;
DROP ROLE why825_reader;
