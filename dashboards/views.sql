-- Views that the dashboards read: schema "dashboard", over what
-- clickstream.quickstart('web', ..., target_schema => 'web') makes.
--
--   psql -d DATABASE -f dashboards/views.sql
--   psql -d DATABASE -v stream=shop -v source=shop -v target=shop_dashboard -f dashboards/views.sql
--
-- Run it as the stream's owner, again and again if you like.  The views are
-- yours to read and change; nothing in the extension needs them.
--
-- Minutes, five minutes and hours in which nothing happened are there, with
-- counts of zero; averages and rates of nothing are NULL.  Time goes on to now
-- as long as the stream has read all there is; of a stream that lags it ends
-- with the newest row, for what comes after is not known to be zero.
--
-- A filter on the time reaches the tables: each view makes its row of moments
-- first and looks the tables up for those that are left, by index.  Two indexes
-- for this are made on user_sessions and one on checkout_funnel.
\set ON_ERROR_STOP on
\if :{?stream} \else \set stream web \endif
\if :{?source} \else \set source web \endif
\if :{?target} \else \set target dashboard \endif
\set QUIET on

BEGIN;
SET LOCAL client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS :"target";
SET LOCAL search_path = :"source", pg_catalog;

CREATE INDEX IF NOT EXISTS user_sessions_start ON user_sessions (session_start);
CREATE INDEX IF NOT EXISTS user_sessions_time ON user_sessions USING gist (tstzrange(session_start, last_event, '[]'));
CREATE INDEX IF NOT EXISTS checkout_funnel_start ON checkout_funnel (started_at);

SET LOCAL search_path = :"target", :"source", pg_catalog;

-- ---- moments

CREATE OR REPLACE VIEW covered AS
SELECT d.first_minute,
       CASE WHEN (SELECT s.lag FROM clickstream.stat_stream s WHERE s.stream = :'stream') = 0
            THEN greatest(d.last_minute, date_trunc('minute', now())) ELSE d.last_minute END AS last_minute
FROM (SELECT date_trunc('minute', least((SELECT min(window_start) FROM page_views_per_minute),
                                        (SELECT min(session_start) FROM user_sessions))) AS first_minute,
             date_trunc('minute', greatest((SELECT max(window_start) FROM page_views_per_minute),
                                           (SELECT max(session_start) FROM user_sessions))) AS last_minute) d;
COMMENT ON VIEW covered IS 'time that the tables cover: to now if the stream has read all there is';
COMMENT ON COLUMN covered.first_minute IS 'minute of the oldest row';
COMMENT ON COLUMN covered.last_minute IS 'now, or of a stream that lags or does not run the minute of its newest row';

CREATE OR REPLACE VIEW minutes AS
SELECT m AS minute FROM covered c, generate_series(c.first_minute, c.last_minute, '1 minute') AS m;
COMMENT ON VIEW minutes IS 'every minute that is covered';
COMMENT ON COLUMN minutes.minute IS 'start of the minute';

-- ---- visitors and sessions

CREATE OR REPLACE VIEW active_visitors AS
WITH open AS MATERIALIZED (
    SELECT m AS minute, count(*) AS visitors
    FROM clickstream.open_sessions(:'source' || '.user_sessions') o,
         generate_series(date_trunc('minute', o.session_start), date_trunc('minute', o.last_event), '1 minute') AS m
    GROUP BY 1
)
SELECT m.minute, closed.visitors + coalesce(open.visitors, 0) AS visitors
FROM minutes m
LEFT JOIN open ON open.minute = m.minute
CROSS JOIN LATERAL (
    SELECT count(*) AS visitors FROM user_sessions s
    WHERE tstzrange(s.session_start, s.last_event, '[]') && tstzrange(m.minute, m.minute + interval '1 minute')
) closed;
COMMENT ON VIEW active_visitors IS 'visitors with a session under way in each minute, open sessions included';
COMMENT ON COLUMN active_visitors.minute IS 'start of the minute';
COMMENT ON COLUMN active_visitors.visitors IS 'how many; zero if none';

CREATE OR REPLACE VIEW right_now AS
SELECT count(*) FILTER (WHERE o.last_event >= now() - interval '5 minutes') AS active_visitors,
       count(*) AS open_sessions,
       coalesce(sum(o.event_count), 0)::bigint AS events_in_open_sessions
