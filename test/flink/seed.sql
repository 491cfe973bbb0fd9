-- The clickstream pipeline in Flink SQL that doc/flink.md is about, statement
-- by statement as it was published (Streamkap, "Clickstream Analytics with
-- Flink", 25 February 2026).  The test replaces the two addresses, kafka:9092
-- and analytics-db:5432/clickstream, by its own.
--
-- "Repaired" marks each place that differs from what was published, and why.
-- surprises.sql has what Flink does with statements as they were.

-- Repaired: the topic is read from its beginning and to its end ('latest-offset'
-- would see nothing of a topic that is there already), so that the job ends,
-- the watermark goes to its greatest value and everything closes.
-- Added: the position of an event in the topic, for the two repairs below.
CREATE TABLE clickstream_events (
  user_id        STRING,
  anonymous_id   STRING,   -- for logged-out users
  event_type     STRING,   -- 'page_view', 'click', 'scroll', 'form_submit', 'purchase'
  page_url       STRING,
  page_title     STRING,
  referrer_url   STRING,
  utm_source     STRING,
  utm_medium     STRING,
  utm_campaign   STRING,
  device_type    STRING,   -- 'desktop', 'mobile', 'tablet'
  browser        STRING,
  country        STRING,
  event_time     TIMESTAMP(3),
  event_properties MAP<STRING, STRING>,  -- flexible key-value pairs
  kafka_topic     STRING METADATA FROM 'topic' VIRTUAL,
  kafka_partition INT    METADATA FROM 'partition' VIRTUAL,
  kafka_offset    BIGINT METADATA FROM 'offset' VIRTUAL,
  WATERMARK FOR event_time AS event_time - INTERVAL '10' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'clickstream-events',
  'properties.bootstrap.servers' = 'kafka:9092',
  'format' = 'json',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset'
);

CREATE TABLE user_profiles (
  user_id       STRING,
  email         STRING,
  plan_type     STRING,     -- 'free', 'pro', 'enterprise'
  signup_date   DATE,
  company_name  STRING,
  PRIMARY KEY (user_id) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'users-cdc',
  'properties.bootstrap.servers' = 'kafka:9092',
  'key.format' = 'json',
  'value.format' = 'json'
);

-- An event with its place: time, partition and offset, as text that sorts
-- likewise.  Each is 41 characters long.
CREATE VIEW placed_events AS
SELECT *,
  CAST(event_time AS STRING) || LPAD(CAST(kafka_partition AS STRING), 6, '0')
    || LPAD(CAST(kafka_offset AS STRING), 12, '0') AS place
FROM clickstream_events;

-- Repaired: FIRST_VALUE and LAST_VALUE have no merge function, so Flink refuses
-- them in a session window.  MIN and MAX over the place with the value behind
-- it give the same: the first and last value that is not NULL, by event time
-- (FIRST_VALUE itself would go by arrival).
-- Added: the place of the first event, and what the first event itself says,
-- NULL included, which is what user_sessions of clickstream has.
CREATE VIEW user_sessions AS
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
  SUBSTRING(MIN(place || device_type), 42)         AS device_type,
  MIN(place || kafka_topic)                        AS first_place,
  SUBSTRING(MIN(place || COALESCE('=' || referrer_url, '-')), 42) AS first_referrer,
  SUBSTRING(MIN(place || COALESCE('=' || page_url, '-')), 42)     AS first_page,
  SUBSTRING(MIN(place || COALESCE('=' || utm_source, '-')), 42)   AS first_source,
  SUBSTRING(MIN(place || COALESCE('=' || utm_campaign, '-')), 42) AS first_campaign,
  SUBSTRING(MIN(place || COALESCE('=' || device_type, '-')), 42)  AS first_device
FROM placed_events
GROUP BY
  COALESCE(user_id, anonymous_id),
  SESSION(event_time, INTERVAL '30' MINUTE);

CREATE VIEW page_views_per_minute AS
SELECT
  page_url,
  page_title,
  TUMBLE_START(event_time, INTERVAL '1' MINUTE) AS window_start,
  COUNT(*) AS view_count,
  COUNT(DISTINCT COALESCE(user_id, anonymous_id)) AS unique_visitors
FROM clickstream_events
WHERE event_type = 'page_view'
GROUP BY
  page_url,
  page_title,
  TUMBLE(event_time, INTERVAL '1' MINUTE);

CREATE VIEW page_views_rolling AS
SELECT
  page_url,
  HOP_START(event_time, INTERVAL '1' MINUTE, INTERVAL '15' MINUTE) AS window_start,
  COUNT(*) AS view_count,
  COUNT(DISTINCT COALESCE(user_id, anonymous_id)) AS unique_visitors
FROM clickstream_events
WHERE event_type = 'page_view'
GROUP BY
  page_url,
  HOP(event_time, INTERVAL '1' MINUTE, INTERVAL '15' MINUTE);

CREATE VIEW traffic_by_source AS
SELECT
  utm_source,
  utm_campaign,
  device_type,
  TUMBLE_START(event_time, INTERVAL '5' MINUTE) AS window_start,
  COUNT(*) AS event_count,
  COUNT(DISTINCT COALESCE(user_id, anonymous_id)) AS unique_users
FROM clickstream_events
WHERE event_type = 'page_view'
GROUP BY
  utm_source,
  utm_campaign,
  device_type,
  TUMBLE(event_time, INTERVAL '5' MINUTE);

-- Repaired: without "user_id IS NOT NULL" all anonymous visitors are one user,
-- whose events make conversions of nobody, on one core.
CREATE VIEW checkout_funnel AS
SELECT
  user_id,
  product_view_time,
  add_to_cart_time,
  checkout_time,
  purchase_time,
  TIMESTAMPDIFF(SECOND, product_view_time, purchase_time) AS funnel_duration_seconds
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
  PATTERN (A B C D) WITHIN INTERVAL '1' HOUR
  DEFINE
    A AS A.event_type = 'page_view'
         AND A.page_url LIKE '%/product/%',
    B AS B.event_type = 'click'
         AND B.event_properties['action'] = 'add_to_cart',
    C AS C.event_type = 'page_view'
         AND C.page_url LIKE '%/checkout%',
    D AS D.event_type = 'purchase'
) AS funnel;

