-- What the other files use: feeding a local topic by lines, and comparing.
CREATE SCHEMA test;
-- Messages from lines "visitor time page [name=value ...]".  A time is counted
-- from 2024-06-01 00:00 UTC; "-" is NULL; everything else goes into the
-- payload as text, save
--   part=1      the partition,
--   sent=0:00   the message's own timestamp, else the event's time,
--   raw=...     the payload, to the end of the line.
CREATE FUNCTION test.feed(stream text, lines text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	epoch constant timestamptz := '2024-06-01 00:00+00';
	line text;
	word text[];
	pair text;
	event jsonb;
	payload text;
	part int;
	sent timestamptz;
BEGIN
	FOREACH line IN ARRAY string_to_array(lines, E'\n') LOOP
		CONTINUE WHEN line ~ '^\s*$';
		word := regexp_split_to_array(btrim(line, E' \t'), '\s+');
		sent := epoch + word[2]::interval;
		event := jsonb_build_object('event_type', 'page_view', 'user_id', nullif(word[1], '-'),
			'event_time', to_char(sent AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
			'page_url', nullif(word[3], '-'));
		part := 0;
		FOREACH pair IN ARRAY word[4:] LOOP
			CASE split_part(pair, '=', 1)
				WHEN 'part' THEN part := split_part(pair, '=', 2);
				WHEN 'sent' THEN sent := epoch + split_part(pair, '=', 2)::interval;
				WHEN 'raw' THEN EXIT;
				ELSE event := event || jsonb_build_object(split_part(pair, '=', 1),
					nullif(substr(pair, strpos(pair, '=') + 1), '-'));
			END CASE;
		END LOOP;
		payload := coalesce(substring(line FROM '\sraw=(.*)$'), event::text);
		PERFORM clickstream.produce(stream, payload, word[1], part, sent);
	END LOOP;
END
$$;
-- A time as it was fed.
CREATE FUNCTION test.at(t timestamptz) RETURNS text
LANGUAGE sql AS $$ SELECT CASE WHEN isfinite(t) THEN (t - '2024-06-01 00:00+00')::text ELSE t::text END $$;
-- What a table holds, as one value; without what may depend on batches.
CREATE FUNCTION test.content(t regclass) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('SELECT md5(string_agg(line, E''\n'' ORDER BY line)) FROM '
		'(SELECT (to_jsonb(r) - ''revision'')::text AS line FROM %s r) AS l', t) INTO result;
	RETURN coalesce(result, 'empty');
END
$$;
-- What became of the messages of each stream.
CREATE VIEW test.ledger AS
SELECT stream, sum(consumed) AS consumed, sum(used) AS used, sum(filtered) AS filtered, sum(late) AS late, sum(dead) AS dead,
	sum(duplicate) AS duplicate, sum(empty) AS empty, sum(skipped) AS skipped, bool_and(balanced) AS balanced
FROM clickstream.ledger GROUP BY stream;