FROM clickstream.open_sessions(:'source' || '.user_sessions') o;
COMMENT ON VIEW right_now IS 'what goes on at this moment: one row';
COMMENT ON COLUMN right_now.active_visitors IS 'visitors with an event in the last five minutes';
COMMENT ON COLUMN right_now.open_sessions IS 'sessions that have not ended';
COMMENT ON COLUMN right_now.events_in_open_sessions IS 'events in them so far';

-- Sessions that end early are short: while many of a minute are open, what the
-- others average is no measure of it.
CREATE OR REPLACE VIEW sessions_per_minute AS
WITH open AS MATERIALIZED (
    SELECT date_trunc('minute', o.session_start) AS minute, count(*) AS sessions
    FROM clickstream.open_sessions(:'source' || '.user_sessions') o
    GROUP BY 1
)
SELECT m.minute,
       coalesce(x.total_sessions, 0) + coalesce(open.sessions, 0) AS sessions,
       coalesce(c.total_sessions, 0) AS ended_sessions,
       coalesce(round(c.avg_session_duration * c.total_sessions), 0)::bigint AS duration_seconds,
       coalesce(round(c.avg_pages_per_session * c.total_sessions), 0)::bigint AS pages,
       coalesce(round(c.bounce_rate * c.total_sessions), 0)::bigint AS bounces,
       c.avg_session_duration::double precision AS average_duration,
       c.bounce_rate::double precision AS bounce_rate
FROM minutes m
LEFT JOIN open ON open.minute = m.minute
LEFT JOIN LATERAL (SELECT w.* FROM session_metrics w WHERE w.window_start = m.minute) x ON true
LEFT JOIN LATERAL (SELECT x.* WHERE x.total_sessions >= 19 * coalesce(open.sessions, 0)) c ON true;
COMMENT ON VIEW sessions_per_minute IS
    'sessions by the minute in which they began; of a longer time, divide the sums by ended_sessions';
COMMENT ON COLUMN sessions_per_minute.minute IS 'start of the minute';
COMMENT ON COLUMN sessions_per_minute.sessions IS 'sessions that began, open ones included; zero if none';
COMMENT ON COLUMN sessions_per_minute.ended_sessions IS
    'those of them that have ended; zero as long as more than one in twenty is open, as for the sums';
COMMENT ON COLUMN sessions_per_minute.duration_seconds IS 'sum of the durations of those that have ended';
COMMENT ON COLUMN sessions_per_minute.pages IS 'sum of their distinct pages';
COMMENT ON COLUMN sessions_per_minute.bounces IS 'how many of them saw one page only';
COMMENT ON COLUMN sessions_per_minute.average_duration IS 'seconds; NULL without ended_sessions';
COMMENT ON COLUMN sessions_per_minute.bounce_rate IS 'from 0 to 1; NULL without ended_sessions';

-- ---- pages

CREATE OR REPLACE VIEW page_views AS
SELECT window_start AS minute, page_url, page_title, view_count AS views, unique_visitors AS visitors
FROM page_views_per_minute;
COMMENT ON VIEW page_views IS 'page views by minute and page, where there were any';
COMMENT ON COLUMN page_views.minute IS 'start of the minute';
COMMENT ON COLUMN page_views.page_url IS 'page';
COMMENT ON COLUMN page_views.page_title IS 'its title';
COMMENT ON COLUMN page_views.views IS 'page views';
COMMENT ON COLUMN page_views.visitors IS 'distinct visitors of the page in the minute';

CREATE OR REPLACE VIEW top_pages AS
SELECT p.page_url,
       coalesce(sum(p.views) FILTER (WHERE p.minute >= h.start), 0)::bigint AS views,
       coalesce(sum(p.views) FILTER (WHERE p.minute < h.start), 0)::bigint AS views_before,
       (sum(p.views) FILTER (WHERE p.minute >= h.start) / nullif(sum(p.views) FILTER (WHERE p.minute < h.start), 0)
        - 1)::double precision AS change