CREATE VIEW funnel_step_counts AS
SELECT
  TUMBLE_START(event_time, INTERVAL '1' HOUR) AS window_start,
  COUNT(DISTINCT CASE
    WHEN event_type = 'page_view' AND page_url LIKE '%/product/%'
    THEN user_id END) AS product_viewers,
  COUNT(DISTINCT CASE
    WHEN event_properties['action'] = 'add_to_cart'
    THEN user_id END) AS cart_adders,
  COUNT(DISTINCT CASE
    WHEN event_type = 'page_view' AND page_url LIKE '%/checkout%'
    THEN user_id END) AS checkout_starters,
  COUNT(DISTINCT CASE
    WHEN event_type = 'purchase'
    THEN user_id END) AS purchasers
FROM clickstream_events
GROUP BY TUMBLE(event_time, INTERVAL '1' HOUR);

CREATE TABLE session_metrics_sink (
  window_start         TIMESTAMP(3),
  total_sessions       BIGINT,
  avg_session_duration DOUBLE,
  avg_pages_per_session DOUBLE,
  bounce_rate          DOUBLE,
  PRIMARY KEY (window_start) NOT ENFORCED
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:postgresql://analytics-db:5432/clickstream',
  'table-name' = 'session_metrics',
  'driver' = 'org.postgresql.Driver'
);

CREATE TABLE funnel_metrics_sink (
  window_start      TIMESTAMP(3),
  product_viewers   BIGINT,
  cart_adders       BIGINT,
  checkout_starters BIGINT,
  purchasers        BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = 'funnel-metrics',
  'properties.bootstrap.servers' = 'kafka:9092',
  'format' = 'json'
);
