-- Lookups and a plain join, by random: a table that changes between batches, batches of any size and three partitions; each
-- event must have what the table had when its batch began.  NULLs, no rows, keys that come again, two lookups of one event.
-- Another seed: CLICKSTREAM_SEED=… in the environment.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = warning;
\getenv seed CLICKSTREAM_SEED
\if :{?seed}
\else
\set seed 551
\endif
\echo seed :seed
CREATE SCHEMA t551;
SET search_path = t551;
SELECT setseed(:seed / 1000000.0);
CREATE TABLE profile (id int PRIMARY KEY, plan text, score numeric, since date);
CREATE VIEW referrer AS SELECT 'r' || id AS name, plan || id AS label FROM profile WHERE id % 2 = 0;
CREATE TABLE history (batch int, id int, plan text, score numeric, since date);
CREATE TABLE event (batch int, message_partition int, message_offset bigint, event_time timestamptz, who int, referrer text, type text);
SELECT clickstream.create_stream('s551', watermark_delay => '2 hours', extra_columns => 'who int', filter => $$event_type IS DISTINCT FROM 'bot'$$) > 0 AS made;
SELECT clickstream.create_event_log('log', stream => 's551');
SELECT clickstream.create_lookup('profile', stream => 's551', key => 'id', event_key => 'who');
SELECT clickstream.create_lookup('referrer', stream => 's551', key => 'name', event_key => 'referrer_url');
SELECT clickstream.create_window('plans', stream => 's551', size => '10 minutes', group_by => 'profile.plan', filter => 'profile.score IS DISTINCT FROM 13',
	measures => $$count(*) AS events, sum(profile.score) AS score, max(event_time::date - profile.since) AS oldest, count(DISTINCT referrer.label) AS labels$$);
SELECT clickstream.create_session('visits', stream => 's551', gap => '20 minutes', key => 'who', measures => 'first(profile.plan) AS first_plan, last(profile.plan) AS last_plan, count(referrer.label) AS referred, sum(profile.score) AS score');
CREATE PROCEDURE go(batches int) LANGUAGE plpgsql AS $$
DECLARE
	e event;
BEGIN
	FOR batch IN 1 .. batches LOOP
		DELETE FROM profile WHERE random() < 0.1;
		UPDATE profile SET plan = (ARRAY['free', 'pro', 'team', NULL])[1 + trunc(random() * 4)::int], score = trunc(random() * 20) WHERE random() < 0.3;
		INSERT INTO profile SELECT trunc(random() * 60), 'p' || trunc(random() * 3), trunc(random() * 20), '2024-01-01'::date + trunc(random() * 150)::int FROM generate_series(1, 5) ON CONFLICT DO NOTHING;
		INSERT INTO history SELECT batch, p.* FROM profile p;
		FOR i IN 1 .. 1 + trunc(random() * CASE WHEN random() < 0.1 THEN 2500 ELSE 30 END)::int LOOP
			e := (batch, trunc(random() * 3), NULL, '2024-06-01 00:00+00'::timestamptz + batch * interval '1 minute' + trunc(random() * 600) * interval '1 second',
				CASE WHEN random() < 0.9 THEN trunc(random() * 70) END, CASE WHEN random() < 0.5 THEN 'r' || trunc(random() * 70) END, CASE WHEN random() < 0.1 THEN 'bot' ELSE 'view' END);
			e.message_offset := clickstream.produce('s551', jsonb_build_object('event_time', e.event_time, 'who', e.who, 'referrer_url', e.referrer, 'event_type', e.type)::text, partition => e.message_partition);
			INSERT INTO event SELECT e.*;
		END LOOP;
		COMMIT;
		CALL clickstream.process('s551');
	END LOOP;
END
$$;
CALL go(60);
CALL clickstream.finish('s551');
SELECT count(*) > 300 AS enough, count(DISTINCT batch) AS batches FROM event;
-- the join in plain SQL
CREATE VIEW joined AS
SELECT e.*, p.id, p.plan, p.score, p.since, r.plan || r.id AS label
FROM event e LEFT JOIN history p ON p.batch = e.batch AND p.id = e.who
LEFT JOIN history r ON r.batch = e.batch AND r.id % 2 = 0 AND 'r' || r.id = e.referrer
WHERE e.type <> 'bot';
CREATE VIEW logged AS SELECT partition, message_offset, profile_id, profile_plan, profile_score, profile_since, referrer_label FROM log WHERE class <> 'filtered';
SELECT count(*) AS in_log_only FROM (SELECT * FROM logged EXCEPT ALL SELECT message_partition, message_offset, id, plan, score, since, label FROM joined) AS x;
SELECT count(*) AS in_join_only FROM (SELECT message_partition, message_offset, id, plan, score, since, label FROM joined EXCEPT ALL SELECT * FROM logged) AS x;
SELECT count(*) > 50 AS found, count(*) FILTER (WHERE profile_id IS NULL) > 50 AS not_found FROM logged;
CREATE VIEW windows AS SELECT date_bin('10 minutes', event_time, '2024-01-01') AS window_start, plan, count(*) AS events, sum(score) AS score, max(event_time::date - since) AS oldest, count(DISTINCT label) AS labels
FROM joined WHERE score IS DISTINCT FROM 13 GROUP BY 1, 2;
SELECT count(*) AS windows_differ FROM (TABLE windows EXCEPT SELECT window_start, plan, events, score, oldest, labels FROM plans) AS x;
SELECT count(*) AS windows_differ FROM (SELECT window_start, plan, events, score, oldest, labels FROM plans EXCEPT TABLE windows) AS x;
SELECT (SELECT sum(referred) FROM visits) = (SELECT count(label) FROM joined WHERE who IS NOT NULL) AS referred, (SELECT sum(score) FROM visits) = (SELECT sum(score) FROM joined) AS score;
SELECT * FROM clickstream.verify('plans') UNION ALL SELECT * FROM clickstream.verify('visits');
DROP VIEW logged;
SELECT clickstream.drop_stream('s551');
DROP SCHEMA t551 CASCADE;