FROM (SELECT last_minute - interval '59 minutes' AS start FROM covered) h
JOIN page_views p ON p.minute >= h.start - interval '60 minutes'
GROUP BY 1;
COMMENT ON VIEW top_pages IS 'pages of the last hour, and of the hour before it';
COMMENT ON COLUMN top_pages.page_url IS 'page';
COMMENT ON COLUMN top_pages.views IS 'page views of the last hour';
COMMENT ON COLUMN top_pages.views_before IS 'page views of the hour before it';
COMMENT ON COLUMN top_pages.change IS 'growth: 0.5 is half as many again; NULL if there were none before';

CREATE OR REPLACE VIEW page_trend AS
WITH top AS MATERIALIZED (
    SELECT p.page_url FROM covered c JOIN page_views p ON p.minute > c.last_minute - interval '1 day'
    GROUP BY 1 ORDER BY sum(p.views) DESC, 1 LIMIT 10
)
SELECT m.minute, x.page_url, x.views
FROM minutes m
CROSS JOIN LATERAL (
    SELECT t.page_url, coalesce(sum(p.views), 0)::bigint AS views
    FROM top t
    LEFT JOIN page_views p ON p.minute = m.minute AND p.page_url IS NOT DISTINCT FROM t.page_url
    GROUP BY 1
) x;
COMMENT ON VIEW page_trend IS 'views in each minute of the ten pages that the last day saw most';
COMMENT ON COLUMN page_trend.minute IS 'start of the minute';
COMMENT ON COLUMN page_trend.page_url IS 'page';
COMMENT ON COLUMN page_trend.views IS 'page views; zero if none';

-- What quickstart(..., time_on_page => true) keeps; without it there is nothing
-- to show.
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'user_sessions'::regclass AND attname = 'page_stays') AS has_stays \gset
\if :has_stays
CREATE OR REPLACE VIEW time_on_page AS
SELECT s.session_start, p.page AS page_url, p.views, p.seconds
FROM user_sessions s CROSS JOIN LATERAL unnest(s.page_stays) AS p;
\else
CREATE OR REPLACE VIEW time_on_page AS
SELECT NULL::timestamptz AS session_start, NULL::text AS page_url, NULL::bigint AS views, NULL::double precision AS seconds WHERE false;
\endif
COMMENT ON VIEW time_on_page IS 'page views of sessions that have ended, if the sessions keep them: quickstart(..., time_on_page => true)';
COMMENT ON COLUMN time_on_page.session_start IS 'start of the session';
COMMENT ON COLUMN time_on_page.page_url IS 'page; NULL: those beyond the first 1000 of a session, together';
COMMENT ON COLUMN time_on_page.views IS 'page views: 1, but where page_url is NULL';
COMMENT ON COLUMN time_on_page.seconds IS 'until the next page view of the session; NULL of its last one';

-- ---- traffic by source

CREATE OR REPLACE VIEW traffic AS
SELECT window_start AS five_minutes, coalesce(utm_source, '(direct)') AS source, coalesce(utm_campaign, '(none)') AS campaign,
       coalesce(device_type, '(unknown)') AS device, event_count AS views, unique_users AS visitors
FROM traffic_by_source;
COMMENT ON VIEW traffic IS 'page views by five minutes, source, campaign and device, where there were any';
COMMENT ON COLUMN traffic.five_minutes IS 'start of the five minutes';
COMMENT ON COLUMN traffic.source IS 'utm_source, or (direct)';
COMMENT ON COLUMN traffic.campaign IS 'utm_campaign, or (none)';
COMMENT ON COLUMN traffic.device IS 'device_type, or (unknown)';
COMMENT ON COLUMN traffic.views IS 'page views';
COMMENT ON COLUMN traffic.visitors IS 'distinct visitors of the group in the five minutes';

