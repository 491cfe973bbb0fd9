-- Schema flink: what Flink wrote.  Schema ours: the same columns from
-- clickstream's tables.  compare.pl takes each table of schema flink that has a
-- view of the same name in schema ours.
CREATE SCHEMA flink;
CREATE SCHEMA ours;

-- ---------------------------------------------------------------------
-- as they come from Flink's files, and as JDBC writes them
-- ---------------------------------------------------------------------

CREATE TABLE flink.user_sessions_file (
	effective_user_id text, session_start timestamptz, session_end timestamptz, event_count bigint, pages_viewed bigint,
	first_event timestamptz, last_event timestamptz, session_duration_seconds bigint, landing_referrer text,
	landing_page text, exit_page text, utm_source text, utm_campaign text, device_type text, first_place text,
	first_referrer text, first_page text, first_source text, first_campaign text, first_device text);
CREATE TABLE flink.page_views_per_minute (
	page_url text, page_title text, window_start timestamptz, view_count bigint, unique_visitors bigint);
CREATE TABLE flink.page_views_rolling (
	page_url text, window_start timestamptz, view_count bigint, unique_visitors bigint);
CREATE TABLE flink.traffic_by_source (
	utm_source text, utm_campaign text, device_type text, window_start timestamptz, event_count bigint, unique_users bigint);
CREATE TABLE flink.checkout_funnel (
	user_id text, product_view_time timestamptz, add_to_cart_time timestamptz, checkout_time timestamptz,
	purchase_time timestamptz, funnel_duration_seconds bigint);
CREATE TABLE flink.checkout_funnel_relaxed (
	user_id text, product_view_time timestamptz, add_to_cart_time timestamptz, checkout_time timestamptz,
	purchase_time timestamptz);
CREATE TABLE flink.funnel_metrics_message (message jsonb);

CREATE TABLE public.session_metrics (
	window_start timestamp(3) PRIMARY KEY, total_sessions bigint, avg_session_duration double precision,
	avg_pages_per_session double precision, bounce_rate double precision);
CREATE TABLE public.session_metrics_exact (LIKE public.session_metrics INCLUDING ALL);

-- ---------------------------------------------------------------------
-- both sides of each comparison
-- ---------------------------------------------------------------------

-- A place is 23 characters of time, 6 of partition, 12 of offset, and the topic.
CREATE VIEW flink.user_sessions AS
SELECT effective_user_id, session_start, session_end,
	concat_ws('/', substr(first_place, 42), substr(first_place, 24, 6)::int, substr(first_place, 30, 12)::bigint) AS session_id,
	event_count, pages_viewed, first_event, last_event, session_duration_seconds,
	-- '-' is NULL; a value has '=' before it.
	CASE WHEN first_referrer <> '-' THEN substr(first_referrer, 2) END AS landing_referrer,
	CASE WHEN first_page <> '-' THEN substr(first_page, 2) END AS landing_page,
	exit_page,
	CASE WHEN first_source <> '-' THEN substr(first_source, 2) END AS utm_source,
	CASE WHEN first_campaign <> '-' THEN substr(first_campaign, 2) END AS utm_campaign,
	CASE WHEN first_device <> '-' THEN substr(first_device, 2) END AS device_type
FROM flink.user_sessions_file;
CREATE VIEW ours.user_sessions AS
SELECT effective_user_id, session_start, session_end, session_id, event_count, pages_viewed, first_event, last_event,
	session_duration_seconds, landing_referrer, landing_page, exit_page, utm_source, utm_campaign, device_type
FROM web.user_sessions;

CREATE VIEW flink.user_sessions_not_null AS
SELECT effective_user_id, session_start, landing_referrer, landing_page, utm_source, utm_campaign, device_type
FROM flink.user_sessions_file;
CREATE VIEW ours.user_sessions_not_null AS
SELECT effective_user_id, session_start, landing_referrer, landing_page, utm_source, utm_campaign, device_type
FROM web.user_sessions_not_null;

CREATE VIEW ours.page_views_per_minute AS
SELECT page_url, page_title, window_start, view_count, unique_visitors FROM web.page_views_per_minute;

CREATE VIEW ours.page_views_rolling AS
SELECT page_url, window_start, view_count, unique_visitors FROM web.page_views_rolling;

CREATE VIEW ours.traffic_by_source AS
SELECT utm_source, utm_campaign, device_type, window_start, event_count, unique_users FROM web.traffic_by_source;

