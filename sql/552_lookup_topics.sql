-- Lookups that follow an upsert topic: rows by key, tombstones, what Debezium writes, and what is no row.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = notice;
CREATE SCHEMA t552;
SET search_path = t552;
SELECT clickstream.create_lookup('t552.user_profiles', key => 'user_id', columns => 'email text, plan_type text, signup_date date, company_name text');
\d user_profiles
SELECT t.table_oid, t.key, t.columns, s.name, s.start_from FROM clickstream.lookup_table t JOIN clickstream.stream s USING (stream_id);
CREATE FUNCTION send(key text, payload text) RETURNS bigint LANGUAGE sql AS $$ SELECT clickstream.produce('user_profiles', payload, key => key) $$;

-- keys: plain, a JSON string, a JSON object, with a schema around it; of several messages the last counts
SELECT send('u1', '{"user_id": "u1", "email": "one@example.com", "plan_type": "free", "signup_date": "2024-05-20"}'),
	send('"u2"', '{"email": "two@example.com", "plan_type": "pro", "signup_date": 19867, "unknown": 1}'),
	send('{"user_id": "u3"}', '{"email": null, "plan_type": "free"}'),
	send('{"schema": {"type": "struct"}, "payload": {"user_id": "u4"}}', '{"plan_type": "team", "company_name": "Ümlaut & Söhne"}'),
	send('{"schema": {"type": "string"}, "payload": "u5"}', '{"plan_type": "x"}'),
	send(NULL, '{"user_id": "u6", "plan_type": "keyless"}'),
	send('42', '{"plan_type": "number"}'),
	send('{not JSON', '{"plan_type": "odd"}'),
	send('u1', '{"plan_type": "pro", "signup_date": "2024-05-21"}'),
	send('u5', NULL), send('nobody', NULL), send('u7', '{"plan_type": "short"}'), send('u7', NULL), send('u7', '{"plan_type": "again"}');
CALL clickstream.process('user_profiles');
SELECT * FROM user_profiles ORDER BY user_id COLLATE "C";
SELECT used, filtered, dead, balanced FROM clickstream.audit('user_profiles');

-- Debezium: before, after, op; flattened; with and without schemas
SELECT clickstream.create_lookup('customer', key => 'id', columns => $$id bigint, name text, born date, paid numeric(12,2), price numeric, seen timestamptz, changed timestamp, opens time,
	active boolean, tags text[], data jsonb, big text DEFAULT 'never'$$);
SELECT clickstream.create_lookup('customer', key => 'id', columns => $$id bigint, name text, born date, paid numeric(12,2), price numeric, seen timestamptz, changed timestamp, opens time,
	active boolean, tags text[], data jsonb, big text$$);
