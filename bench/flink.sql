-- The job that bench/run.sh's mode "flink" measures: what quickstart() makes, as the published Flink SQL says it
-- (test/flink/seed.sql, whose table and views these are; file:///out stands for a directory of the run), every row into a sink that throws it away.  Ours writes rows.
--
-- user_sessions as published, with the one repair that it needs to run (FIRST_VALUE has no merge function), but without
-- what seed.sql adds to be compared; and the funnel as it is meant, with other events between its steps.
SET 'table.dml-sync' = 'true';
SET 'execution.checkpointing.interval' = '10 s';
SET 'execution.checkpointing.storage' = 'filesystem';
SET 'execution.checkpointing.dir' = 'file:///out/checkpoints';
-- A job that fails says so, and does not begin again.
SET 'restart-strategy.type' = 'none';

CREATE TEMPORARY VIEW lean_sessions AS
SELECT
  COALESCE(user_id, anonymous_id) AS effective_user_id,
  SESSION_START(event_time, INTERVAL '30' MINUTE) AS session_start,
  SESSION_END(event_time, INTERVAL '30' MINUTE)   AS session_end,
  COUNT(*)                                         AS event_count,
  COUNT(DISTINCT page_url)                         AS pages_viewed,
  MIN(event_time)                                  AS first_event,
  MAX(event_time)                                  AS last_event,
  TIMESTAMPDIFF(SECOND,
    MIN(event_time),
    MAX(event_time))                               AS session_duration_seconds,
  SUBSTRING(MIN(place || referrer_url), 42)        AS landing_referrer,
  SUBSTRING(MIN(place || page_url), 42)            AS landing_page,
  SUBSTRING(MAX(place || page_url), 42)            AS exit_page,
  SUBSTRING(MIN(place || utm_source), 42)          AS utm_source,
  SUBSTRING(MIN(place || utm_campaign), 42)        AS utm_campaign,
  SUBSTRING(MIN(place || device_type), 42)         AS device_type
FROM placed_events
GROUP BY
  COALESCE(user_id, anonymous_id),
  SESSION(event_time, INTERVAL '30' MINUTE);

CREATE TEMPORARY VIEW lean_funnel AS
SELECT user_id, product_view_time, add_to_cart_time, checkout_time, purchase_time
FROM (SELECT * FROM clickstream_events WHERE user_id IS NOT NULL)
MATCH_RECOGNIZE (
  PARTITION BY user_id
  ORDER BY event_time
  MEASURES
    A.event_time AS product_view_time,
    B.event_time AS add_to_cart_time,
    C.event_time AS checkout_time,
    D.event_time AS purchase_time
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A X*? B Y*? C Z*? D) WITHIN INTERVAL '1' HOUR
  DEFINE
    A AS A.event_type = 'page_view'
         AND A.page_url LIKE '%/product/%',
    B AS B.event_type = 'click'
         AND B.event_properties['action'] = 'add_to_cart',
    C AS C.event_type = 'page_view'
         AND C.page_url LIKE '%/checkout%',
    D AS D.event_type = 'purchase'
) AS funnel;

CREATE TABLE sessions_away (
  effective_user_id STRING, session_start TIMESTAMP(3), session_end TIMESTAMP(3), event_count BIGINT, pages_viewed BIGINT,
  first_event TIMESTAMP(3), last_event TIMESTAMP(3), session_duration_seconds INT, landing_referrer STRING,
  landing_page STRING, exit_page STRING, utm_source STRING, utm_campaign STRING, device_type STRING
) WITH ('connector' = 'blackhole');

CREATE TABLE per_minute_away (
  page_url STRING, page_title STRING, window_start TIMESTAMP(3), view_count BIGINT, unique_visitors BIGINT
) WITH ('connector' = 'blackhole');

CREATE TABLE rolling_away (
  page_url STRING, window_start TIMESTAMP(3), view_count BIGINT, unique_visitors BIGINT
) WITH ('connector' = 'blackhole');

CREATE TABLE traffic_away (
  utm_source STRING, utm_campaign STRING, device_type STRING, window_start TIMESTAMP(3), event_count BIGINT, unique_users BIGINT
) WITH ('connector' = 'blackhole');

CREATE TABLE funnel_away (
  user_id STRING, product_view_time TIMESTAMP(3), add_to_cart_time TIMESTAMP(3), checkout_time TIMESTAMP(3),
  purchase_time TIMESTAMP(3)
) WITH ('connector' = 'blackhole');

CREATE TABLE steps_away (
  window_start TIMESTAMP(3), product_viewers BIGINT, cart_adders BIGINT, checkout_starters BIGINT, purchasers BIGINT
) WITH ('connector' = 'blackhole');

CREATE TABLE metrics_away (
  window_start TIMESTAMP(3), total_sessions BIGINT, avg_session_duration DOUBLE, avg_pages_per_session DOUBLE,
  bounce_rate DOUBLE
) WITH ('connector' = 'blackhole');

EXECUTE STATEMENT SET BEGIN

INSERT INTO sessions_away SELECT * FROM lean_sessions;
INSERT INTO per_minute_away SELECT * FROM page_views_per_minute;
INSERT INTO rolling_away SELECT * FROM page_views_rolling;
INSERT INTO traffic_away SELECT * FROM traffic_by_source;
INSERT INTO funnel_away SELECT * FROM lean_funnel;
INSERT INTO steps_away SELECT * FROM funnel_step_counts;
INSERT INTO metrics_away
SELECT
  session_start,
  COUNT(*),
  AVG(CAST(session_duration_seconds AS DOUBLE)),
  AVG(CAST(pages_viewed AS DOUBLE)),
  CAST(SUM(CASE WHEN pages_viewed = 1 THEN 1 ELSE 0 END) AS DOUBLE) / COUNT(*)
FROM lean_sessions
GROUP BY session_start;

END;
