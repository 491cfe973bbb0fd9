-- Mappings: presets, each with an event from its sender's documentation; paths, words, pairs; proposals; what is refused.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
CREATE SCHEMA t520;
SET search_path = t520;
SET clickstream.mock_clock = '2024-06-01 12:00:00+00';
CREATE TABLE sample (i integer, sender text, payload jsonb);
-- https://www.twilio.com/docs/segment/connections/spec/common and /page: names as there, values short
INSERT INTO sample VALUES (1, 'segment', '{
	"anonymousId": "507f191e810c19729de860ea", "channel": "browser", "type": "page", "name": "Home", "messageId": "022bb90c",
	"context": {"active": true, "campaign": {"name": "TPS Innovation Newsletter", "source": "Newsletter", "medium": "email", "term": "tps reports"},
		"ip": "8.8.8.8", "library": {"name": "analytics.js", "version": "2.11.1"}, "locale": "en-US",
		"location": {"city": "San Francisco", "country": "United States"},
		"page": {"path": "/academy/", "referrer": "", "search": "", "title": "Analytics Academy", "url": "https://example.com/academy/"},
		"userAgent": "Mozilla/5.0"},
	"properties": {"title": "Welcome | Initech", "url": "http://www.example.com"},
	"receivedAt": "2015-12-10T04:08:31.909Z", "sentAt": "2015-12-10T04:08:31.581Z", "timestamp": "2015-12-10T04:08:31.905Z",
	"originalTimestamp": "2015-12-10T04:08:31.500Z", "userId": "97980cfea0067", "version": 2}');
-- https://www.twilio.com/docs/segment/connections/spec/track
INSERT INTO sample VALUES (2, 'segment', '{
	"anonymousId": "23adfd82-aa0f-45a7-a756-24f2a7a4c895", "context": {"library": {"name": "analytics.js", "version": "2.11.1"},
		"page": {"path": "/academy/", "referrer": "", "search": "", "title": "Analytics Academy", "url": "https://example.com/academy/"}, "ip": "108.0.78.21"},
	"event": "Course Clicked", "integrations": {}, "messageId": "ajs-f8ca1e4de5024d9430b3928bd8ac6b96", "properties": {"title": "Intro to Analytics"},
	"receivedAt": "2015-12-12T19:11:01.266Z", "sentAt": "2015-12-12T19:11:01.169Z", "timestamp": "2015-12-12T19:11:01.249Z", "type": "track",
	"userId": "AiUGstSDIg", "originalTimestamp": "2015-12-12T19:11:01.152Z"}');
-- https://www.rudderstack.com/docs/event-spec/standard-events/common-fields/ and /page/; a visitor who is not known has userId ""
INSERT INTO sample VALUES (3, 'rudderstack', '{
	"type": "page", "name": "Home", "channel": "web", "userId": "", "anonymousId": "e5d5fb9d-9d47-4c5c-8e5b-1c1b2a3a4c55", "rudderId": "b7b24f86",
	"messageId": "1d8a2b6a", "context": {"app": {"name": "RudderLabs JavaScript SDK"}, "library": {"name": "RudderLabs JavaScript SDK", "version": "2.9.1"},
		"traits": {}, "locale": "en-US", "campaign": {"source": "google", "medium": "cpc", "name": "spring"},
		"page": {"path": "/", "referrer": "https://www.google.com/", "title": "Home | RudderStack", "url": "http://www.rudderstack.com/"}},
	"properties": {"title": "Home | RudderStack", "url": "http://www.rudderstack.com"},
	"originalTimestamp": "2022-02-01T19:14:18.381Z", "sentAt": "2022-02-01T19:14:18.381Z"}');