CREATE OR REPLACE VIEW source_trend AS
WITH top AS MATERIALIZED (
    SELECT t.source FROM covered c JOIN traffic t ON t.five_minutes > c.last_minute - interval '1 day'
    GROUP BY 1 ORDER BY sum(t.views) DESC, 1 LIMIT 10
)
SELECT f AS five_minutes, x.source, x.views, x.visitors
FROM covered c
CROSS JOIN generate_series(date_bin('5 minutes', c.first_minute, 'epoch'), c.last_minute, '5 minutes') AS f
CROSS JOIN LATERAL (
    SELECT top.source, coalesce(sum(t.views), 0)::bigint AS views, coalesce(sum(t.visitors), 0)::bigint AS visitors
    FROM top LEFT JOIN traffic t ON t.five_minutes = f AND t.source = top.source
    GROUP BY 1
) x;
COMMENT ON VIEW source_trend IS 'traffic in each five minutes of the ten largest sources of the last day';
COMMENT ON COLUMN source_trend.five_minutes IS 'start of the five minutes';
COMMENT ON COLUMN source_trend.source IS 'utm_source, or (direct)';
COMMENT ON COLUMN source_trend.views IS 'page views; zero if none';
COMMENT ON COLUMN source_trend.visitors IS 'visitors, added up over campaigns and devices; zero if none';

-- ---- the checkout funnel

CREATE OR REPLACE VIEW checkout_steps AS
SELECT r.step, r.name, r.step || '. ' || replace(r.name, '_', ' ') AS label, r.reached,
       r.rate_from_previous::double precision AS rate_from_previous, r.rate_from_first::double precision AS rate_from_first,
       extract(epoch FROM r.median_time)::double precision AS median_seconds
FROM covered c
CROSS JOIN clickstream.funnel_report(:'source' || '.checkout_funnel', start_time => c.last_minute - interval '25 hours',
                                     end_time => c.last_minute - interval '1 hour') r;
COMMENT ON VIEW checkout_steps IS
    'how far the users of a day came on the way to a purchase; without the last hour, whose attempts may still go on';
COMMENT ON COLUMN checkout_steps.step IS 'number of the step';
COMMENT ON COLUMN checkout_steps.name IS 'name of the step';
COMMENT ON COLUMN checkout_steps.label IS 'both, to show';
COMMENT ON COLUMN checkout_steps.reached IS 'users who came so far';
COMMENT ON COLUMN checkout_steps.rate_from_previous IS 'as a part of those at the step before';
COMMENT ON COLUMN checkout_steps.rate_from_first IS 'as a part of those at the first step';
COMMENT ON COLUMN checkout_steps.median_seconds IS 'median time from the step before';

CREATE OR REPLACE VIEW conversion_per_hour AS
SELECT h AS hour, x.attempts, x.conversions,
       x.conversions / nullif(x.attempts, 0)::double precision AS conversion_rate, x.median_seconds,
       h + interval '2 hours' <= coalesce((SELECT s.watermark FROM clickstream.stat_stream s WHERE s.stream = :'stream'),
                                          '-infinity') AS is_complete
FROM covered c
CROSS JOIN generate_series(date_bin('1 hour', c.first_minute, 'epoch'), c.last_minute, '1 hour') AS h
CROSS JOIN LATERAL (
    SELECT count(*) AS attempts, count(*) FILTER (WHERE f.is_conversion) AS conversions,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY f.funnel_duration_seconds) FILTER (WHERE f.is_conversion) AS median_seconds
    FROM checkout_funnel f WHERE f.started_at >= h AND f.started_at < h + interval '1 hour'
) x;
COMMENT ON VIEW conversion_per_hour IS 'attempts to buy by the hour in which they began';
COMMENT ON COLUMN conversion_per_hour.hour IS 'start of the hour';
COMMENT ON COLUMN conversion_per_hour.attempts IS 'attempts that have ended; zero if none';
COMMENT ON COLUMN conversion_per_hour.conversions IS 'those that ended with a purchase';
COMMENT ON COLUMN conversion_per_hour.conversion_rate IS 'from 0 to 1; NULL without attempts';
COMMENT ON COLUMN conversion_per_hour.median_seconds IS 'median time from the first step to the purchase';
COMMENT ON COLUMN conversion_per_hour.is_complete IS
    'has every attempt of the hour ended? Before that those that end early, with a purchase, are too large a part';

CREATE OR REPLACE VIEW time_to_convert AS
SELECT extract(epoch FROM t.bin_start)::bigint AS seconds, t.keys AS users,
       extract(epoch FROM t.median_time)::double precision AS median_seconds
FROM covered c
CROSS JOIN clickstream.funnel_time_to_convert(:'source' || '.checkout_funnel', bins => 20,
                                              start_time => c.last_minute - interval '1 day') t;
