-- Properties of a broker's connection: what does not fit together, or is not
-- for everybody, is refused before anything is made.
SET client_min_messages = warning;
CREATE FUNCTION try(options text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM clickstream.create_stream('s500', brokers => 'localhost:9', topic => 't', check_broker => false, options => options::jsonb);
	RAISE EXCEPTION 'made';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RAISE WARNING '%, %', SQLSTATE, concat_ws(' | ', SQLERRM, regexp_replace(nullif(detail, ''), 'librdkafka [0-9.]+', 'librdkafka'), left(nullif(hint, ''), 100));
END $$;

-- patterns of topics
SELECT clickstream.create_stream('p500', brokers => 'localhost:9', topic => '^web(', check_broker => false);
SELECT clickstream.create_stream('p500', brokers => 'localhost:9', topic => '^' || repeat('a', 1000), check_broker => false);
SELECT clickstream.create_stream('p500', brokers => 'localhost:9', topic => 'web.*', check_broker => false);
SELECT clickstream.create_stream('p500', brokers => 'localhost:9', topic => 'web, ^shop', check_broker => false);
SELECT clickstream.create_stream('p500', brokers => 'localhost:9', topic => '^web\.', check_broker => false, start_from => 'offsets',
	start_offsets => '{"shop.a/0": 3}');
SELECT clickstream.create_stream('p500', brokers => 'localhost:9', topic => '^web\.(a|b){1,2}$', check_broker => false, start_from => 'offsets',
	start_offsets => '{"web.ab/0": 3, "*": -1}') > 0 AS made;
SELECT count(*) FROM clickstream.stat_partition WHERE stream = 'p500';
SELECT clickstream.drop_stream('p500');

-- not on the list
SELECT try('{"sasl.kerberos.kinit.cmd": "rm -rf /"}');
SELECT try('{"enable.ssl.certificate.verification": false}');
SELECT try('{"ssl.endpoint.identification.algorithm": "none"}');
SELECT try('{"enable.sasl.oauthbearer.unsecure.jwt": true}');
SELECT try('{"auto.offset.reset": "latest"}');
SELECT try('{"debug": "security"}');
SELECT try('{"compression.type": "zstd"}');
-- values
SELECT try('{"security.protocol": "TLS"}');
SELECT try('{"security.protocol": " SASL_PLAINTEXT"}');
SELECT try('{"security.protocol": "\tsasl_ssl", "sasl.username": "a"}');
SELECT try('{"security.protocol": "SASL_SSL\n"}');
SELECT try('{"client.id": "a "}');
SELECT try('{"sasl.username": "\u0001a"}');
SELECT try('{"sasl.password": "\u0001a"}');
SELECT try('{"sasl.mechanism": "GSSAPI"}');
SELECT try('{"sasl.mechanism": " GSSAPI"}');
SELECT try('{"client.id": "a\"b"}');
SELECT try('{"fetch.max.bytes": 1e12}');
SELECT try('{"ssl.ca.pem": null}');
SELECT try('{"ssl.ca.pem": ["a"]}');
-- secrets
SELECT try('{"sasl.password": "open"}');
SELECT try('{"ssl.key.pem": "open"}');
SELECT try('{"client.id": {"secret": "a"}}');
SELECT try('{"sasl.password": {"secret": "../a"}}');
SELECT try('{"sasl.password": {"secret": ".a"}}');
SELECT try('{"sasl.password": {"secret": ""}}');
SELECT try('{"sasl.password": {"file": "a"}}');
-- what goes together
SELECT try('{"security.protocol": "SASL_SSL"}');
SELECT try('{"sasl.mechanism": "PLAIN"}');
SELECT try('{"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.password": {"secret": "a"}}');
SELECT try('{"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "a"}');
SELECT try('{"sasl.oauthbearer.token.endpoint.url": "http://example.com/token"}');
SELECT try('{"sasl.oauthbearer.token.endpoint.url": "http://localhost.example.com/token"}');
SELECT try('{"sasl.oauthbearer.token.endpoint.url": "http://localhost:80@example.com/token"}');
SELECT try('{"sasl.oauthbearer.token.endpoint.url": "https://a@example.com/token"}');
-- files of the server are for administrators
CREATE ROLE regress_cs_kafka IN ROLE clickstream_admin;
SET ROLE regress_cs_kafka;
SELECT public.try('{"ssl.ca.location": "/etc/passwd"}');
RESET ROLE;
-- all of these are taken
SELECT try('{"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "sasl.username": {"secret": "user"}, "sasl.password": {"secret": "password"},
	"ssl.ca.location": "/etc/ssl/certs/ca-certificates.crt", "ssl.certificate.pem": {"secret": "c"}, "ssl.key.pem": {"secret": "k"}, "ssl.key.password": {"secret": "p"}}');
SELECT count(*) FROM clickstream.stream;
DROP ROLE regress_cs_kafka;
