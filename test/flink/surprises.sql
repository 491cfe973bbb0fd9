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
-- "scrolls" did all four and scrolled once between; "exact" bought one hour
-- after the product view: none of them is there.
-- answers: | +I | <NULL> | 180 |
-- answers: | +I | in time | 3599 |
-- answers: Received a total of 2 rows
SELECT user_id, funnel_duration_seconds FROM checkout_funnel_as_published;

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