CREATE VIEW ours.checkout_funnel AS
SELECT user_id, product_view_time, add_to_cart_time, checkout_time, purchase_time, funnel_duration_seconds
FROM web.checkout_funnel_strict WHERE is_conversion;
-- Reported only.
CREATE VIEW ours.checkout_funnel_relaxed AS
SELECT user_id, product_view_time, add_to_cart_time, checkout_time, purchase_time FROM web.checkout_funnel WHERE is_conversion;

CREATE VIEW flink.funnel_step_counts AS
SELECT (message->>'window_start')::timestamptz AS window_start, (message->>'product_viewers')::bigint AS product_viewers,
	(message->>'cart_adders')::bigint AS cart_adders, (message->>'checkout_starters')::bigint AS checkout_starters,
	(message->>'purchasers')::bigint AS purchasers
FROM flink.funnel_metrics_message;
CREATE VIEW ours.funnel_step_counts AS
SELECT window_start, product_viewers, cart_adders, checkout_starters, purchasers FROM web.funnel_step_counts;

-- As published: AVG of whole numbers is a whole number in Flink.
CREATE VIEW flink.session_metrics AS
SELECT window_start::timestamptz, total_sessions, avg_session_duration, avg_pages_per_session,
	round(bounce_rate::numeric, 9) AS bounce_rate
FROM public.session_metrics;
CREATE VIEW ours.session_metrics AS
SELECT window_start, total_sessions, trunc(avg_session_duration)::double precision AS avg_session_duration,
	trunc(avg_pages_per_session)::double precision AS avg_pages_per_session, round(bounce_rate, 9) AS bounce_rate
FROM web.session_metrics_by_start;

CREATE VIEW flink.session_metrics_exact AS
SELECT window_start::timestamptz, total_sessions, round(avg_session_duration::numeric, 9) AS avg_session_duration,
	round(avg_pages_per_session::numeric, 9) AS avg_pages_per_session, round(bounce_rate::numeric, 9) AS bounce_rate
FROM public.session_metrics_exact;
CREATE VIEW ours.session_metrics_exact AS
SELECT window_start, total_sessions, round(avg_session_duration, 9) AS avg_session_duration,
	round(avg_pages_per_session, 9) AS avg_pages_per_session, round(bounce_rate, 9) AS bounce_rate
FROM web.session_metrics_by_start;

-- ---------------------------------------------------------------------
-- what the topic must have in it, so that the comparison says something
-- ---------------------------------------------------------------------

CREATE VIEW topic_case (place, name, count) AS
WITH pause AS (
	SELECT event_time - lag(event_time) OVER w AS length
	FROM web.clickstream_events WINDOW w AS (PARTITION BY effective_user_id ORDER BY event_time)
), step AS (
	SELECT user_id, event_time, message_offset, CASE
		WHEN event_type = 'page_view' AND page_url LIKE '%/product/%' THEN 'A'
		WHEN event_type = 'click' AND event_properties->>'action' = 'add_to_cart' THEN 'B'
		WHEN event_type = 'page_view' AND page_url LIKE '%/checkout%' THEN 'C'
		WHEN event_type = 'purchase' THEN 'D'
		ELSE '-' END AS step
	FROM web.clickstream_events WHERE user_id IS NOT NULL
), chain AS (
	SELECT string_agg(step, '') OVER w AS steps, event_time - first_value(event_time) OVER w AS length
	FROM step WINDOW w AS (PARTITION BY user_id ORDER BY event_time, message_offset ROWS 3 PRECEDING)
), arrival AS (
	SELECT event_time < max(event_time) OVER (PARTITION BY partition ORDER BY message_offset) AS out_of_order
	FROM web.clickstream_events
)
SELECT 1, 'all four partitions', (count(DISTINCT partition) = 4)::int FROM web.clickstream_events
UNION ALL SELECT 2, 'events out of order', count(*) FROM arrival WHERE out_of_order
UNION ALL SELECT 3, 'equal times', count(*) FROM pause WHERE length = '0'
UNION ALL SELECT 4, 'a pause of 30 min - 1 ms', count(*) FROM pause WHERE length = '00:29:59.999'
UNION ALL SELECT 5, 'a pause of 30 min', count(*) FROM pause WHERE length = '00:30:00'
UNION ALL SELECT 6, 'a pause of 30 min + 1 ms', count(*) FROM pause WHERE length = '00:30:00.001'
UNION ALL SELECT 7, 'four steps in 1 h - 1 ms', count(*) FROM chain WHERE steps = 'ABCD' AND length = '00:59:59.999'
UNION ALL SELECT 8, 'four steps in 1 h', count(*) FROM chain WHERE steps = 'ABCD' AND length = '01:00:00';