CREATE FUNCTION cdc(key text, payload text) RETURNS bigint LANGUAGE sql AS $$ SELECT clickstream.produce('customer', payload, key => key) $$;
CREATE FUNCTION schema_of(which text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('field', which, 'type', 'struct', 'fields', '[{"field": "id", "type": "int64"}, {"field": "name", "type": "string"},
	{"field": "born", "type": "int32", "name": "io.debezium.time.Date"}, {"field": "paid", "type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}},
	{"field": "price", "type": "struct", "name": "io.debezium.data.VariableScaleDecimal"}, {"field": "seen", "type": "string", "name": "io.debezium.time.ZonedTimestamp"},
	{"field": "changed", "type": "int64", "name": "io.debezium.time.MicroTimestamp"}, {"field": "opens", "type": "int64", "name": "io.debezium.time.MicroTime"}]'::jsonb) $$;
CREATE FUNCTION envelope(body jsonb) RETURNS text LANGUAGE sql AS $$ SELECT jsonb_build_object('schema', jsonb_build_object('type', 'struct', 'fields', jsonb_build_array(schema_of('before'), schema_of('after'))), 'payload', body)::text $$;
-- 1234.56, -0.01 and 300 as Connect writes decimals
SELECT cdc('{"schema": {"type": "struct", "fields": [{"field": "id", "type": "int64"}]}, "payload": {"id": 1}}', envelope('{"before": null, "op": "c", "ts_ms": 1717236000000, "source": {"snapshot": "first"},
		"after": {"id": 1, "name": "Ann", "born": 3652, "paid": "AeJA", "price": {"scale": 3, "value": "BJPg"}, "seen": "2024-06-01T12:00:00.123456+02:00", "changed": 1717236000123456, "opens": 34200000000,
		"active": true, "tags": ["a", "b \"c\"", null, "d\\e"], "data": "{\"x\": 1}", "big": "here"}}')),
	cdc('{"id": 2}', envelope('{"before": null, "op": "r", "after": {"id": 2, "name": "Bob", "born": -1, "paid": "/w==", "price": {"scale": 0, "value": "ASw="}, "seen": null, "changed": -1, "opens": 0, "active": 0, "tags": [], "data": {"y": [2]}}}')),
	cdc('{"id": 3}', '{"before": null, "after": {"id": 3, "name": "Cid", "born": 19875, "paid": "12.5", "price": 7e-3, "seen": "2024-06-01 10:00:00Z", "changed": 1717236000000, "opens": "09:30:00.5"}, "op": "c"}'),
	cdc('{"id": 4}', '{"id": 4, "name": "Dan", "born": "1999-12-31", "seen": 1717236000, "changed": "2024-06-01T10:00:00", "__deleted": "false", "__op": "c"}'),
	cdc('{"id": 5}', '{"id": 5, "name": "Eve", "__deleted": "false"}');
CALL clickstream.process('customer');
SELECT id, name, born, paid, price, seen, changed, opens, active FROM customer ORDER BY id;
SELECT id, tags, data, big FROM customer ORDER BY id;
-- updates, a value that the sender does not know, deletions in each form, messages about something else
SELECT cdc('{"id": 1}', envelope('{"op": "u", "before": null, "after": {"id": 1, "name": "Anna", "born": 3653, "big": "__debezium_unavailable_value"}}')),
	cdc('{"id": 6}', '{"op": "u", "before": null, "after": {"id": 6, "name": "Fay", "big": "__debezium_unavailable_value"}}'),
	cdc('{"id": 2}', envelope('{"op": "d", "before": {"id": 2, "name": "Bob"}, "after": null}')), cdc('{"id": 2}', NULL),
	cdc(NULL, '{"op": "d", "before": {"id": 3}, "after": null}'),
	cdc('{"id": 4}', '{"id": 4, "name": null, "__deleted": "true"}'),
	cdc('{"id": 5}', '{"schema": {"type": "struct"}, "payload": null}'),
	cdc('{"prefix": "p"}', '{"op": "m", "message": {"prefix": "p", "content": "aGk="}, "before": null}');
CALL clickstream.process('customer');
SELECT id, name, born, big FROM customer ORDER BY id;
-- what is no row is a dead letter that says why, and harms no other
SELECT cdc(NULL, '{"name": "no key"}'), cdc('{"other": 1}', '{"name": "no key either"}'), cdc('{"id": null}', NULL), cdc(NULL, NULL), cdc('x', '{"name": "no number"}'), cdc('{"id": 9}', 'no JSON'), cdc('{"id": 9}', '[1]'), cdc('{"id": 9}', '{"born": "soon"}'),
	cdc('{"id": 9}', '{"born": 1717236000000}'), cdc('{"id": 9}', '{"opens": 34200000}'), cdc('{"id": 9}', '{"op": "t", "before": null, "after": null}'), cdc('{"id": 9}', '{"op": "z", "after": {"id": 9}}'),
	cdc('{"id": 9}', '{"op": "c", "before": null, "after": null}'), cdc('{"id": 9}', '{"paid": 99999999999}'), cdc('{"id": 9}', '{"name": "a\u0000b"}'), cdc('{"id": 9}', envelope('{"op": "c", "before": null, "after": {"id": 9, "paid": "!"}}')),
	cdc('{"id": 9}', '{"seen": 1717236000000000000}'), cdc('{"id": 9}', '{"price": {"scale": 99999, "value": "AQ=="}}'), cdc('{"id": 9}', '{"tags": [["deep"]]}'), cdc('{"id": 8}', '{"name": "good"}');
CALL clickstream.process('customer');
SELECT l.message_offset - 13 AS n, l.cause, l.error, l.sqlstate FROM clickstream.dead_letter l WHERE l.stream = 'customer' ORDER BY 1;
SELECT id, name FROM customer WHERE id > 6 ORDER BY id;
SELECT used, filtered, dead, balanced FROM clickstream.audit('customer');
SELECT * FROM clickstream.retry_dead_letters('customer');
-- the topic read again gives the same
CREATE TABLE before AS TABLE customer;
SELECT clickstream.reset('customer');
SELECT count(*) FROM customer;
CALL clickstream.process('customer', 7);
CALL clickstream.process('customer');
SELECT count(*) FROM (TABLE customer EXCEPT TABLE before) AS x;
SELECT count(*) FROM (TABLE before EXCEPT TABLE customer) AS x;

-- equal keys of unequal bytes are one row, gathered or written
SELECT clickstream.create_lookup('number_of', key => 'n', columns => 'n numeric, word text');
CREATE FUNCTION number(key text, payload text) RETURNS bigint LANGUAGE sql AS $$ SELECT clickstream.produce('number_of', payload, key => key) $$;
SELECT number('1.0', '{"word": "one"}'), number('2.0', '{"word": "two"}'), number('3', '{"word": "three"}'), number('4', '{"word": "four"}'), number('1', '{"word": "uno"}'), number('2', NULL), number('3.00', NULL), number('3.0', '{"word": "tre"}'), number('4.0', NULL);
CALL clickstream.process('number_of');
SELECT n, word FROM number_of ORDER BY n;
SELECT used, dead, balanced FROM clickstream.audit('number_of');
SELECT clickstream.drop_stream('number_of');

-- bytes, and values that the sender does not know in other forms than a string's; times to the digits of their column
CREATE DOMAIN word AS text CHECK (value <> '');
SELECT clickstream.create_lookup('blob', key => 'id', columns => 'id int, word word');
SELECT clickstream.create_lookup('blob', key => 'id', columns => 'id text, data bytea, tags text[], parts bytea[], numbers int[], ids uuid[], pairs jsonb, seen timestamptz(0), changed timestamp(3), opens time(0)');
CREATE FUNCTION blob(key text, payload text) RETURNS bigint LANGUAGE sql AS $$ SELECT clickstream.produce('blob', payload, key => key) $$;
CREATE FUNCTION bytes(body jsonb) RETURNS text LANGUAGE sql AS $$ SELECT jsonb_build_object('schema', '{"type": "struct", "fields": [{"field": "data", "type": "bytes"},
	{"field": "parts", "type": "array", "items": {"type": "bytes"}}, {"field": "opens", "type": "int64", "name": "io.debezium.time.MicroTime"}]}'::jsonb, 'payload', body)::text $$;
SELECT blob('a', bytes('{"data": "AQID/w==", "tags": ["x", "y"], "parts": ["AQ==", null, ""], "numbers": [1, null], "ids": ["00000000-0000-0000-0000-000000000001"], "pairs": {"k": "v"}}')), blob('b', bytes('{"data": ""}')),
	blob('c', '{"data": "\\x0102", "parts": ["\\x01", null], "seen": null, "changed": 1717236000123456}'), blob('d', bytes('{"data": "AQID", "tags": ["x"]}')),
	blob('e', '{"seen": "2024-06-01T10:00:00.5Z", "changed": "2024-06-01T10:00:00.123567"}'), blob('f', bytes('{"seen": 1717236000600, "opens": 34200500000}'));
CALL clickstream.process('blob');
SELECT * FROM blob ORDER BY id;
CREATE TABLE known AS SELECT * FROM blob WHERE id = 'a';
-- all that 'a' has is kept
WITH u(text) AS (VALUES ('__debezium_unavailable_value'))
SELECT blob('a', bytes(jsonb_build_object('data', encode(text::bytea, 'base64'), 'tags', ARRAY[text], 'parts', ARRAY[encode(text::bytea, 'base64')], 'ids', ARRAY['b68a35a7-17ad-35b3-af2a-ae46edb4545a'],
	'numbers', (SELECT array_agg(ascii(c) ORDER BY n) FROM regexp_split_to_table(text, '') WITH ORDINALITY AS x(c, n)), 'pairs', jsonb_build_object(text, text)))) > 0 AS sent FROM u;
CALL clickstream.process('blob');
SELECT count(*) AS kept FROM (TABLE known INTERSECT SELECT * FROM blob) AS x;
-- as a string it is kept in any column; beside other elements it is one of them
SELECT blob('d', '{"data": "__debezium_unavailable_value", "tags": ["__debezium_unavailable_value", "x"], "numbers": "__debezium_unavailable_value"}'),
	blob('h', '{"numbers": [95, 95]}'), blob('i', '{"tags": ["X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="], "ids": []}'),
	blob('g', '{"data": "AQID"}'), blob('g', '{"data": 1}'), blob('g', bytes('{"data": "!"}')), blob('g', '{"parts": ["AQID"]}'), blob((SELECT left(string_agg(md5(i::text), '' ORDER BY i), 2600) FROM generate_series(1, 100) i), '{}'), blob(repeat('y', 2601), '{}'), blob(repeat('y', 2601), NULL);
CALL clickstream.process('blob');
SELECT left(id, 3) AS id, data, tags, numbers, ids FROM blob WHERE id > 'c' ORDER BY 1;
SELECT l.message_offset - 10 AS n, l.error, l.sqlstate FROM clickstream.dead_letter l WHERE l.stream = 'blob' ORDER BY 1;
-- a column that was made one of a domain
ALTER TABLE blob ALTER tags TYPE text, ALTER id TYPE word;
SELECT blob('j', '{}') > 0 AS sent;
CALL clickstream.process('blob');
SELECT clickstream.drop_stream('blob');

-- in the definitions of a stream
SELECT clickstream.create_stream('s552', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_lookup('user_profiles', stream => 's552', key => 'user_id');
SELECT clickstream.create_window('plans', stream => 's552', size => '1 hour', group_by => 'user_profiles.plan_type', measures => 'count(*) AS events, max(event_time::date - user_profiles.signup_date) AS days');
SELECT clickstream.produce('s552', '{"user_id": "u1", "event_time": "2024-06-01T10:00:00Z"}'), clickstream.produce('s552', '{"user_id": "u9", "event_time": "2024-06-01T10:00:00Z"}');
CALL clickstream.process('s552');
SELECT send('u1', '{"plan_type": "team"}'), send('u9', '{"plan_type": "pro", "signup_date": 19875}');
CALL clickstream.process('user_profiles');
SELECT clickstream.produce('s552', '{"user_id": "u1", "event_time": "2024-06-01T10:01:00Z"}'), clickstream.produce('s552', '{"user_id": "u9", "event_time": "2024-06-01T10:01:00Z"}');
CALL clickstream.process('s552');
SELECT plan_type, events, days FROM plans ORDER BY plan_type NULLS LAST;

-- columns, indexes, triggers of the user's own are his
ALTER TABLE user_profiles ADD COLUMN note text DEFAULT 'new';
UPDATE user_profiles SET note = 'mine' WHERE user_id = 'u1';
SELECT send('u1', '{"plan_type": "pro"}'), send('u10', '{"plan_type": "free"}');
CALL clickstream.process('user_profiles');
SELECT user_id, plan_type, note FROM user_profiles WHERE user_id IN ('u1', 'u10') ORDER BY 1;
-- a column that is gone stops the stream, with the reason
ALTER TABLE customer RENAME COLUMN name TO full_name;
SELECT cdc('{"id": 8}', '{"name": "renamed"}') > 0 AS sent;
CALL clickstream.process('customer');
ALTER TABLE customer RENAME COLUMN full_name TO name;
CALL clickstream.process('customer');
SELECT name FROM customer WHERE id = 8;

-- bad input
SELECT clickstream.create_lookup('bad', key => NULL, columns => 'a text');
SELECT clickstream.create_lookup('bad', key => 'id', columns => 'a nosuchtype');
SELECT clickstream.create_lookup('bad', key => 'id', columns => 'a, b');
SELECT clickstream.create_lookup('bad', key => 'id', columns => 'a text, a int');
SELECT clickstream.create_lookup('bad', key => 'id', columns => '');
SELECT clickstream.create_lookup('bad', key => 'id', columns => 'a text', topic => 'users');
SELECT clickstream.create_lookup('user_profiles', key => 'id', columns => 'a text');
SELECT clickstream.create_lookup('user_profiles', key => 'id', columns => 'a text', if_not_exists => true);
SELECT clickstream.create_lookup('before', key => 'id', columns => 'a text');
SELECT clickstream.create_window('bad', stream => 'customer', size => '1 hour', measures => 'count(*) AS n');
SELECT clickstream.create_lookup('user_profiles', stream => 'customer', key => 'user_id');
SELECT clickstream.create_lookup_table('bad', 's552', 'id', 'a text');
\set VERBOSITY terse
SELECT clickstream.drop_stream('user_profiles');
\set VERBOSITY default
SELECT clickstream.drop_stream('s552');
SELECT clickstream.drop_stream('user_profiles');
DROP TABLE customer;
SELECT cdc('{"id": 8}', NULL) > 0 AS sent;
CALL clickstream.process('customer');
SELECT clickstream.drop_stream('customer');
SELECT count(*) FROM clickstream.lookup_table;
SET client_min_messages = warning;
DROP SCHEMA t552 CASCADE;
