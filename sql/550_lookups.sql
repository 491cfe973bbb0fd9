-- Lookups: columns of tables and views in the definitions of a stream.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET client_min_messages = notice;
CREATE SCHEMA t550;
SET search_path = t550;
CREATE TABLE user_profiles (user_id text PRIMARY KEY, email text, plan_type text, signup_date date, notes jsonb);
INSERT INTO user_profiles VALUES ('ann', 'ann@example.com', 'pro', '2024-05-20', '{"a": 1}'), ('bob', 'bob@example.com', 'free', '2024-05-28', NULL),
	('cid', NULL, NULL, NULL, NULL);
SELECT clickstream.create_stream('s550', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_lookup('user_profiles', stream => 's550', key => 'user_id');
SELECT l.name, l.source, l.key, l.event_key, l.columns FROM clickstream.lookup l;
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, col_description(a.attrelid, a.attnum) AS comment FROM pg_attribute a, clickstream.stream s
WHERE s.name = 's550' AND a.attrelid = s.event_relation AND a.attnum > 20 ORDER BY a.attnum;
CREATE FUNCTION view(who text, at text, page text DEFAULT '/', type text DEFAULT 'page_view') RETURNS bigint LANGUAGE sql AS $$
	SELECT clickstream.produce('s550', jsonb_build_object('user_id', who, 'event_type', type, 'page_url', page, 'event_time', '2024-06-01T' || at || 'Z')::text)
$$;

-- groups, filters, measures, conditions of steps, session columns
SELECT clickstream.create_window('by_plan', stream => 's550', size => '1 hour', group_by => 'user_profiles.plan_type', measures => 'count(*) AS views, count(DISTINCT user_profiles.email) AS emails, max(event_time::date - user_profiles.signup_date) AS oldest');
SELECT clickstream.create_window('of_pros', stream => 's550', size => '1 hour', filter => $$user_profiles.plan_type = 'pro'$$, group_by => $$coalesce(user_profiles.plan_type, 'none') AS plan, (user_profiles.notes->>'a')::int AS a$$, measures => 'count(*) AS views');
SELECT clickstream.create_window('by_cohort', stream => 's550', size => '1 hour', group_by => $$date_trunc('week', user_profiles.signup_date)::date AS signup_week, user_profiles.user_id IS NOT NULL AS known$$, measures => 'count(*) AS views');
SELECT clickstream.create_session('visits', stream => 's550', gap => '30 minutes', measures => $$first(user_profiles.plan_type) AS plan_type, last(user_profiles.signup_date) AS signup_date, count(*) FILTER (WHERE event_type = 'page_view') AS pages_viewed$$);
SELECT clickstream.create_rollup('bounces', source => 'visits', size => '1 hour', group_by => 'plan_type', measures => 'count(*) AS sessions, avg((pages_viewed = 1)::int) AS bounce_rate');
SELECT clickstream.create_funnel('upgrades', stream => 's550', within => '1 hour', breakdown => 'user_profiles.plan_type', steps => ARRAY[
	clickstream.step('free', $$user_profiles.plan_type = 'free'$$), clickstream.step('paid', $$user_profiles.plan_type <> 'free'$$)]);
SELECT view('ann', '10:00'), view('ann', '10:01'), view('bob', '10:02'), view('cid', '10:03'), view('dan', '10:04'), view(NULL, '10:05');
CALL clickstream.process('s550');
SELECT window_start, plan_type, views, emails, oldest FROM by_plan ORDER BY plan_type NULLS LAST;
SELECT plan, a, views FROM of_pros;
SELECT signup_week, known, views FROM by_cohort ORDER BY 1 NULLS LAST, 2;

-- a change counts from the next batch on
UPDATE user_profiles SET plan_type = 'pro' WHERE user_id = 'bob';
DELETE FROM user_profiles WHERE user_id = 'ann';
INSERT INTO user_profiles VALUES ('dan', 'dan@example.com', 'free', '2024-06-01', NULL);
SELECT view('ann', '10:20'), view('bob', '10:21'), view('dan', '10:22');
CALL clickstream.process('s550');
SELECT plan_type, views, emails, oldest FROM by_plan ORDER BY plan_type NULLS LAST;
CALL clickstream.finish('s550');
SELECT effective_user_id, plan_type, signup_date, pages_viewed FROM visits ORDER BY effective_user_id;
SELECT plan_type, sessions, bounce_rate FROM bounces ORDER BY plan_type NULLS LAST;
SELECT effective_user_id, plan_type, level, is_conversion FROM upgrades ORDER BY effective_user_id;

-- A stream with a log, three lookups: a view, another key and type, one by the visitor. The log keeps the values as they were.
CREATE TABLE account (id bigint PRIMARY KEY, tier varchar(10), label text COLLATE "C");
INSERT INTO account VALUES (1, 'gold', 'one'), (2, 'tin', repeat('x', 10000));
CREATE VIEW page AS SELECT '/' || i AS url, i AS number, i % 2 = 0 AS even FROM generate_series(1, 10) i;
SELECT clickstream.create_stream('l550', watermark_delay => '0', extra_columns => 'account_id text', dedupe_by => $$event_properties->>'id'$$, filter => $$event_type <> 'bot'$$) > 0 AS made;
SELECT clickstream.create_lookup('account', stream => 'l550', key => 'id', event_key => $$CASE WHEN account_id ~ '^\d{1,18}$' THEN account_id::bigint END$$, columns => 'tier, label');
SELECT clickstream.create_event_log('log', stream => 'l550');
SELECT clickstream.create_lookup('profile', stream => 'l550', source => 'user_profiles', key => 'user_id', event_key => 'effective_user_id');
SELECT clickstream.create_lookup('page', stream => 'l550', key => 'url', event_key => 'page_url');
SELECT clickstream.create_lookup('page', stream => 'l550', key => 'url', event_key => 'page_url', columns => 'number, even');
SELECT clickstream.create_window('tiers', stream => 'l550', size => '1 hour', group_by => 'account.tier, page.even', measures => 'count(*) AS events, max(length(account.label)) AS label, count(profile.plan_type) AS planned');
CREATE FUNCTION visit(who text, account text, page text, at text, id text DEFAULT NULL, type text DEFAULT 'page_view') RETURNS bigint LANGUAGE sql AS $$
	SELECT clickstream.produce('l550', jsonb_build_object('anonymous_id', who, 'account_id', account, 'event_type', type, 'page_url', page, 'event_time', '2024-06-01T' || at || 'Z', 'event_properties', jsonb_build_object('id', id))::text)
$$;
SELECT visit('bob', '1', '/2', '10:00'), visit('dan', '2', '/3', '10:01'), visit('eve', 'none', '/x', '10:02'), visit('bob', '3', '/4', '10:03', 'a'), visit('bob', '1', '/4', '10:04', 'a'), visit('bob', '1', '/4', '10:05', NULL, 'bot');
CALL clickstream.process('l550');
SELECT message_offset, class, account_tier, length(account_label) AS label, profile_plan_type, profile_signup_date, page_number, page_even FROM log ORDER BY 1;
SELECT tier, even, events, label, planned FROM tiers ORDER BY tier NULLS LAST, even NULLS LAST;
-- what changes later changes nothing that is recorded: verify, backfill and explain_event see what there was then
UPDATE account SET tier = 'none', label = '';
UPDATE user_profiles SET plan_type = NULL;
CREATE OR REPLACE VIEW page AS SELECT '/' || i AS url, -i AS number, i % 2 = 1 AS even FROM generate_series(1, 10) i;
SELECT visit('bob', '1', '/2', '11:30');
CALL clickstream.process('l550');
SELECT * FROM clickstream.verify('tiers');
SELECT clickstream.create_window('tiers_again', stream => 'l550', backfill => true, size => '1 hour', group_by => 'account.tier, page.even', measures => 'count(*) AS events, max(length(account.label)) AS label, count(profile.plan_type) AS planned');
CALL clickstream.process('l550');
CALL clickstream.finish('l550');
SELECT window_start, tier, even, events, label, planned FROM tiers EXCEPT SELECT window_start, tier, even, events, label, planned FROM tiers_again;
SELECT window_start, tier, even, events, label, planned FROM tiers_again ORDER BY 1, 2 NULLS LAST, 3 NULLS LAST;
SELECT * FROM clickstream.verify('tiers_again');
SELECT definition, outcome, detail - '{arrived_at,message_timestamp}'::text[] AS detail FROM clickstream.explain_event('l550', 0, 0) ORDER BY definition NULLS FIRST;
-- late events that are applied have the values of then, too
SELECT clickstream.create_stream('a550', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_lookup('user_profiles', stream => 'a550', key => 'user_id', columns => 'plan_type');
SELECT clickstream.create_event_log('late_log', stream => 'a550');
SELECT clickstream.create_window('late_plans', stream => 'a550', size => '1 hour', group_by => 'user_profiles.plan_type', measures => 'count(*) AS events');
UPDATE user_profiles SET plan_type = 'pro';
SELECT clickstream.produce('a550', '{"user_id": "bob", "event_time": "2024-06-01T13:00:00Z"}'), clickstream.produce('a550', '{"user_id": "bob", "event_time": "2024-06-01T10:00:00Z"}');
CALL clickstream.process('a550');
UPDATE user_profiles SET plan_type = 'free';
SELECT partition, message_offset, applied, reason FROM clickstream.apply_late('late_plans');
SELECT window_start, plan_type, events FROM late_plans ORDER BY 1;

-- rights are the stream owner's, row-level security included; terse: messages name a view by its number
\set VERBOSITY terse
CREATE ROLE t550_owner IN ROLE clickstream_admin;
GRANT USAGE, CREATE ON SCHEMA t550 TO t550_owner;
CREATE TABLE secret (id text PRIMARY KEY, word text);
INSERT INTO secret VALUES ('a', 'one'), ('b', 'two');
SET ROLE t550_owner;
SELECT clickstream.create_stream('r550', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_lookup('secret', stream => 'r550', key => 'id', event_key => 'user_id');
RESET ROLE;
GRANT SELECT ON secret TO t550_owner;
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_a ON secret USING (id = 'a');
SET ROLE t550_owner;
SELECT clickstream.create_lookup('secret', stream => 'r550', key => 'id', event_key => 'user_id');
SELECT clickstream.create_window('words', stream => 'r550', size => '1 hour', group_by => 'secret.word', measures => 'count(*) AS events');
SELECT clickstream.produce('r550', '{"user_id": "a", "event_time": "2024-06-01T10:00:00Z"}'), clickstream.produce('r550', '{"user_id": "b", "event_time": "2024-06-01T10:00:00Z"}');
CALL clickstream.process('r550');
SELECT word, events FROM words ORDER BY 1 NULLS LAST;
RESET ROLE;
-- lost rights, a table that is gone: nothing is consumed until it is right again
REVOKE SELECT ON secret FROM t550_owner;
SET ROLE t550_owner;
SELECT clickstream.produce('r550', '{"user_id": "a", "event_time": "2024-06-01T10:01:00Z"}') > 0 AS produced;
CALL clickstream.process('r550');
RESET ROLE;
DROP TABLE secret;
SET client_min_messages = warning;
DROP TABLE secret CASCADE;
SET client_min_messages = notice;
SET ROLE t550_owner;
CALL clickstream.process('r550');
CREATE TABLE word_list (k text UNIQUE, id text, word text);
INSERT INTO word_list VALUES ('a', 'x', 'three');
SELECT clickstream.alter_lookup('secret', 'r550', source => 'word_list', key => 'k');
CALL clickstream.process('r550');
SELECT word, events FROM words ORDER BY 1 NULLS LAST;
RESET ROLE;
-- renames are followed; a type that is in use stays
ALTER TABLE word_list RENAME COLUMN word TO term;
ALTER TABLE word_list RENAME TO terms;
ALTER TABLE terms ALTER COLUMN term TYPE varchar(5);
ALTER TABLE terms DROP COLUMN term;
\set VERBOSITY default
SELECT clickstream.produce('r550', '{"user_id": "a", "event_time": "2024-06-01T10:02:00Z"}') > 0 AS produced;
CALL clickstream.process('r550');
SELECT word, events FROM words ORDER BY 1 NULLS LAST;

-- a view with two rows for a key is an error when such a key comes
CREATE VIEW twice AS SELECT 'a' AS k, i AS n FROM generate_series(1, 2) i UNION ALL SELECT 'b', 1;
SELECT clickstream.create_stream('d550') > 0 AS made;
SELECT clickstream.create_lookup('twice', stream => 'd550', key => 'k', event_key => 'user_id');
SELECT clickstream.create_window('doubles', stream => 'd550', size => '1 hour', measures => 'sum(twice.n) AS n');
SELECT clickstream.produce('d550', '{"user_id": "b", "event_time": "2024-06-01T10:00:00Z"}');
CALL clickstream.process('d550');
SELECT clickstream.produce('d550', '{"user_id": "a", "event_time": "2024-06-01T10:00:00Z"}');
CALL clickstream.process('d550');
CREATE OR REPLACE VIEW twice AS SELECT DISTINCT ON (k) k, n FROM (SELECT 'a' AS k, i AS n FROM generate_series(1, 2) i UNION ALL SELECT 'b', 1) AS x ORDER BY k, n DESC;
CALL clickstream.process('d550');
SELECT n FROM doubles;

-- bad input
-- a column without its lookup
SELECT clickstream.create_window('lost', stream => 's550', size => '1 hour', measures => 'count(*) AS n', group_by => 'Plan_type');
SELECT clickstream.create_window('lost', stream => 's550', size => '1 hour', measures => 'count(*) AS n', group_by => 'page_ulr');
SELECT clickstream.create_lookup('user_profiles', stream => 's550', key => 'user_id');
SELECT clickstream.create_lookup('user_profiles', stream => 's550', key => 'user_id', if_not_exists => true);
SELECT clickstream.create_lookup('nothing', stream => 's550', key => 'user_id');
SELECT clickstream.create_lookup('user_profiles', stream => 'nothing', key => 'user_id');
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles', key => NULL);
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles', key => 'id');
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles', key => 'ctid');
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles', key => 'plan_type');
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles', key => 'user_id', columns => 'plan_type, plan');
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles', key => 'user_id', columns => 'plan_type, plan_type');
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles', key => 'user_id', columns => '');
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles', key => 'user_id', event_key => 'no_such');
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles', key => 'user_id', event_key => 'event_time');
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles', key => 'user_id', event_key => 'user_profiles_email');
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles', key => 'user_id', event_key => $$user_id || random()$$);
SELECT clickstream.create_lookup('account', stream => 's550', key => 'id', event_key => 'user_id');
SELECT clickstream.create_lookup('account', stream => 's550', key => 'id');
SELECT clickstream.create_lookup('e', stream => 's550', source => 'user_profiles', key => 'user_id');
SELECT clickstream.create_lookup(repeat('p', 60), stream => 's550', source => 'user_profiles', key => 'user_id');
SELECT clickstream.create_lookup('p', stream => 's550', source => 'user_profiles_pkey', key => 'user_id');
CREATE TEMP TABLE fleeting (user_id text PRIMARY KEY);
SELECT clickstream.create_lookup('fleeting', stream => 's550', key => 'user_id');
CREATE TABLE searched (user_id tsvector UNIQUE, n int);
SELECT clickstream.create_lookup('searched', stream => 's550', key => 'user_id', event_key => $$''::tsvector$$);
SET ROLE t550_owner;
SELECT clickstream.create_lookup('user_profiles', stream => 's550', key => 'user_id');
RESET ROLE;
SELECT clickstream.create_window('bad', stream => 's550', size => '1 hour', measures => 'count(user_profiles.plan) AS n');
SELECT clickstream.create_window('bad', stream => 's550', size => '1 hour', measures => 'count(profiles.plan) AS n');
SELECT clickstream.create_window('bad', stream => 's550', size => '1 hour', measures => 'count(user_profiles.*) AS n');
SELECT clickstream.create_window('bad', stream => 's550', size => '1 hour', group_by => 'user_profiles.plan_type, plan_type', measures => 'count(*) AS n');
SELECT clickstream.create_rollup('bad', source => 'visits', size => '1 hour', measures => 'count(user_profiles.plan_type) AS n');
SELECT clickstream.alter_lookup('p', 's550', source => 'user_profiles', key => 'user_id');
SELECT clickstream.alter_lookup('user_profiles', 's550', source => 'account', key => 'id');
SELECT clickstream.alter_lookup('user_profiles', 's550', source => 'nothing', key => 'id');
SELECT clickstream.alter_lookup('user_profiles', 's550', key => 'plan_type');
SELECT clickstream.alter_lookup('user_profiles', 's550', add_columns => 'plan');
-- the event's own column, and another lookup's
CREATE TABLE clash (user_id text PRIMARY KEY, profiles_email text);
SELECT clickstream.create_lookup('"user"', stream => 's550', source => 'clash', key => 'user_id', columns => 'profiles_email');
CREATE VIEW id AS SELECT user_id AS id FROM clash;
SELECT clickstream.create_lookup('"user"', stream => 's550', source => 'id', key => 'id', event_key => 'user_id');
-- an event whose key raises is a dead letter, no other
SELECT clickstream.create_lookup('account', stream => 'd550', key => 'id', event_key => 'user_id::bigint');
SELECT clickstream.create_window('tiers_d', stream => 'd550', size => '1 hour', group_by => 'account.tier', measures => 'count(*) AS events');
SELECT clickstream.produce('d550', '{"user_id": "x", "event_time": "2024-06-01T10:00:00Z"}'), clickstream.produce('d550', '{"user_id": "1", "event_time": "2024-06-01T10:00:00Z"}');
CALL clickstream.process('d550');
SELECT tier, events FROM tiers_d;
SELECT cause, error, sqlstate FROM clickstream.dead_letter WHERE stream = 'd550';
SELECT message_offset, outcome, reason FROM clickstream.retry_dead_letters('d550', fix => $$replace(message, '"x"', '"2"')$$);
CALL clickstream.process('d550');
SELECT tier, events FROM tiers_d;

-- dropping: not while it is used; its columns stay where they were recorded, and are taken again
SELECT clickstream.drop_lookup('account', 'd550');
SELECT clickstream.drop_window('tiers_d');
SELECT clickstream.drop_lookup('account', 'd550');
SELECT clickstream.drop_lookup('account', 'd550');
SELECT clickstream.drop_lookup('account', 'd550', if_exists => true);
SELECT clickstream.create_lookup('account', stream => 'd550', source => 'terms', key => 'k', event_key => 'user_id', columns => 'id');
-- another source must have the same types, to the modifier and the collation
CREATE TABLE exact (id text PRIMARY KEY, n numeric(12,2), v varchar(10), c char(3), label text COLLATE "C", day timestamp(0));
CREATE TABLE like_exact (LIKE exact INCLUDING ALL);
CREATE TABLE wider (id text PRIMARY KEY, n numeric(14,4), v varchar(10), c char(3), label text COLLATE "C", day timestamp(0));
CREATE TABLE other_order (id text PRIMARY KEY, n numeric(12,2), v varchar(10), c char(3), label text COLLATE "POSIX", day timestamp(0));
SELECT clickstream.create_lookup('exact', stream => 'l550', key => 'id', event_key => 'user_id', columns => 'n, v, c, label, day');
SELECT clickstream.alter_lookup('exact', 'l550', source => 'wider');
SELECT clickstream.alter_lookup('exact', 'l550', source => 'other_order');
SELECT clickstream.alter_lookup('exact', 'l550', source => 'like_exact');
SELECT clickstream.drop_lookup('exact', 'l550');
-- more columns for one that is there
ALTER TABLE user_profiles ADD COLUMN company_name text;
SELECT clickstream.alter_lookup('profile', 'l550', add_columns => 'company_name, email');
SELECT columns FROM clickstream.lookup WHERE name = 'profile';
UPDATE user_profiles SET company_name = 'Initech';
SELECT visit('bob', '1', '/2', '12:30');
SELECT clickstream.drop_lookup('page', 'l550');
SELECT clickstream.drop_window('tiers'), clickstream.drop_window('tiers_again');
SELECT clickstream.drop_lookup('page', 'l550');
CALL clickstream.process('l550');
SELECT message_offset, page_number, profile_company_name, profile_email FROM log WHERE message_offset IN (0, 7) ORDER BY 1;
SELECT clickstream.create_window('bad', stream => 'l550', size => '1 hour', measures => 'count(page.number) AS n');
SELECT clickstream.create_lookup('page', stream => 'l550', key => 'url', event_key => 'page_url', columns => 'number, even');
SELECT clickstream.create_lookup('page_e', stream => 'l550', source => '(SELECT 1)', key => 'url');

-- some hundred keys of a large table: they are looked for, and not the table gone through
CREATE TABLE many (id text PRIMARY KEY, n int);
INSERT INTO many SELECT 'u' || i, i FROM generate_series(1, 100000) AS i;
ANALYZE many;
SELECT clickstream.create_stream('m550', watermark_delay => '0') > 0 AS made;
SELECT clickstream.create_lookup('many', stream => 'm550', key => 'id', event_key => 'user_id');
SELECT clickstream.create_window('sums', stream => 'm550', size => '1 hour', measures => 'count(*) AS events, count(DISTINCT many.id) AS known, sum(many.n) AS total');
SELECT count(clickstream.produce('m550', format('{"user_id": "u%s", "event_time": "2024-06-01T00:00:00Z"}', i * 150))) FROM generate_series(1, 600) AS i;
SELECT pg_stat_force_next_flush();
SELECT seq_scan AS before FROM pg_stat_all_tables WHERE relid = 'many'::regclass \gset
CALL clickstream.process('m550');
CALL clickstream.finish('m550');
SELECT pg_stat_force_next_flush();
SELECT seq_scan - :before AS gone_through, idx_scan > 0 AS looked_for FROM pg_stat_all_tables WHERE relid = 'many'::regclass;
SELECT events, known, total FROM sums;

SELECT clickstream.drop_stream(s) FROM unnest('{s550,l550,a550,r550,d550,m550}'::text[]) s;
SELECT count(*) FROM clickstream.lookup;
SELECT relname FROM pg_class WHERE relnamespace = 'clickstream'::regnamespace AND relname LIKE 'lookup\_%\_%' AND relkind = 'v';
SET client_min_messages = warning;
DROP SCHEMA t550 CASCADE;
REVOKE ALL ON SCHEMA public FROM t550_owner;
DROP ROLE t550_owner;
