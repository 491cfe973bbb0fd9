-- An event that is late for some of its hopping windows only: it counts in the others, so it is not late for the definition, and what is
-- final stays without it; until apply_late() makes such a window again for the sake of another event, from all that was not late.
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE SCHEMA t843;
SET search_path = t843;
SELECT clickstream.create_stream('s843', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's843');
SELECT clickstream.create_window('hopping', stream => 's843', size => '1 hour', slide => '30 minutes', measures => $$count(*) AS n, count(*) FILTER (WHERE user_id = 'c') AS c, count(*) FILTER (WHERE user_id = 'd') AS d$$);
SELECT clickstream.create_window('steps', stream => 's843', size => '1 hour', step => '30 minutes', measures => 'count(*) AS n');
SELECT clickstream.create_window('kept', stream => 's843', size => '1 hour', slide => '30 minutes', measures => 'count(*) AS n', allowed_lateness => '1 hour');
-- at 1:00 the windows of 23:30 and 0:00 are final; c lies in that of 0:00 and in that of 0:30, d in those of 23:30 and 0:00
SELECT test.feed('s843', E'a 0:10 /a\nb 1:00 /a\nc 0:40 /a\nd 0:20 /a\ne 1:20 /a\nf 3:00 /a\ng 6:00 /a');
CALL clickstream.process('s843');
SELECT test.at(window_start) AS start, n, c, d, is_final FROM hopping ORDER BY window_start;
SELECT definition, message_offset FROM clickstream.late_event WHERE stream = 's843' ORDER BY 1, 2;
SELECT used, late FROM clickstream.stat_definition WHERE definition = 'hopping'::regclass;
SELECT used, late, balanced FROM clickstream.ledger WHERE stream = 's843';
SELECT * FROM clickstream.verify('hopping');
SELECT definition, outcome, detail FROM clickstream.explain_event('s843', 0, 2) WHERE definition = 'hopping'::regclass;
-- another event makes the window of 0:00 again: c is in it now
SELECT message_offset, applied, reason FROM clickstream.apply_late('hopping');
SELECT definition, outcome, detail FROM clickstream.explain_event('s843', 0, 2) WHERE definition = 'hopping'::regclass;
SELECT test.at(window_start) AS start, n, c, d, revision FROM hopping ORDER BY window_start;
SELECT * FROM clickstream.verify('hopping');
SELECT * FROM clickstream.verify('steps');
SELECT used, late FROM clickstream.stat_definition WHERE definition = 'hopping'::regclass;
-- with allowed_lateness both counted at once
SELECT test.at(window_start) AS start, n, revision FROM kept ORDER BY window_start;
SELECT clickstream.audit('s843') IS NOT NULL AS audited;
SELECT clickstream.drop_stream('s843');
DROP SCHEMA t843 CASCADE;
