-- One picture of the demo, as lines of text; screen.sh draws it each second.
--
-- Variables: plain (one line instead), cols and rows of the terminal, left
-- (what remains of the demo's time), connect (a command line), and b, d, g, y, r,
-- o: escape sequences for bold, dim, green, yellow, red and off, or empty.
-- Texts from events lose their control characters here: a page may be called
-- anything, and the terminal would obey it.  Colours go around cells that have
-- their final width, so cutting never cuts an escape sequence.
\if :plain
SELECT format('%s  %s  %s events/s  lag %s  watermark %s  sessions %s open %s closed  conversions %s  page rows %s  dead letters %s',
		to_char(clock_timestamp(), 'HH24:MI:SS'), s.state,
		coalesce(round(s.events_per_second::numeric, 1)::text, '-'), coalesce(s.lag::text, '-'),
		CASE WHEN isfinite(s.watermark) THEN to_char(s.watermark, 'HH24:MI:SS') ELSE '-' END,
		(SELECT count(*) FROM clickstream.open_sessions('web.user_sessions')),
		(SELECT count(*) FROM web.user_sessions WHERE closed_reason IS NOT NULL),
		(SELECT count(*) FROM web.checkout_funnel WHERE is_conversion),
		(SELECT count(*) FROM web.page_views_per_minute),
		(SELECT count(*) FROM clickstream.dead_letter WHERE stream = 'web'))
	FROM clickstream.stat_stream s
	WHERE s.stream = 'web';
\else
WITH size AS (
	-- one column less: erasing to the end of a full line would take its last character
	SELECT least(:cols - 1, 100) AS width,
		5 + greatest(0, least(5, (:rows - 25) / 2)) AS pages,
		3 + greatest(0, least(4, (:rows - 26) / 2)) AS minutes
),
head AS (
	SELECT s.state, s.lag, s.last_error,
		coalesce(round(s.events_per_second::numeric, 1)::text, '-') AS rate,
		CASE WHEN isfinite(s.watermark)
			THEN format('%s (%s s ago)', to_char(s.watermark, 'HH24:MI:SS'),
				round(extract(epoch FROM clock_timestamp() - s.watermark)))
			ELSE '-' END AS watermark
	FROM clickstream.stat_stream s
	WHERE s.stream = 'web'
),
sessions AS (
	SELECT (SELECT count(*) FROM clickstream.open_sessions('web.user_sessions')) AS open,
		count(*) FILTER (WHERE closed_reason IS NOT NULL) AS closed,
		avg(session_duration_seconds) AS duration
	FROM web.user_sessions
),
-- the minute going on and the one before it
minute AS (
	SELECT max(window_start) AS start FROM web.page_views_per_minute
),
page AS (
	SELECT regexp_replace(page_url, '^https?://[^/]+|[\x01-\x1f\x7f-\x9f]', '', 'g') AS url,
		coalesce(sum(view_count) FILTER (WHERE window_start = start), 0) AS now,
		coalesce(sum(view_count) FILTER (WHERE window_start < start), 0) AS before
	FROM minute
	JOIN web.page_views_per_minute ON window_start >= start - interval '1 minute'
	GROUP BY 1
	ORDER BY sum(view_count) DESC, url
	LIMIT (SELECT pages FROM size)
),
level AS (
	SELECT count(*) FILTER (WHERE level >= 1) AS l1, count(*) FILTER (WHERE level >= 2) AS l2,
		count(*) FILTER (WHERE level >= 3) AS l3, count(*) FILTER (WHERE level >= 4) AS l4,
		percentile_cont(0.5) WITHIN GROUP (ORDER BY funnel_duration_seconds) FILTER (WHERE is_conversion) AS median
	FROM web.checkout_funnel
),
step AS (
	SELECT k, name, reached, previous, l1 AS first
	FROM level, LATERAL (VALUES (1, 'product view', l1, l1), (2, 'add to cart', l2, l1),
		(3, 'checkout', l3, l2), (4, 'purchase', l4, l3)) AS v (k, name, reached, previous)
),
metric AS (
	SELECT * FROM web.session_metrics ORDER BY window_start DESC LIMIT (SELECT minutes FROM size)
),
dead AS (
	SELECT d.topic, d.partition, d.message_offset, coalesce(d.error, '') AS error, d.arrived_at,
		regexp_replace(encode(substring(d.payload FROM 1 FOR 400), 'escape'), '[\x01-\x1f\x7f]', ' ', 'g') AS payload
	FROM clickstream.dead_letter d
	WHERE d.stream = 'web'
	ORDER BY d.arrived_at DESC, d.partition, d.message_offset DESC
	LIMIT 1
),
line (block, number, text) AS (
	SELECT 0, 0, :'b' || rpad('clickstream: topic clickstream-events -> schema web', width - 26) || :'o'
			|| :'d' || lpad(to_char(clock_timestamp(), 'HH24:MI:SS') || '  ' || :'left', 26) || :'o'
		FROM size
	UNION ALL
	SELECT 0, 1, CASE state WHEN 'running' THEN :'g' WHEN 'failed' THEN :'r' ELSE :'y' END || state || :'o'
			|| '   events/s ' || :'b' || rpad(rate, 8) || :'o' || ' lag ' || :'b' || rpad(coalesce(lag::text, '-'), 7) || :'o'
			|| ' watermark ' || :'b' || watermark || :'o'
		FROM head
	UNION ALL
	SELECT 0, 2, 'sessions  open ' || :'b' || rpad(open::text, 7) || :'o' || ' closed ' || :'b' || rpad(closed::text, 8) || :'o'
			|| ' average ' || :'b' || coalesce(round(duration)::text, '-') || ' s' || :'o'
		FROM sessions
	UNION ALL
	SELECT 0, 3, :'r' || left(regexp_replace(last_error, '[\x01-\x1f\x7f]', ' ', 'g'), width) || :'o'
		FROM head, size
		WHERE state <> 'running' AND last_error IS NOT NULL
	UNION ALL
	SELECT 1, 0, ''
	UNION ALL
	SELECT 1, 1, :'d' || rpad('TOP PAGES', width - 26)
			|| lpad('since ' || coalesce(to_char(start, 'HH24:MI'), '-'), 12) || lpad('minute before', 14) || :'o'
		FROM size, minute
	UNION ALL
	SELECT 1, 1 + row_number() OVER (ORDER BY page.now + before DESC, url),
			rpad(url, width - 26) || :'b' || lpad(page.now::text, 12) || :'o' || lpad(before::text, 14)
		FROM page, size
	UNION ALL
	SELECT 2, 0, ''
	UNION ALL
	SELECT 2, 1, :'d' || rpad('CHECKOUT FUNNEL', 16) || lpad('attempts', 9) || lpad('of previous', 13) || lpad('of first', 10)
			|| coalesce('  median ' || round(median) || ' s to buy', '') || :'o'
		FROM level
	UNION ALL
	SELECT 2, 1 + k, rpad(name, 16) || :'b' || lpad(reached::text, 9) || :'o'
			|| lpad(coalesce(round(100.0 * reached / nullif(previous, 0), 1) || ' %', '-'), 13)
			|| lpad(coalesce(round(100.0 * reached / nullif(first, 0), 1) || ' %', '-'), 10)
			|| '  ' || :'g' || repeat('#', coalesce((width - 51) * reached / nullif(first, 0), 0)::int) || :'o'
		FROM step, size
	UNION ALL
	SELECT 3, 0, ''
	UNION ALL
	SELECT 3, 1, :'d' || rpad('SESSIONS BEGUN AT', 18) || lpad('sessions', 10) || lpad('avg duration', 15)
			|| lpad('avg pages', 12) || lpad('bounce rate', 14) || :'o'
	UNION ALL
	SELECT 3, 1 + row_number() OVER (ORDER BY window_start DESC),
			rpad(to_char(window_start, 'HH24:MI'), 18) || :'b' || lpad(total_sessions::text, 10) || :'o'
			|| lpad(coalesce(round(avg_session_duration::numeric) || ' s', '-'), 15)
			|| lpad(coalesce(round(avg_pages_per_session::numeric, 1)::text, '-'), 12)
			|| lpad(coalesce(round(100 * bounce_rate::numeric) || ' %', '-'), 14)
		FROM metric
	UNION ALL
	SELECT 4, 0, ''
		FROM size
		WHERE :rows > 24
	UNION ALL
	SELECT 4, 1, :'d' || rpad('NEWEST DEAD LETTER', 20) || :'o' || :'y'
			|| left(to_char(arrived_at, 'HH24:MI:SS') || format('  %s/%s/%s  ', topic, partition, message_offset)
				|| regexp_replace(error, '[\x01-\x1f\x7f]', ' ', 'g'), width - 20) || :'o'
		FROM dead, size
	UNION ALL
	SELECT 4, 2, left(payload, width) FROM dead, size
	UNION ALL
	SELECT 5, 0, :'d' || left(:'connect', width) || :'o' FROM size
)
SELECT text FROM line ORDER BY block, number;
\endif
