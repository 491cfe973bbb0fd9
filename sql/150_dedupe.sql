-- dedupe_by: of copies of an event within the horizon the first good one counts.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t150;
SET search_path = t150;
SELECT clickstream.create_stream('s150', extra_columns => 'id text', dedupe_by => 'id', dedupe_horizon => '10 minutes', filter => $$page_url <> '/no'$$) > 0 AS made;
SELECT clickstream.create_window('minute', stream => 's150', size => '1 minute', measures => 'count(*) AS events, first(page_url) AS first_page');
SELECT clickstream.create_session('visits', stream => 's150', gap => '1 minute', measures => 'count(*) AS events');
-- x twice; x that cannot be read, or is filtered, before it is no good copy;
-- events without an id are never copies
SELECT test.feed('s150', $$
	a   0:00    /   id=x raw=[1]
	a   0:00    /no id=x
	a   0:00    /1  id=x
	a   0:00    /2  id=x
	a   0:00:05 /3  id=x
	a   0:00    /4
	a   0:00    /4
	a   0:00    /5  id=y
$$);
SET clickstream.batch_messages = 2;
CALL clickstream.process('s150');
RESET clickstream.batch_messages;
SELECT consumed, used, filtered, duplicate, dead, balanced FROM test.ledger WHERE stream = 's150';
-- found again in another call, which recovers the state
SELECT test.feed('s150', 'a 0:00:07 /6 id=y');
CALL clickstream.process('s150');
SELECT duplicate FROM test.ledger WHERE stream = 's150';
SELECT test.feed('s150', $$
	b   1:00    /7  id=z
	b   1:00    /8  id=x
$$);
-- an hour later x is beyond the horizon
CALL clickstream.finish('s150');
SELECT consumed, used, filtered, duplicate, dead, balanced FROM test.ledger WHERE stream = 's150';
SELECT test.at(window_start) AS start, events, first_page FROM minute ORDER BY 1;
SELECT effective_user_id, events FROM visits ORDER BY 1;
SELECT clickstream.drop_stream('s150');
DROP SCHEMA t150 CASCADE;