-- https://docs.snowplow.io/docs/fundamentals/canonical-event/ (the columns), as the analytics SDKs write them in JSON
INSERT INTO sample VALUES (4, 'snowplow', '{
	"app_id": "website", "platform": "web", "etl_tstamp": "2024-06-01T10:00:02.100Z", "collector_tstamp": "2024-06-01T10:00:01.000Z",
	"dvce_created_tstamp": "2024-06-01T10:00:00.500Z", "derived_tstamp": "2024-06-01T10:00:00.400Z", "event": "unstruct", "event_name": "link_click",
	"event_id": "f9a58d5d-cd13-4bfe-b9b2-5136ce1cb9fa", "user_id": null, "domain_userid": "2161814971", "network_userid": "ecdff4d0-9175-40ac-a8bb-325c49733607",
	"domain_sessionidx": 3, "geo_country": "DE", "page_url": "https://snowplow.io/", "page_title": "Snowplow", "page_referrer": "https://www.google.com/",
	"mkt_source": "google", "mkt_medium": "cpc", "mkt_campaign": "brand", "br_family": "Firefox", "dvce_type": "Computer",
	"unstruct_event_com_snowplowanalytics_snowplow_link_click_1": {"targetUrl": "http://www.example.com", "elementClasses": ["foreground"]},
	"contexts_nl_basjes_yauaa_context_1": [{"deviceClass": "Phone", "agentName": "Chrome"}]}');
-- https://posthog.com/docs/data/events and https://posthog.com/docs/references/posthog-js/types/Properties
INSERT INTO sample VALUES (5, 'posthog', '{
	"uuid": "018faf23-89b3-7cf8-a4f1-94064c96df90", "event": "$pageview", "distinct_id": "018daf23-89b3-7cf8-a4f1-94064c96df90", "timestamp": "2024-05-22T17:09:29.220Z",
	"properties": {"$os": "Mac OS X", "$browser": "Chrome", "$browser_version": 125, "$device_type": "Desktop", "$current_url": "https://example.com/page",
		"$host": "example.com", "$pathname": "/page", "$lib": "web", "$referrer": "$direct", "$referring_domain": "$direct", "title": "A page",
		"utm_source": "newsletter", "utm_medium": "email", "utm_campaign": "product_launch", "$geoip_country_code": "FR", "$ip": "192.168.1.1"}}');
-- https://support.google.com/analytics/answer/7029846: a row of the BigQuery export as JSON, where whole numbers are strings
INSERT INTO sample VALUES (6, 'ga4', '{
	"event_date": "20210131", "event_timestamp": "1612069510766593", "event_name": "page_view", "user_id": null, "user_pseudo_id": "1026454.4271112504",
	"event_params": [
		{"key": "page_location", "value": {"string_value": "https://shop.googlemerchandisestore.com/", "int_value": null, "float_value": null, "double_value": null}},
		{"key": "page_title", "value": {"string_value": "Home", "int_value": null, "float_value": null, "double_value": null}},
		{"key": "page_referrer", "value": {"string_value": "https://www.google.com/"}},
		{"key": "ga_session_id", "value": {"string_value": null, "int_value": "661084800", "float_value": null, "double_value": null}},
		{"key": "ratio", "value": {"double_value": 0.25}},
		{"key": "nothing", "value": {"string_value": null, "int_value": null}},
		{"key": "medium", "value": {"string_value": "organic"}}],
	"device": {"category": "mobile", "web_info": {"browser": "Chrome", "browser_version": "87"}}, "geo": {"country": "Switzerland"},
	"traffic_source": {"source": "first-ever", "medium": "first-ever", "name": "first-ever"},
	"collected_traffic_source": {"manual_source": "google", "manual_campaign_name": null}}');
\pset format unaligned
\x on
SELECT i, sender, d.* FROM sample, clickstream.decode_message(payload::text, sender) d ORDER BY i;
\x off
\pset format aligned
-- each preset names every one of the seed's columns and no other
SELECT preset, (SELECT count(*) FROM jsonb_object_keys(mapping)) AS columns FROM clickstream.presets();
-- proposals: the preset is recognised
SELECT i, p.preset = sender AS recognised, mapping, extra_columns, (p.event ->> 'event_time')::timestamptz AS at FROM sample, clickstream.propose_mapping(payload) p ORDER BY i;
-- of a message of one's own: paths, pairs, columns; and a stream made of the proposal
CREATE TABLE own (payload jsonb);
INSERT INTO own VALUES ('{"ts": 1717239600000, "kind": "view", "event": {"name": "page_view"}, "visitor": {"uid": "u1", "cookie_id": "c1"}, "page": {"url": "/a", "title": "A"},
	"ref": "https://r", "campaign": {"source": "s", "name": "n"}, "attributes": [{"key": "plan", "value": "pro"}, {"key": "n", "value": 3}], "cartTotal": 12.5, "vip": true, "a/b~c": "odd", "topic": "t", "country": null}');
