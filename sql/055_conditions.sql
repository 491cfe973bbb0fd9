-- Conditions that begin with column = 'text' are judged by its bytes where that decides: as PostgreSQL would.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA t055;
SET search_path = t055;

CREATE TABLE event (n integer, event_type text, page_url text, country text);
INSERT INTO event VALUES (1, 'view', '/a', '1'), (2, 'view', '/b', 'no number'), (3, 'VIEW', '/c', '2'), (4, 'views', '/d', '3'),
	(5, 'vie', '/e', '4'), (6, '', '/f', '5'), (7, NULL, '/g', '6'), (8, repeat('long ', 100), '/h', '7'),
	(9, 'view', NULL, '8'), (10, 'other', '/i', 'no number either'), (11, 'view', '/a', NULL), (12, 'view ', '/a', '9');
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);

-- A condition for each table of one row; what is asked is the same in plain SQL.
CREATE TABLE condition (name text, text text);
INSERT INTO condition VALUES
	('alone', $$event_type = 'view'$$),
	('reversed', $$'view' = event_type$$),
	('with_more', $$event_type = 'view' AND page_url LIKE '/a%'$$),
	('with_null', $$event_type = 'view' AND country > '0' AND page_url IS NOT NULL$$),
	('in_brackets', $$(event_type = 'view' AND page_url = '/a') AND country IS NULL$$),
	('either', $$event_type = 'view' OR page_url = '/d'$$),
	('not_it', $$NOT event_type = 'view'$$),
	('empty', $$event_type = ''$$),
	('of_500_bytes', $$event_type = repeat('long ', 100)$$),
	('other_collation', $$event_type COLLATE "C" = 'view'$$),
	('any_case', $$event_type = 'view' COLLATE any_case$$),
	('any_case_and', $$event_type COLLATE any_case = 'VIEW' AND page_url > '/a'$$),
	('unknown', $$event_type = NULL$$),
	('two_columns', $$event_type = page_url OR event_type = 'view'$$),
	('guarded_error', $$event_type = 'views' AND country::integer > 0$$);
SELECT clickstream.create_stream('s055') > 0 AS made;
SELECT count(clickstream.create_window(name, stream => 's055', size => '1 day', filter => text, measures => 'count(*) AS events')) FROM condition;
SELECT clickstream.create_window('with_error', stream => 's055', size => '1 day', filter => $$event_type = 'view' AND country::integer > 0$$,
	measures => 'count(*) AS events');
SELECT clickstream.create_window('measures', stream => 's055', size => '1 day', measures => (
	SELECT string_agg(format('count(*) FILTER (WHERE %s) AS %I', text, name), ', ') FROM condition WHERE name NOT LIKE '%error'));
SELECT count(clickstream.produce('s055', jsonb_build_object('user_id', 'u', 'event_time', '2025-03-01T12:00:00Z', 'event_type', event_type,
	'page_url', page_url, 'country', country)::text)) FROM event;
CALL clickstream.process('s055');
CALL clickstream.finish('s055');

-- Differences of a condition's window and of its measure to plain SQL: none.  How many rows meet it.
CREATE FUNCTION counts(name text, condition text) RETURNS TABLE (plain bigint, in_window bigint, in_measure bigint) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT (SELECT count(*) FROM event WHERE %s), coalesce((SELECT events FROM %I), 0), %s',
		condition, name, CASE WHEN name LIKE '%error' THEN 'NULL::bigint' ELSE format('(SELECT %I FROM measures)', name) END);
END $$;
SELECT c.name, k.* FROM condition c, counts(c.name, c.text) k ORDER BY c.name COLLATE "C";
-- 'no number' is an error of that definition alone; '8' and '1' are counted, 'no number either' is not looked at
SELECT events FROM with_error;
SELECT message_offset, error FROM clickstream.dead_letter WHERE stream = 's055' ORDER BY message_offset;

SELECT clickstream.drop_stream('s055');
DROP SCHEMA t055 CASCADE;
