-- LIKE with a plain text, and members of event_properties, are judged by bytes, mostly without making a jsonb: as PostgreSQL would.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA t470;
SET search_path = t470;

CREATE TABLE event (n integer GENERATED ALWAYS AS IDENTITY, page_url text, properties text);
INSERT INTO event (page_url, properties) VALUES
	('/a/product/1', '{"action": "add"}'),
	('/product/', '{"action": "add", "action": "remove"}'),
	('/a/product', '{"action": "remove", "more": {"action": "add"}, "action": "add"}'),
	('product/', '{"action": null}'),
	('', '{"action": ""}'),
	(NULL, '{"more": "add"}'),
	('/a', '{"action": 1.0}'),
	('/a%b', '{"action": 1e2}'),
	('/a_b', '{"action": 100}'),
	(E'/a\\b', '{"action": true}'),
	('/A', '{"action": ["add"]}'),
	('/ä/ö', '{"action": {"b": 1, "a": [1, 1.50]}}'),
	('/ö', '{"action": "a\u00e4\n\"d"}'),
	(repeat('/long', 100), format('{"long": "%s", "action": "add"}', repeat('long ', 3000))),
	('/many', (SELECT format('{%s, "action": "add", "z": 1}', string_agg(format('"k%s": %s', i, i), ', ')) FROM generate_series(1, 200) i)),
	('/a/b', '{}'),
	('/b', '[{"action": "add"}]'),
	('/b/a', '"add"'),
	('/b/c', 'null'),
	('/b/d', NULL),
	('/b/e', '{"action": "add", "odd": "\ud83d\ude00"}'),
	('/b/f', '{"action": 123456789012345678901234567890.10}');

-- A condition for each table of one row; what is asked is the same in plain SQL.
CREATE TABLE condition (name text, text text);
INSERT INTO condition VALUES
	('inside', $$page_url LIKE '%/product/%'$$),
	('prefix', $$page_url LIKE '/a%'$$),
	('suffix', $$page_url LIKE '%product/'$$),
	('exact', $$page_url LIKE '/a'$$),
	('anything', $$page_url LIKE '%'$$),
	('anything_twice', $$page_url LIKE '%%'$$),
	('nothing', $$page_url LIKE ''$$),
	('in_the_middle', $$page_url LIKE '/a%b'$$),
	('one_sign', $$page_url LIKE '/a_b'$$),
	('escaped', $$page_url LIKE '/a\%b'$$),
	('escaped_escape', $$page_url LIKE '%\\%'$$),
	('umlaut', $$page_url LIKE '%ö%'$$),
	('any_case', $$page_url ILIKE '/a'$$),
	('not_like', $$page_url NOT LIKE '/a%'$$),
	('member', $$event_properties->>'action' = 'add'$$),
	('member_reversed', $$'add' = event_properties->>'action'$$),
	('member_empty', $$event_properties->>'action' = ''$$),
	('member_number', $$event_properties->>'action' = '100'$$),
	('member_fraction', $$event_properties->>'action' = '1.0'$$),
	('member_long_number', $$event_properties->>'action' = '123456789012345678901234567890.10'$$),
	('member_true', $$event_properties->>'action' = 'true'$$),
	('member_array', $$event_properties->>'action' = '["add"]'$$),
	('member_object', $$event_properties->>'action' = '{"a": [1, 1.50], "b": 1}'$$),
	('member_escapes', $$event_properties->>'action' = E'aä\n"d'$$),
	('member_null', $$event_properties->>'action' IS NULL$$),
	('member_is_not', $$event_properties->>'action' <> 'add'$$),
	('member_of_member', $$event_properties->'more'->>'action' = 'add'$$),
	('both', $$page_url LIKE '/%' AND event_properties->>'action' = 'add'$$),
	('three', $$page_url LIKE '/%' AND event_properties->>'action' = 'add' AND NOT event_properties ? 'z'$$),
	('as_text', $$length(event_properties::text) > 20$$),
	('element', $$event_properties @> '[{"action": "add"}]'$$);
SELECT clickstream.create_stream('s470') > 0 AS made;
SELECT count(clickstream.create_window(name, stream => 's470', size => '1 day', filter => text, measures => 'count(*) AS events')) FROM condition;
SELECT clickstream.create_window('measures', stream => 's470', size => '1 day', measures => (
	SELECT string_agg(format('count(*) FILTER (WHERE %s) AS %I', text, name), ', ') FROM condition));
SELECT clickstream.create_window('kinds', stream => 's470', size => '1 day', group_by => 'event_properties',
	measures => 'count(*) AS events, clickstream.first(event_properties, place) AS first');
SELECT clickstream.create_event_log('log', stream => 's470');
SELECT count(clickstream.produce('s470', format('{"user_id": "u%s", "event_time": "2025-03-01T12:00:00Z", "page_url": %s, "event_properties": %s}',
	n, coalesce(to_json(page_url)::text, 'null'), coalesce(properties, 'null')))) FROM event;
CALL clickstream.process('s470');
CALL clickstream.finish('s470');

-- Differences of a condition's window and of its measure to plain SQL: none.  How many rows meet it.
CREATE VIEW plain AS SELECT n, page_url, nullif(properties::jsonb, 'null') AS event_properties FROM event;
CREATE FUNCTION counts(name text, condition text) RETURNS TABLE (plain bigint, in_window bigint, in_measure bigint) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT (SELECT count(*) FROM plain WHERE %s), coalesce((SELECT events FROM %I), 0), (SELECT %I FROM measures)',
		condition, name, name);
END $$;
SELECT c.name, k.*, k.plain = k.in_window AND k.plain = k.in_measure AS same FROM condition c, counts(c.name, c.text) k ORDER BY c.name COLLATE "C";
-- What is stored of the values is the jsonb itself.
SELECT count(*) AS kinds, sum(events) AS events FROM kinds;
SELECT event_properties, event_properties IS NOT DISTINCT FROM first AS same FROM kinds
	WHERE length(event_properties::text) < 80 OR event_properties IS NULL ORDER BY event_properties::text COLLATE "C";
SELECT count(*) AS logged, count(*) FILTER (WHERE l.event_properties IS NOT DISTINCT FROM p.event_properties) AS same
	FROM log l JOIN plain p ON l.user_id = format('u%s', n);
SELECT count(*) AS dead FROM clickstream.dead_letter WHERE stream = 's470';

SELECT clickstream.drop_stream('s470');
DROP SCHEMA t470 CASCADE;
