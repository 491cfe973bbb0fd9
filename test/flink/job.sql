-- The job of test/flink/compare.pl: every view of seed.sql computed once, over
-- one bounded read of the topic.  file:///out stands for the test's directory.
-- tables.sql has PostgreSQL's side of the files.
SET 'table.dml-sync' = 'true';

-- What the pattern of checkout_funnel seems to mean: other events may lie
-- between the steps.  Reported, not compared: Flink takes the first product
-- view of several, clickstream the last one that can still convert.
-- Without "user_id IS NOT NULL" all anonymous visitors are one key, in which
-- this pattern does not come to an end.
CREATE VIEW checkout_funnel_relaxed AS
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

-- Averages that are not cut to whole numbers, beside the published ones.
CREATE TABLE session_metrics_exact_sink (
  window_start         TIMESTAMP(3),
  total_sessions       BIGINT,
  avg_session_duration DOUBLE,
  avg_pages_per_session DOUBLE,
  bounce_rate          DOUBLE,
  PRIMARY KEY (window_start) NOT ENFORCED
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:postgresql://analytics-db:5432/clickstream',
  'table-name' = 'session_metrics_exact',
  'driver' = 'org.postgresql.Driver'
);

CREATE TABLE user_sessions_file (
  effective_user_id STRING, session_start TIMESTAMP(3), session_end TIMESTAMP(3), event_count BIGINT, pages_viewed BIGINT,
  first_event TIMESTAMP(3), last_event TIMESTAMP(3), session_duration_seconds INT, landing_referrer STRING,
  landing_page STRING, exit_page STRING, utm_source STRING, utm_campaign STRING, device_type STRING, first_place STRING,
  first_referrer STRING, first_page STRING, first_source STRING, first_campaign STRING, first_device STRING
) WITH ('connector' = 'filesystem', 'path' = 'file:///out/user_sessions', 'format' = 'csv', 'csv.null-literal' = '\N');

CREATE TABLE page_views_per_minute_file (
  page_url STRING, page_title STRING, window_start TIMESTAMP(3), view_count BIGINT, unique_visitors BIGINT
) WITH ('connector' = 'filesystem', 'path' = 'file:///out/page_views_per_minute', 'format' = 'csv', 'csv.null-literal' = '\N');

CREATE TABLE page_views_rolling_file (
  page_url STRING, window_start TIMESTAMP(3), view_count BIGINT, unique_visitors BIGINT
) WITH ('connector' = 'filesystem', 'path' = 'file:///out/page_views_rolling', 'format' = 'csv', 'csv.null-literal' = '\N');

CREATE TABLE traffic_by_source_file (
  utm_source STRING, utm_campaign STRING, device_type STRING, window_start TIMESTAMP(3), event_count BIGINT,
  unique_users BIGINT
) WITH ('connector' = 'filesystem', 'path' = 'file:///out/traffic_by_source', 'format' = 'csv', 'csv.null-literal' = '\N');

CREATE TABLE checkout_funnel_file (
  user_id STRING, product_view_time TIMESTAMP(3), add_to_cart_time TIMESTAMP(3), checkout_time TIMESTAMP(3),
  purchase_time TIMESTAMP(3), funnel_duration_seconds INT
) WITH ('connector' = 'filesystem', 'path' = 'file:///out/checkout_funnel', 'format' = 'csv', 'csv.null-literal' = '\N');

CREATE TABLE checkout_funnel_relaxed_file (
  user_id STRING, product_view_time TIMESTAMP(3), add_to_cart_time TIMESTAMP(3), checkout_time TIMESTAMP(3),
  purchase_time TIMESTAMP(3)
) WITH ('connector' = 'filesystem', 'path' = 'file:///out/checkout_funnel_relaxed', 'format' = 'csv', 'csv.null-literal' = '\N');

EXECUTE STATEMENT SET BEGIN

-- As published.
INSERT INTO session_metrics_sink
SELECT
  session_start AS window_start,
  COUNT(*) AS total_sessions,
  AVG(session_duration_seconds) AS avg_session_duration,
  AVG(pages_viewed) AS avg_pages_per_session,
  CAST(SUM(CASE WHEN pages_viewed = 1 THEN 1 ELSE 0 END) AS DOUBLE)
    / COUNT(*) AS bounce_rate
FROM user_sessions
GROUP BY session_start;

-- As published.
INSERT INTO funnel_metrics_sink
SELECT * FROM funnel_step_counts;

INSERT INTO session_metrics_exact_sink
SELECT
  session_start,
  COUNT(*),
  AVG(CAST(session_duration_seconds AS DOUBLE)),
  AVG(CAST(pages_viewed AS DOUBLE)),
  CAST(SUM(CASE WHEN pages_viewed = 1 THEN 1 ELSE 0 END) AS DOUBLE) / COUNT(*)
FROM user_sessions
GROUP BY session_start;

INSERT INTO user_sessions_file SELECT * FROM user_sessions;
INSERT INTO page_views_per_minute_file SELECT * FROM page_views_per_minute;
INSERT INTO page_views_rolling_file SELECT * FROM page_views_rolling;
INSERT INTO traffic_by_source_file SELECT * FROM traffic_by_source;
INSERT INTO checkout_funnel_file SELECT * FROM checkout_funnel;
INSERT INTO checkout_funnel_relaxed_file SELECT * FROM checkout_funnel_relaxed;

END;