SELECT preset, jsonb_pretty(mapping) AS mapping, extra_columns FROM own, clickstream.propose_mapping(payload);
SELECT clickstream.create_stream('s520', preset => preset, mapping => mapping, extra_columns => extra_columns) > 0 AS made FROM own, clickstream.propose_mapping(payload);
SELECT clickstream.create_event_log('log', stream => 's520');
-- message_headers: a column like any other; extra columns and headers in results
SELECT clickstream.create_window('plans', stream => 's520', size => '1 hour', group_by => $$event_properties->>'plan' AS plan, vip, message_headers->>'tenant' AS tenant, message_key$$,
	filter => $$"cartTotal" > 10$$, measures => 'count(*) AS events, sum("cartTotal") AS total');
SELECT clickstream.produce('s520', payload::text, 'k1', headers => '{"tenant": "acme"}') AS o FROM own;
SELECT clickstream.produce('s520', payload::text, NULL) AS o FROM own;
SELECT clickstream.produce('s520', 'no JSON', 'k2', headers => '{"tenant": "acme"}') AS o;
CALL clickstream.process('s520');
SELECT plan, vip, tenant, message_key, events, total FROM plans ORDER BY tenant;
SELECT user_id, anonymous_id, event_type, page_url, page_title, referrer_url, utm_source, utm_campaign, event_time, event_properties, "cartTotal", vip, "a/b~c", kind,
	message_headers FROM log WHERE message_offset = 0;
SELECT cause, headers FROM clickstream.dead_letter WHERE stream = 's520';
-- changed while the stream lives: from the next message on
SELECT clickstream.alter_stream('s520', mapping => (SELECT mapping || '{"page_url": ["/nowhere", {"pointer": "/page/url", "words": {"/a": "/mapped", "": null}}, "/ref"]}' FROM own, clickstream.propose_mapping(payload)));
SELECT clickstream.produce('s520', (payload || '{"cartTotal": 20}')::text) AS o FROM own;
SELECT clickstream.produce('s520', jsonb_set(payload, '{page,url}', '""')::text) AS o FROM own;
CALL clickstream.process('s520');
SELECT message_offset, page_url FROM log ORDER BY 1;
-- what is wrong changes nothing
SELECT clickstream.alter_stream('s520', preset => 'nobody');
SELECT clickstream.alter_stream('s520', mapping => '{"cart": "/cart"}');
SELECT clickstream.alter_stream('s520', mapping => '{"event_time": null}');
SELECT clickstream.drop_stream('s520');

-- the forms of a path, and of pairs
CREATE FUNCTION decoded(payload text, mapping jsonb) RETURNS TABLE (page_url text, page_title text, properties jsonb) LANGUAGE sql AS
	$$ SELECT page_url, page_title, event_properties FROM clickstream.decode_message('{"event_time": 0, ' || payload || '}', mapping => mapping) $$;
SELECT p.payload, d.* FROM (VALUES
	('"p": [{"key": "a", "value": 1}, {"key": "b", "value": {"x": 1}}, {"key": "c", "value": {"string_value": null, "int_value": 7}}]'),
	('"p": [{"key": "a", "value": {"stringValue": "otel"}}, {"key": "a", "value": "last"}, {"value": 1}, {"key": 1, "value": 1}, {"key": "k"}, 7, null, []]'),
	('"p": []'), ('"p": {"a": "an object already"}'), ('"p": "a text"'), ('"p": null'), ('"q": 1'),
	('"p": [{"value": {"int_value": null, "string_value": null}, "key": "a"}, {"key": "b", "value": {}}]'),
	('"p": [{"key": "a", "value": {"string_value": {"deep": [1, {"d": "\u00e9"}]}}}, {"key": "b", "value": [{"key": "x", "value": 1}]}]')) AS p(payload),
	decoded(payload, '{"page_url": {"pairs": "/p", "key": "a"}, "page_title": ["/p/0/key", {"pairs": "/p", "key": "b"}], "event_properties": {"pairs": "/p"}}') d;
