-- clickstream's side of the comparison: the pipeline of quickstart(), and what
-- it is compared by where Flink's statements say something else by default.
-- psql variable: brokers.
SELECT clickstream.quickstart('web', brokers => :'brokers', topic => 'clickstream-events', target_schema => 'web',
	start_from => 'earliest', event_log => true, start => false);

-- Flink's FIRST_VALUE leaves NULLs out.
SELECT clickstream.create_session('web.user_sessions_not_null', stream => 'web', gap => '30 minutes', measures => $$
	first(referrer_url) FILTER (WHERE referrer_url IS NOT NULL) AS landing_referrer,
	first(page_url) FILTER (WHERE page_url IS NOT NULL) AS landing_page,
	first(utm_source) FILTER (WHERE utm_source IS NOT NULL) AS utm_source,
	first(utm_campaign) FILTER (WHERE utm_campaign IS NOT NULL) AS utm_campaign,
	first(device_type) FILTER (WHERE device_type IS NOT NULL) AS device_type$$);

-- The pattern (A B C D): consecutive events of a user, WITHIN exclusive.
SELECT clickstream.create_funnel('web.checkout_funnel_strict', stream => 'web', within => '1 hour', key => 'user_id',
	mode => 'strict', within_exclusive => true, steps => ARRAY[
	clickstream.step('product_view', $$event_type = 'page_view' AND page_url LIKE '%/product/%'$$),
	clickstream.step('add_to_cart', $$event_type = 'click' AND event_properties->>'action' = 'add_to_cart'$$),
	clickstream.step('checkout', $$event_type = 'page_view' AND page_url LIKE '%/checkout%'$$),
	clickstream.step('purchase', $$event_type = 'purchase'$$)]);

-- "GROUP BY session_start" means one row for each millisecond.
SELECT clickstream.create_rollup('web.session_metrics_by_start', source => 'web.user_sessions', size => '1 millisecond',
	measures => $$
	count(*) AS total_sessions,
	avg(session_duration_seconds) AS avg_session_duration,
	avg(pages_viewed) AS avg_pages_per_session,
	avg((pages_viewed = 1)::int) AS bounce_rate$$);

SELECT clickstream.start('web');
