-- dedupe_by across batches, restarts and partitions; where the horizon ends; and the future guard's order.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
CREATE SCHEMA t340;
SET search_path = t340;
SELECT clickstream.create_stream('s340', extra_columns => 'id text, n int', dedupe_by => 'id', dedupe_horizon => '10 minutes', max_future => '1 hour') > 0 AS made;
SELECT clickstream.create_window('pages', stream => 's340', size => '1 hour', group_by => 'page_url', measures => 'count(*) AS events');
SELECT clickstream.create_event_log('log', stream => 's340');
CREATE VIEW what AS SELECT partition AS part, message_offset AS off, id, page_url, test.at(event_time) AS at, class FROM log ORDER BY partition, message_offset;
-- The first good copy wins, in the order of offsets.  Copies that are no good come first: one that
-- is not JSON, one whose column cannot be read, one too far ahead of its message.
SELECT test.feed('s340', $$
	a  0:00   /bad    id=x raw={"id": "x"
	a  0:00   /worse  id=x n=seven
	a  2:00   /ahead  id=x sent=0:30
	a  0:00   /good   id=x
	a  0:00   /copy   id=x
$$);
SET clickstream.batch_messages = 1;
CALL clickstream.process('s340');
RESET clickstream.batch_messages;
TABLE what;
SELECT message_offset, cause FROM clickstream.dead_letter WHERE stream = 's340' ORDER BY 1;
-- the horizon is of event time, behind the watermark (delay 10 seconds): a value is forgotten when the
-- watermark has passed its first copy's time by more than ten minutes; exactly ten are remembered
SELECT test.feed('s340', $$
	b  0:10:10 /      id=wm1
	a  0:00    /last  id=x
	b  0:10:10.000001 / id=wm2
	a  0:10    /again id=x
	a  0:10    /copy2 id=x
$$);
CALL clickstream.process('s340', 2);
CALL clickstream.process('s340', 1);
CALL clickstream.process('s340');
SELECT * FROM what WHERE id = 'x';
-- several partitions, one batch or many: one copy counts, and which is the first that was read
SELECT test.feed('s340', $$
	c  0:11    /p0    id=y
	c  0:11    /p1    id=y part=1
	c  0:11    /p2    id=y part=2
	c  0:11    /p0    id=z
	c  0:11    /p1    id=z part=1
	c  0:11    /p2    id=z part=2
$$);
CALL clickstream.process('s340', 1);
CALL clickstream.process('s340');
SELECT id, count(*) FILTER (WHERE class = 'used') AS used, count(*) FILTER (WHERE class = 'duplicate') AS duplicate FROM what WHERE id IN ('y', 'z') GROUP BY 1 ORDER BY 1;
-- a worker that starts again remembers too
SELECT clickstream.start('s340');
SELECT test.feed('s340', 'c 0:11:30 /w id=y');
CALL clickstream.wait_for('s340', '5 minutes');
SELECT clickstream.stop('s340');
SELECT class, count(*) FROM what WHERE id = 'y' GROUP BY 1 ORDER BY 1;
-- without a value nothing is a copy, and a batch that fails has remembered nothing
SELECT test.feed('s340', $$
	d  0:12    /null
	d  0:12    /null
	d  0:12    /twice id=q
$$);
ALTER TABLE pages ADD CONSTRAINT no_twice CHECK (page_url <> '/twice');
CALL clickstream.process('s340');
ALTER TABLE pages DROP CONSTRAINT no_twice;
CALL clickstream.process('s340');
SELECT page_url, class, count(*) FROM what WHERE page_url IN ('/null', '/twice') GROUP BY 1, 2 ORDER BY 1;
CALL clickstream.finish('s340');
SELECT topic, partition, consumed, used, duplicate, dead, balanced FROM clickstream.audit('s340');
SELECT page_url, events FROM pages ORDER BY 1;
SELECT sum(events) AS events, (SELECT count(*) FROM log WHERE class = 'used') AS used FROM pages;
DROP VIEW what;
SELECT clickstream.drop_stream('s340');

-- Any batch cut and any interleaving that keeps each partition's order: as many of each value, none twice within the horizon.
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 42
\endif
\echo seed :seed
SELECT setseed(:seed / 1000000.0);
SELECT clickstream.create_stream('s340', extra_columns => 'id text', dedupe_by => 'id', dedupe_horizon => '3 hours') > 0 AS made;
SELECT clickstream.create_window('hours', stream => 's340', size => '1 hour', measures => 'count(*) AS events, count(DISTINCT (event_properties->>''id'')) AS ids');
SELECT clickstream.create_event_log('log', stream => 's340');
-- values come up to four times within half an hour
SELECT count(clickstream.produce('s340', jsonb_build_object('user_id', 'u', 'id', id, 'event_properties', jsonb_build_object('id', id), 'event_time', t)::text, partition => (i % 3)::int, message_timestamp => t)) > 600 AS produced
FROM (SELECT row_number() OVER (ORDER BY t, id, k) AS i, id, t
	FROM (SELECT id, k, '2024-06-01 00:00+00'::timestamptz + id * interval '1 minute' + k * trunc(random() * 10) * interval '1 minute' AS t
		FROM generate_series(1, 600) id, LATERAL generate_series(0, (random() * 3 + id * 0)::int) k) AS e) AS f;
SET clickstream.batch_messages = 7;
CALL clickstream.process('s340');
RESET clickstream.batch_messages;
CALL clickstream.finish('s340');
SELECT count(*) AS ids, max(used) AS most, bool_and(n = used + duplicate) AS all_accounted FROM (
	SELECT id, count(*) AS n, count(*) FILTER (WHERE class IN ('used', 'late')) AS used, count(*) FILTER (WHERE class = 'duplicate') AS duplicate FROM log GROUP BY 1) AS x;
SELECT sum(events) = (SELECT count(DISTINCT id) FROM log WHERE class = 'used') AS each_once FROM hours;
SELECT bool_and(balanced) FROM clickstream.audit('s340');
-- the comparison sees values that are forgotten with their batch
SELECT clickstream.reset('s340');
SET clickstream.mutant = 'dedupe_forgets';
SET clickstream.batch_messages = 7;
CALL clickstream.process('s340');
RESET clickstream.batch_messages;
RESET clickstream.mutant;
SELECT max(n) > 1 AS seen FROM (SELECT count(*) AS n FROM log WHERE class IN ('used', 'late') GROUP BY id) AS x;
SELECT clickstream.drop_stream('s340');
DROP SCHEMA t340 CASCADE;
