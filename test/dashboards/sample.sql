-- Hours of made-up traffic that end now, in the local topic of a stream that
-- quickstart() makes: what the tests of the dashboards look at.
--
--   psql -v visitors=400 -v hours=6 -f test/dashboards/sample.sql
--
-- Deterministic but for the clock.  Twelve minutes in the middle are silent,
-- some messages are no JSON, some come too late, and some sessions are open.
\set ON_ERROR_STOP on
\set QUIET on
SELECT clickstream.quickstart('web', target_schema => 'web', start => false, time_on_page => true);

CREATE TEMP TABLE visit AS
SELECT v, 'u' || v AS who,
       -- now many, now few
       now() - :hours * interval '1 hour' * (1 - x - 0.02 * sin(6 * pi() * x) - 0.008 * sin(17 * pi() * x) - 0.002 * sin(v * 0.37)) AS start,
       (ARRAY['search', 'search', 'search', 'newsletter', 'social', 'social', NULL, NULL, NULL, NULL, 'partner'])[1 + (v * 7919) % 11] AS source,
       (ARRAY['mobile', 'mobile', 'desktop', 'desktop', 'tablet'])[1 + (v * 104729) % 5] AS device,
       -- how many of the steps below
       (ARRAY[1, 1, 1, 3, 4, 5, 6, 7, 8, 8, 9, 9])[1 + (v * 15485863::bigint) % 12] AS steps
FROM generate_series(1, :visitors) AS v, LATERAL (SELECT v / :visitors::float8) AS u(x);

CREATE TEMP TABLE event AS
SELECT v.start + make_interval(secs => (s.n - 1) * (20 + (v.v * 31 + s.n * 17) % 45)) AS event_time, v.v, v.who, v.source, v.device, s.*
FROM visit v
CROSS JOIN LATERAL (VALUES
    (1, 'page_view', (ARRAY['/home', '/home', '/home', '/sale', '/sale', '/blog/lamps'])[1 + v.v % 6], NULL),
    (2, 'page_view', '/category/' || (ARRAY['lamps', 'lamps', 'chairs', 'tables'])[1 + v.v % 4], NULL),
    (3, 'page_view', '/product/' || (v.v * v.v) % 11, NULL),
    (4, 'click', '/product/' || (v.v * v.v) % 11, 'zoom'),
    (5, 'click', '/product/' || (v.v * v.v) % 11, 'add_to_cart'),
    (6, 'page_view', '/cart', NULL),
    (7, 'page_view', '/checkout', NULL),
    (8, 'page_view', '/checkout/payment', NULL),
    (9, 'purchase', '/checkout/done', NULL)) AS s(n, type, page, action)
WHERE s.n <= v.steps;
DELETE FROM event WHERE event_time > now();
DELETE FROM event WHERE v IN (
    SELECT v FROM event WHERE n = 1 AND event_time BETWEEN now() - :hours * interval '25 minutes' - interval '15 minutes'
                                                       AND now() - :hours * interval '25 minutes' + interval '6 minutes');

SELECT count(clickstream.produce('web', CASE WHEN e.v % 97 = 0 AND e.n = 1 THEN 'no JSON' ELSE json_build_object(
        'event_time', e.event_time, 'event_type', e.type, 'user_id', e.who, 'page_url', e.page,
        'page_title', initcap(split_part(e.page, '/', 2)), 'utm_source', e.source,
        'utm_campaign', CASE WHEN e.source = 'newsletter' THEN 'spring' END, 'device_type', e.device,
        'event_properties', json_build_object('action', e.action))::text END)) AS produced
FROM (SELECT * FROM event ORDER BY event_time) e \gset
-- too late for every table
SELECT count(clickstream.produce('web', json_build_object('event_time', now() - interval '2 hours', 'event_type', 'page_view',
    'user_id', 'late' || n, 'page_url', '/home')::text)) AS produced FROM generate_series(1, 12) AS n \gset
CALL clickstream.process('web');
-- as if they had come all along
UPDATE clickstream.dead_letter_data SET arrived_at = arrived_at - :hours * interval '1 hour' * (dead_letter_id % 101) / 101.0;
UPDATE clickstream.late_event_data SET arrived_at = arrived_at - :hours * interval '1 hour' * (message_offset * 37 % 53) / 53.0;