COMMENT ON VIEW time_to_convert IS 'how long the buyers of the last day took from the first step to the purchase';
COMMENT ON COLUMN time_to_convert.seconds IS 'start of the bin';
COMMENT ON COLUMN time_to_convert.users IS 'buyers who took so long';
COMMENT ON COLUMN time_to_convert.median_seconds IS 'median of all buyers, in each row';

-- ---- is the pipeline well?

CREATE OR REPLACE VIEW pipeline_health AS
SELECT s.stream, s.state, s.lag, s.events_per_second, s.watermark,
       CASE WHEN isfinite(s.watermark) THEN extract(epoch FROM now() - s.watermark)::double precision END AS watermark_age_seconds,
       s.held_back_by, s.last_commit_at, p.consumed, p.late, p.dead,
       p.dead / nullif(p.consumed, 0)::double precision AS dead_rate, coalesce(s.problem, s.last_error) AS trouble
FROM clickstream.stat_stream s
CROSS JOIN LATERAL (
    SELECT coalesce(sum(q.next_offset - q.start_offset), 0)::bigint AS consumed, coalesce(sum(q.late), 0)::bigint AS late,
           coalesce(sum(q.dead), 0)::bigint AS dead
    FROM clickstream.stat_partition q WHERE q.stream = s.stream
) p
WHERE s.stream = :'stream';
COMMENT ON VIEW pipeline_health IS 'the stream itself: one row';
COMMENT ON COLUMN pipeline_health.stream IS 'name of the stream';
COMMENT ON COLUMN pipeline_health.state IS 'running, or why not: see clickstream.stat_stream';
COMMENT ON COLUMN pipeline_health.lag IS 'messages in the topic that are not yet in the tables; NULL while the stream is not running';
COMMENT ON COLUMN pipeline_health.events_per_second IS 'messages of the last five seconds, per second';
COMMENT ON COLUMN pipeline_health.watermark IS 'what lies before it is final';
COMMENT ON COLUMN pipeline_health.watermark_age_seconds IS 'how far it is behind the clock';
COMMENT ON COLUMN pipeline_health.held_back_by IS 'partition that holds it';
COMMENT ON COLUMN pipeline_health.last_commit_at IS 'when the newest commit was made';
COMMENT ON COLUMN pipeline_health.consumed IS 'messages read so far';
COMMENT ON COLUMN pipeline_health.late IS 'of them too late for everything that wanted them';
COMMENT ON COLUMN pipeline_health.dead IS 'of them unusable';
COMMENT ON COLUMN pipeline_health.dead_rate IS 'those as a part of all, from 0 to 1';
COMMENT ON COLUMN pipeline_health.trouble IS 'what is wrong, for those who may see it';

-- Counts only: who reads dashboards need not read payloads.  So it runs with
-- the rights of who made it.
CREATE OR REPLACE FUNCTION letters() RETURNS TABLE (minute timestamptz, kind text, letters bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT date_trunc('minute', d.arrived_at), 'dead: ' || d.cause, count(*)
    FROM clickstream.dead_letter d WHERE d.stream = :'stream' GROUP BY 1, 2
    UNION ALL
    SELECT date_trunc('minute', l.arrived_at), 'late', count(*)
    FROM clickstream.late_event l WHERE l.stream = :'stream' GROUP BY 1, 2;
END;
COMMENT ON FUNCTION letters() IS 'how many dead letters of each cause and late events came in which minute';

CREATE OR REPLACE VIEW letters_per_minute AS
WITH letter AS MATERIALIZED (SELECT * FROM letters()),
kind AS MATERIALIZED (SELECT DISTINCT l.kind FROM letter l UNION VALUES ('late'), ('dead: not JSON'))
SELECT m.minute, k.kind, coalesce(l.letters, 0) AS letters
FROM minutes m CROSS JOIN kind k LEFT JOIN letter l ON l.minute = m.minute AND l.kind = k.kind;
COMMENT ON VIEW letters_per_minute IS
    'dead letters and late events, by the minute of the clock in which they came; an event late for several tables counts for each';
COMMENT ON COLUMN letters_per_minute.minute IS 'start of the minute';
COMMENT ON COLUMN letters_per_minute.kind IS 'late, or dead and the cause';
COMMENT ON COLUMN letters_per_minute.letters IS 'how many; zero if none';

COMMIT;