SELECT p.payload, page_url FROM (VALUES ('"a": "x"'), ('"a": "y"'), ('"a": "z"'), ('"a": 1'), ('"a": null, "b": "x"'), ('"a": "y", "b": "y"'), ('"b": 2')) AS p(payload),
	decoded(payload, '{"page_url": [{"pointer": "/a", "words": {"x": "ex", "y": null, "1": "one"}}, {"pointer": "/b", "words": {"x": "bex"}}]}') d;
-- odd documents: what nobody reads can still be bad
SELECT page_url FROM decoded('"a": "y", "b": "\u0000"', '{"page_url": [{"pointer": "/a", "words": {"y": null}}, "/b"]}');
SELECT page_url FROM decoded('"a": "x", "b": "\u0000"', '{"page_url": [{"pointer": "/a", "words": {"y": null}}, "/b"]}');
SELECT properties FROM decoded('"p": [{"key": "a", "value": "\ud800"}]', '{"event_properties": {"pairs": "/p"}}');
-- RFC 6901's own examples (section 5): the whole document, members, arrays, empty names, escapes
SELECT pointer, page_url FROM (VALUES ('/foo'), ('/foo/0'), ('/'), ('/a~1b'), ('/c%d'), ('/e^f'), ('/g|h'), ('/i\j'), ('/k"l'), ('/ '), ('/m~0n'), ('/foo/-'), ('/foo/01'), ('/foo/2')) AS p(pointer),
	decoded('"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8', jsonb_build_object('page_url', pointer));
SELECT properties FROM decoded('"foo": 1', '{"event_properties": ""}');

-- refused before anything is made
CREATE FUNCTION refusal(mapping text) RETURNS TABLE (state text, message text, detail text, hint text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.create_stream('s520', mapping => mapping::jsonb);
	message := 'made';
	RETURN NEXT;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN NEXT;
END
$$;
SELECT m.mapping, r.state, r.message, r.detail FROM (VALUES (1, '[]'), (2, '{"nobody": "/a"}'), (3, '{"page_url": "a"}'), (4, '{"page_url": "/a~2"}'), (5, '{"page_url": "/~"}'), (6, '{"page_url": 7}'),
	(7, '{"page_url": []}'), (8, '{"page_url": [[]]}'), (9, '{"page_url": {}}'), (10, '{"page_url": {"pointer": "/a", "pairs": "/b"}}'), (11, '{"page_url": {"pointer": "/a", "key": "b"}}'),
	(12, '{"page_url": {"pairs": "/a"}}'), (13, '{"page_url": {"pointer": 7}}'), (14, '{"page_url": {"pointer": "/a", "word": "b"}}'), (15, '{"page_url": {"pointer": "/a", "words": []}}'),
	(16, '{"page_url": {"pointer": "/a", "words": {"a": 1}}}'), (17, '{"event_properties": {"pointer": "/a", "words": {"a": "b"}}}'), (18, '{"event_time": null}'),
	(19, '{"event_time": {"pairs": "/a"}}'), (20, '{"page_url": {"pairs": "a", "key": "b"}}'), (21, '{"message_key": "/a"}'),
	(22, '{"page_url": ' || (SELECT json_agg('/' || i) FROM generate_series(1, 17) AS i) || '}')) AS m(i, mapping), refusal(m.mapping) r ORDER BY i;
SELECT clickstream.create_stream('s520', preset => 'matomo');
SELECT clickstream.create_stream('s520', preset => NULL);
SELECT count(*) FROM clickstream.stream WHERE name = 's520';
SELECT clickstream.propose_mapping('[]');
SELECT clickstream.propose_mapping('{"page": "/a"}');
SELECT clickstream.decode_message('no JSON');
SELECT clickstream.decode_message('{}');
SELECT clickstream.decode_message(NULL);
SELECT clickstream.create_stream('s520') > 0 AS made;
SELECT clickstream.produce('s520', '{}', headers => '[]');
SELECT clickstream.drop_stream('s520');
RESET clickstream.mock_clock;
DROP SCHEMA t520 CASCADE;
