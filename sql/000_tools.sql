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
-- Random visits: some events come hours late (only with late), some twice (the same id), some are of a bot.
CREATE FUNCTION test.random_visits(visits int, span interval, users int, late boolean DEFAULT true)
RETURNS TABLE (i bigint, v int, k int, user_id text, event_time timestamptz, page_url text, amount numeric, share float, event_type text, id text)
LANGUAGE sql AS $$
	SELECT row_number() OVER (ORDER BY arrives, e.v, e.k), e.v, e.k, e.user_id, e.event_time, e.page_url, e.amount, e.share, e.event_type, e.id
	FROM (
		SELECT v, k, 'u' || (v % users) AS user_id, t0 + k * gap AS event_time, '/' || trunc(random() * 5)::int AS page_url,
			round((random() * 100)::numeric, 2) AS amount, random() AS share, CASE WHEN random() < 0.05 THEN 'bot' ELSE 'page_view' END AS event_type,
			v || '-' || CASE WHEN random() < 0.05 THEN 0 ELSE k END AS id,
			t0 + k * gap + CASE WHEN random() < 0.07 AND late THEN interval '6 hours' + random() * interval '3 hours'
				WHEN random() < 0.2 AND late THEN random() * interval '40 minutes' ELSE random() * interval '55 seconds' END AS arrives
		FROM (SELECT v, '2024-06-01 00:00+00'::timestamptz + trunc(random() * extract(epoch FROM span)::float) * interval '1 second' AS t0,
				1 + trunc(random() * 8)::int AS n, trunc(random() * 500) * interval '1 second' AS gap
			FROM generate_series(1, visits) v) AS visit, generate_series(0, n - 1) k
	) AS e
$$;
CREATE FUNCTION test.create_visits_stream(stream text) RETURNS boolean LANGUAGE sql AS $$
	SELECT clickstream.create_stream(stream, extra_columns => 'amount numeric, share double precision', watermark_delay => '60 seconds', idle_timeout => '1 hour',
		filter => $f$event_type <> 'bot'$f$, dedupe_by => $d$event_properties->>'id'$d$, dedupe_horizon => '1 day') > 0
$$;
-- The events of table event in order of arrival, cut into parts, into so many partitions.
CREATE FUNCTION test.produce_visits(stream text, part int DEFAULT 0, parts int DEFAULT 1, partitions int DEFAULT 3) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT count(clickstream.produce(stream, (to_jsonb(e) - '{i,v,k,id}'::text[] || jsonb_build_object('event_properties', jsonb_build_object('id', id)))::text,
			partition => (i % partitions)::int, message_timestamp => event_time))
		FROM (SELECT * FROM event WHERE i * parts / (SELECT 1 + max(i) FROM event) = part ORDER BY i) AS e);
END
$$;
-- Every kind of definition over such a stream.
CREATE FUNCTION test.define_visits(stream text, suffix text, backfill boolean DEFAULT false, backfill_from timestamptz DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM clickstream.create_window('tumbling' || suffix, stream => stream, backfill => backfill, backfill_from => backfill_from, size => '10 minutes', group_by => 'page_url', allowed_lateness => '1 hour',
		measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors, sum(amount) AS amount, first(user_id) AS who, sum(share) AS share, avg(share) AS avg_share');
	PERFORM clickstream.create_window('hopping' || suffix, stream => stream, backfill => backfill, backfill_from => backfill_from, size => '1 hour', slide => '15 minutes',
		measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, max(amount) AS most', filter => 'amount > 20');
	PERFORM clickstream.create_window('cumulative' || suffix, stream => stream, backfill => backfill, backfill_from => backfill_from, size => '1 day', step => '1 hour', time_zone => 'Europe/Berlin', measures => 'count(*) AS events');
	PERFORM clickstream.create_window('crowded' || suffix, stream => stream, backfill => backfill, backfill_from => backfill_from, size => '1 hour', group_by => 'user_id', group_limit => 5, measures => 'count(*) AS events');
	PERFORM clickstream.create_session('visits' || suffix, stream => stream, backfill => backfill, backfill_from => backfill_from, gap => '10 minutes', emit => 'changes', emit_interval => '0', allowed_lateness => '40 minutes',
		measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, first(page_url) AS landing, last(page_url) AS leaving, sum(1 / (amount <> 50)::int) AS amount');
	PERFORM clickstream.create_session('split' || suffix, stream => stream, backfill => backfill, backfill_from => backfill_from, gap => '10 minutes', split_on => 'page_url', measures => 'count(*) AS events, max(amount) AS most');
	PERFORM clickstream.create_session('cut' || suffix, stream => stream, backfill => backfill, backfill_from => backfill_from, gap => '10 minutes', max_length => '20 minutes',
		measures => $m$count(*) AS events, sum(1 / (page_url <> '/4')::int) AS odd$m$);
	PERFORM clickstream.create_funnel('funnel' || suffix, stream => stream, backfill => backfill, backfill_from => backfill_from, within => '20 minutes', allowed_lateness => '30 minutes', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2')$s$), clickstream.step('c', $s$page_url = '/3'$s$)]);
	PERFORM clickstream.create_funnel('strict' || suffix, stream => stream, backfill => backfill, backfill_from => backfill_from, within => '20 minutes', mode => 'strict', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2', '/3')$s$)]);
	PERFORM clickstream.create_funnel('unordered' || suffix, stream => stream, backfill => backfill, backfill_from => backfill_from, within => '20 minutes', mode => 'unordered', steps => ARRAY[
		clickstream.step('a', $s$page_url IN ('/0', '/1')$s$), clickstream.step('b', $s$page_url IN ('/1', '/2')$s$), clickstream.step('c', $s$page_url = '/3'$s$)]);
	PERFORM clickstream.create_rollup('starts' || suffix, source => ('visits' || suffix)::regclass, backfill => backfill, size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events, avg(pages) AS pages');
	PERFORM clickstream.create_rollup('levels' || suffix, source => ('funnel' || suffix)::regclass, backfill => backfill, size => '1 hour', group_by => 'level, is_conversion AS done', measures => 'count(*) AS attempts');
END
$$;
CREATE FUNCTION test.visits_tables() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT unnest('{tumbling,hopping,cumulative,crowded,visits,split,cut,funnel,strict,unordered,starts,levels}'::text[])
$$;
-- How many rows one table has and the other has not: all columns but revision, which batches decide.
CREATE FUNCTION test.differences(one regclass, other regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM ((SELECT (to_jsonb(r) - ''revision'')::text FROM %1$s r EXCEPT ALL SELECT (to_jsonb(r) - ''revision'')::text FROM %2$s r) '
		'UNION ALL (SELECT (to_jsonb(r) - ''revision'')::text FROM %2$s r EXCEPT ALL SELECT (to_jsonb(r) - ''revision'')::text FROM %1$s r)) x', one, other) INTO n;
	RETURN n;
END
$$;
