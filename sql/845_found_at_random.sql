-- What programs at random have found (sql/847 and its like), each as small as it could be made.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
SET clickstream.force_closings = 1;
-- A bucket over a funnel is not final while a closing in parts has not come to an event that begins an attempt in it.
SELECT clickstream.create_stream('s845', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_funnel('attempts', stream => 's845', within => '30 minutes', allowed_lateness => '10 minutes',
	steps => ARRAY[clickstream.step('one', $$page_url = '/1'$$), clickstream.step('two', $$page_url = '/2'$$)]);
SELECT clickstream.create_rollup('minutes', source => 'attempts', size => '1 minute', measures => 'count(*) AS attempts, max(level) AS level');
SELECT test.feed('s845', E'a 0:00:01 /1\na 0:00:02 /2\nb 0:00:03 /1\nx 0:08 /x');
CALL clickstream.process('s845');
SELECT test.feed('s845', 'x 0:11:01 /x');
CALL clickstream.process('s845');
SELECT test.at(window_start), attempts, level, is_final, revision FROM minutes;
SELECT test.feed('s845', 'x 0:40:04 /x');
CALL clickstream.process('s845');
SELECT test.at(window_start), attempts, level, is_final FROM minutes;
SELECT clickstream.drop_stream('s845');
-- What finish() ends in parts, 'finish' ends: also where the first part shows again rows that have waited to be.
SELECT clickstream.create_stream('s845', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_session('visits', stream => 's845', gap => '10 minutes', measures => 'count(*) AS n', emit => 'changes');
SELECT clickstream.create_funnel('attempts', stream => 's845', within => '10 minutes', emit => 'changes', steps => ARRAY[clickstream.step('one', $$page_url = '/1'$$), clickstream.step('two', $$page_url = '/2'$$), clickstream.step('three', $$page_url = '/3'$$)]);
SELECT test.feed('s845', E'a 0:00 /1\nb 0:01 /1\nc 0:02 /1\nd 0:03 /1');
CALL clickstream.process('s845');
SELECT test.feed('s845', E'a 0:04 /2\nb 0:05 /2\nc 0:06 /2\nd 0:07 /2');
CALL clickstream.process('s845', 4);
CALL clickstream.finish('s845');
SELECT effective_user_id, n, closed_reason, is_final FROM visits ORDER BY 1;
SELECT effective_user_id, level, closed_reason, is_final FROM attempts ORDER BY 1;
SELECT clickstream.drop_stream('s845');
RESET clickstream.force_closings;
-- Cumulative windows of more groups than group_limit: it counts in each step, so who had a row keeps it, and no event is in two rows.
SELECT clickstream.create_stream('s845', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_window('steps_' || emit || CASE late WHEN '0' THEN '' ELSE '_late' END, stream => 's845', size => '1 hour', step => '10 minutes', emit => emit,
	group_by => 'page_url', group_limit => 1, allowed_lateness => late, measures => 'count(*) AS n') FROM unnest('{closed,changes}'::text[]) emit, unnest('{0,1 hour}'::interval[]) late;
SELECT test.feed('s845', E'a 0:01 /a\nb 0:11 /b\nc 0:12 /c\nd 0:25 /a\ne 0:35 /d');
CALL clickstream.process('s845');
SELECT test.feed('s845', E'e 0:36 /b\nf 0:37 /e\ng 0:45 /b\nh 0:46 /f');
CALL clickstream.process('s845');
CALL clickstream.finish('s845');
SELECT test.at(window_end), string_agg(coalesce(page_url, 'rest') || ' ' || n, ', ' ORDER BY is_rest, page_url) AS groups, sum(n) AS events, bool_and(is_final) AS final
FROM steps_closed GROUP BY window_end ORDER BY window_end;
SELECT t, test.content(t) = test.content('steps_closed') AS same FROM unnest('{steps_changes,steps_closed_late,steps_changes_late}'::regclass[]) t;
SELECT clickstream.drop_stream('s845');
-- Which of equal keys that look different a session shows does not depend on where batches end.
CREATE PROCEDURE show_keys(batch int) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('clickstream.batch_messages', batch::text, false);
	PERFORM clickstream.create_stream('s845', watermark_delay => '0', extra_columns => 'price numeric');
	PERFORM clickstream.create_session('prices', stream => 's845', gap => '10 minutes', key => 'price', measures => 'count(*) AS n');
	PERFORM test.feed('s845', E'a 0:00 /a price=1.0\nb 0:05 /a price=1.00\nc 0:30 /a price=2\nd 0:31 /a price=1.000\ne 1:00 /a price=2');
	COMMIT;
	CALL clickstream.process('s845');
END
$$;
CALL show_keys(1000);
SELECT price, n FROM prices ORDER BY session_start;
SELECT clickstream.drop_stream('s845');
CALL show_keys(1);
SELECT price, n FROM prices ORDER BY session_start;
SELECT clickstream.drop_stream('s845');
DROP PROCEDURE show_keys;
RESET clickstream.batch_messages;
