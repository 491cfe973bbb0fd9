-- What a Flink does with statements as they were published, where that is an
-- error or a surprise.  compare.pl runs them after seed.sql, with a topic of
-- its own in the place of clickstream-events.
--
-- "-- refused: ..." says: an error with these words comes here, and no other.
-- "-- answers: ..." says: this comes in the output.

SET 'sql-client.execution.result-mode' = 'tableau';

CREATE VIEW user_sessions_as_published AS
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
  FIRST_VALUE(referrer_url)                        AS landing_referrer,
  FIRST_VALUE(page_url)                            AS landing_page,
  LAST_VALUE(page_url)                             AS exit_page,
  FIRST_VALUE(utm_source)                          AS utm_source,
  FIRST_VALUE(utm_campaign)                        AS utm_campaign,
  FIRST_VALUE(device_type)                         AS device_type
FROM clickstream_events
GROUP BY
  COALESCE(user_id, anonymous_id),
  SESSION(event_time, INTERVAL '30' MINUTE);

-- refused: Could not find an implementation method 'merge' in class 'org.apache.flink.table.runtime.functions.aggregate.FirstValueAggFunction'
SELECT * FROM user_sessions_as_published;

-- DATEDIFF with a unit is no function of Flink's.
-- refused: Incorrect syntax near the keyword 'DAY'
CREATE VIEW enriched_clickstream AS
SELECT
  c.*,
  u.plan_type,
  u.signup_date,
  u.company_name,
  DATEDIFF(DAY, u.signup_date, CAST(c.event_time AS DATE)) AS days_since_signup
FROM clickstream_events c
LEFT JOIN user_profiles u
  ON c.user_id = u.user_id;

-- The same with the name that Flink has: taken.
CREATE VIEW enriched_clickstream_repaired AS
SELECT
  c.*,
  u.plan_type,
  u.signup_date,
  u.company_name,
  TIMESTAMPDIFF(DAY, u.signup_date, CAST(c.event_time AS DATE)) AS days_since_signup
FROM clickstream_events c
LEFT JOIN user_profiles u
  ON c.user_id = u.user_id;
-- When a profile changes, every event of that user that there ever was comes
-- again (UA: an update), so the join keeps them all.
-- answers: leftInputSpec=[NoUniqueKey], rightInputSpec=[JoinKeyContainsUniqueKey], changelogMode=[I,UA,D]
EXPLAIN CHANGELOG_MODE SELECT * FROM enriched_clickstream_repaired;

CREATE VIEW checkout_funnel_as_published AS
SELECT
  user_id,
  product_view_time,
  add_to_cart_time,
  checkout_time,
  purchase_time,
  TIMESTAMPDIFF(SECOND, product_view_time, purchase_time) AS funnel_duration_seconds
FROM clickstream_events
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

-- Four anonymous visitors, each with one step, are one conversion of nobody.
-- answers: | +I | <NULL> | 180 |
-- answers: | +I | in time | 3599 |
SELECT user_id, funnel_duration_seconds FROM checkout_funnel_as_published;

-- "scrolls" did all four and scrolled once between; "exact" bought one hour
-- after the product view.
-- answers: Received a total of 0 row
SELECT user_id AS missing FROM checkout_funnel_as_published WHERE user_id IN ('scrolls', 'exact');

-- Visitors without an id are one visitor, with one session.
-- answers: | +I | <NULL> | 2 |
SELECT effective_user_id, event_count FROM user_sessions WHERE effective_user_id IS NULL;

-- The average of 0 and 1 second.
-- answers: | +I | 0 |
SELECT AVG(seconds) AS average FROM (VALUES (0), (1)) AS session (seconds) GROUP BY TRUE;

-- A topic whose times are written 2024-06-01T00:00:00Z.
CREATE TABLE zoned_events (
  event_time TIMESTAMP(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'zoned-events',
  'properties.bootstrap.servers' = 'kafka:9092',
  'format' = 'json',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset'
);
-- TIMESTAMP(3) takes them in neither of the two formats that there are.
-- refused: Fail to deserialize at field: event_time
SELECT * FROM zoned_events;
-- refused: Fail to deserialize at field: event_time
SELECT * FROM zoned_events /*+ OPTIONS('json.timestamp-format.standard' = 'ISO-8601') */;

-- With this type and that option they are taken.
CREATE TABLE zoned_events_repaired (
  event_time TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'zoned-events',
  'properties.bootstrap.servers' = 'kafka:9092',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset'
);
SET 'table.local-time-zone' = 'UTC';
-- answers: | +I | zoned 2024-06-01 00:00:00.000 |
SELECT 'zoned ' || CAST(event_time AS STRING) AS repaired FROM zoned_events_repaired;

-- A topic in which one message is not JSON: the job ends there.
CREATE TABLE broken_events (
  event_type STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'broken-events',
  'properties.bootstrap.servers' = 'kafka:9092',
  'format' = 'json',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset'
);
-- refused: Unrecognized token 'not'
SELECT * FROM broken_events;
-- Or it goes on, and nobody learns of the message.
-- answers: | +I | b goes on |
SELECT event_type || ' goes on' AS goes_on FROM broken_events /*+ OPTIONS('json.ignore-parse-errors' = 'true') */;

-- A topic with events of 10:00:00, 10:05:00 and 10:00:30, in this order.  The
-- watermark moves with each event here, and one process reads and counts, which
-- makes the answer certain.
CREATE TABLE late_events (
  event_time TIMESTAMP(3),
  WATERMARK FOR event_time AS event_time - INTERVAL '10' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'late-events',
  'properties.bootstrap.servers' = 'kafka:9092',
  'format' = 'json',
  'scan.watermark.emit.strategy' = 'on-event',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset'
);
-- The late one is in no row.
SET 'parallelism.default' = '1';
-- answers: | +I | window of 10:00 | 1 |
-- answers: | +I | window of 10:05 | 1 |
SELECT 'window of ' || DATE_FORMAT(TUMBLE_START(event_time, INTERVAL '1' MINUTE), 'HH:mm') AS which, COUNT(*) AS events
FROM late_events GROUP BY TUMBLE(event_time, INTERVAL '1' MINUTE);

-- FIRST_VALUE leaves NULL out: the second value takes the place of the first.
-- answers: | +U | second |
SELECT FIRST_VALUE(x) AS first_value_x FROM (VALUES (CAST(NULL AS STRING)), ('second')) AS t (x);
