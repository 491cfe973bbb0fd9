# The open state of a running stream in shared memory: who reads it beside its
# result table sees each session, window and attempt exactly once, under whatever
# snapshot, while the worker runs at full speed, and while it spills; and what becomes of it when the stream ends, is
# killed, and where there is none.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $seed = seed_of(400);

my $node = new_node('main',
	"clickstream.state_memory = '16MB'",
	"clickstream.commit_interval = '10ms'",
	"clickstream.state_log_size = '256kB'",
	'fsync = off',
	'restart_after_crash = on');

sub query { return $node->safe_psql('postgres', $_[0]) }

# Sessions, windows and attempts that are missing, or there twice, in the table
# and what is open together; told by the event log, which is of the same commit.
# An attempt goes on as long as each event begins a chain that can still go on,
# so it is a session by another name.
query(<<~'END');
	SELECT clickstream.create_stream('live', watermark_delay => '1 second', idle_timeout => '1 day');
	SELECT clickstream.create_session('visits', stream => 'live', gap => '10 seconds', measures => 'count(*) AS event_count, count(DISTINCT page_url) AS pages');
	SELECT clickstream.create_window('minutes', stream => 'live', size => '20 seconds', group_by => 'user_id', measures => 'count(*) AS n, count(DISTINCT page_url) AS pages',
		emit => 'closed');
	SELECT clickstream.create_funnel('attempts', stream => 'live', within => '10 seconds', steps => ARRAY[
		clickstream.step('first', 'page_url IS NOT NULL'), clickstream.step('never', 'page_url IS NULL')]);
	SELECT clickstream.create_event_log('events', stream => 'live');
	CREATE VIEW wrong_sessions AS
	WITH shown AS (
		SELECT visitor, session_start, count(*) AS n
		FROM (SELECT effective_user_id AS visitor, session_start FROM visits UNION ALL SELECT visitor, session_start FROM clickstream.open_sessions('visits')) AS v
		GROUP BY visitor, session_start),
	there AS (
		SELECT user_id AS visitor, event_time AS session_start
		FROM (SELECT user_id, event_time, lag(event_time) OVER (PARTITION BY user_id ORDER BY event_time) AS before FROM events) AS e
		WHERE event_time - before > interval '10 seconds' IS NOT FALSE)
	SELECT visitor, session_start, n FROM there FULL JOIN shown USING (visitor, session_start)
	WHERE n > 1 OR n IS NULL;
	CREATE VIEW wrong_attempts AS
	WITH shown AS (
		SELECT effective_user_id AS visitor, started_at, count(*) AS n FROM attempts_live GROUP BY 1, 2),
	there AS (
		SELECT user_id AS visitor, event_time AS started_at
		FROM (SELECT user_id, event_time, lag(event_time) OVER (PARTITION BY user_id ORDER BY event_time) AS before FROM events) AS e
		WHERE event_time - before > interval '10 seconds' IS NOT FALSE)
	SELECT visitor, started_at, n FROM there FULL JOIN shown USING (visitor, started_at)
	WHERE n > 1 OR n IS NULL;
	-- what is open may count events of a newer commit, and is then there before them
	CREATE VIEW wrong_windows AS
	WITH shown AS (
		SELECT user_id AS visitor, window_start, count(*) AS rows, sum(n) AS n, bool_and(is_final) AS is_final FROM minutes_live GROUP BY 1, 2),
	there AS (
		SELECT user_id AS visitor, date_bin('20 seconds', event_time, '2026-01-01 00:00:00+00') AS window_start, count(*) AS n FROM events GROUP BY 1, 2)
	SELECT visitor, window_start, rows FROM there FULL JOIN shown USING (visitor, window_start)
	WHERE rows IS DISTINCT FROM 1 OR CASE WHEN is_final THEN shown.n IS DISTINCT FROM there.n ELSE shown.n < there.n END;
	CREATE VIEW wrong AS TABLE wrong_sessions UNION ALL TABLE wrong_attempts UNION ALL TABLE wrong_windows;
	CREATE TABLE done (looks bigint, differences bigint);
	-- looks again and again, until told to end
	CREATE PROCEDURE look() LANGUAGE plpgsql AS $$
	DECLARE n_looks bigint := 0; bad bigint := 0; n bigint;
	BEGIN
		WHILE NOT EXISTS (SELECT FROM done WHERE looks IS NULL) LOOP
			SELECT count(*) INTO n FROM wrong;
			bad := bad + n;
			n_looks := n_looks + 1;
			COMMIT;
		END LOOP;
		INSERT INTO done VALUES (n_looks, bad);
	END $$;
	CREATE SEQUENCE clock;
	-- events of 100 visitors, a tenth of a second apart: most wait about ten seconds for their next one
	CREATE FUNCTION traffic(n integer) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(clickstream.produce('live', json_build_object('event_type', 'page_view', 'user_id', 'v' || floor(random() * 100),
		'event_time', '2026-01-01 00:00:00+00'::timestamptz + nextval('clock') * interval '100 ms',
		'page_url', 'https://shop.example/' || floor(random() * 1000))::text))
	FROM generate_series(1, n) $$;
	CREATE PROCEDURE traffic_for(commits integer) LANGUAGE plpgsql AS $$
	DECLARE
		upto bigint;
		now bigint;
	BEGIN
		LOOP
			SELECT commit_number INTO now FROM clickstream.progress JOIN clickstream.stream USING (stream_id) WHERE name = 'live';
			upto := coalesce(upto, now + commits);
			EXIT WHEN now >= upto;
			PERFORM traffic(10);
			COMMIT;
			PERFORM pg_sleep(0.005); -- so that the worker is not left behind
		END LOOP;
	END $$;
	SELECT clickstream.start('live');
	END

# Traffic in small steps, for so many commits of the worker.
sub traffic_for
{
	my ($n) = @_;
	query('SELECT setseed(' . (++$seed % 1000) / 1000 . "); CALL traffic_for($n)");
}

# What the server's log says of where a query's readers found the state.
sub sources
{
	my ($from) = @_;
	my $log = slurp_file($node->logfile, $from);
	my $shared = () = $log =~ /read from shared memory/g;
	my $folded = () = $log =~ /read from its log/g;

	return ($shared, $folded);
}

sub log_size { return -s $node->logfile }

# Reads all three in shared memory, through a psql that logs where; a worker that
# is still at work may be in the way of one read, but not of all.
sub is_read_in_shared_memory
{
	my ($look, $name) = @_;
	my ($wrong, $where);

	for (1 .. 20)
	{
		my $from = log_size();
		$wrong = $look->('SELECT count(*) FROM wrong');
		$where = join ' ', sources($from);
		last if $wrong ne '0' || $where eq '3 0';
	}
	is($wrong, '0', $name);
	is($where, '3 0', 'in shared memory');
}

# ---- where it lies

# The server's mapping of that size begins where large pages can lie: its address is a multiple of theirs, and so is its offset.
SKIP: {
	my $page = -r '/sys/kernel/mm/transparent_hugepage/hpage_pmd_size' ? slurp_file('/sys/kernel/mm/transparent_hugepage/hpage_pmd_size') : 0;
	my $pid = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	my $maps = "/proc/$pid/maps";

	skip 'no large pages that are 16 MB at most', 1 if $page == 0 || $page > 16 * 1024 * 1024 || !-r $maps;
	no warnings 'portable';
	my @there = grep { hex($_->[1]) - hex($_->[0]) == 16 * 1024 * 1024 } map { [m/^(\w+)-(\w+) rw-s (\w+) /] } grep { / rw-s / } split /\n/, slurp_file($maps);
	my @fits = grep { hex($_->[0]) % $page == 0 && hex($_->[2]) % $page == 0 } @there;
	is(scalar @fits, 1, 'large pages can lie in shared memory') or diag($maps, ": ", map { "@$_; " } @there);
}

# ---- many readers, and a worker that does not wait for them

my $from;

# Two that look as long as the worker takes for so many commits.
sub look_for
{
	my ($commits, $what) = @_;

	traffic_for(3);
	query('TRUNCATE done');
	$from = log_size();
	my @readers = map { IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'SET log_min_messages = debug1', '-c', 'CALL look()' ]) } 1 .. 2;
	wait_until($node, q(SELECT count(*) = 2 FROM pg_stat_activity WHERE query = 'CALL look()'));
	traffic_for($commits);
	query('INSERT INTO done VALUES (NULL, NULL)');
	$_->finish for @readers;
	my ($looks, $wrong) = split /\|/, query('SELECT sum(looks), sum(differences) FROM done');
	is($wrong, 0, "$what: each session, window and attempt is seen exactly once in $looks looks");
	my ($shared, $folded) = sources($from);
	cmp_ok($shared, '>', 0, "shared memory was read ($shared times; the log $folded times)");
}

sub set
{
	my ($name, $value) = @_;
	query("ALTER SYSTEM SET $name = $value");
	query('SELECT pg_reload_conf()');
}

sub kept_bytes
{
	return query(q(SELECT kept_bytes FROM clickstream.stat_memory WHERE stream = 'live'));
}

look_for(100, 'all in memory');
set('clickstream.force_spill', 30);
traffic_for(10);
look_for(60, 'spilling');
cmp_ok(query(q(SELECT spilled_keys FROM clickstream.stat_memory WHERE stream = 'live')), '>', 50, 'most of it lies in the spill table');
set('clickstream.force_spill', -1);
traffic_for(3);

# ---- old snapshots

my $old = background($node, on_error_stop => 1);
$old->query_safe('SET log_min_messages = debug1; BEGIN ISOLATION LEVEL REPEATABLE READ');
is($old->query_safe('SELECT count(*) FROM wrong'), '0', 'a snapshot is taken');
my $open = $old->query_safe(q(SELECT string_agg(session_id, ',' ORDER BY session_id) FROM clickstream.open_sessions('visits')));
traffic_for(30);
is_read_in_shared_memory(sub { $old->query_safe($_[0]) }, 'it sees each session once, 30 commits later');
my $kept = kept_bytes();
traffic_for(60);
$from = log_size();
is($old->query_safe('SELECT count(*) FROM wrong'), '0', 'and 90 commits later');
is(join(' ', sources($from)), '0 3', 'in the log');
is($old->query_safe(q(SELECT string_agg(session_id, ',' ORDER BY session_id) FROM clickstream.open_sessions('visits'))), $open, 'the very same');
$old->query_safe('COMMIT');
$old->quit;

# What is gone is kept for such snapshots only.
traffic_for(3);
cmp_ok(kept_bytes(), '<', $kept / 4, 'without it, what has gone is used again soon') or diag("$kept bytes before");

# ---- these tests would notice

sub mutant_is_seen
{
	my ($mutant, $where) = @_;
	my $reader = background($node, on_error_stop => 1);
	my $seen = 0;

	query("ALTER SYSTEM SET clickstream.mutant = '$mutant'; SELECT pg_reload_conf()") if $where eq 'worker';
	traffic_for(3);
	for (1 .. 20)
	{
		$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM clickstream.stream');
		traffic_for(15);
		$reader->query_safe("SET clickstream.mutant = '$mutant'") if $where eq 'reader';
		$seen = $reader->query_safe('SELECT count(*) FROM wrong') > 0;
		$reader->query_safe('RESET clickstream.mutant') if $where eq 'reader';
		$reader->query_safe('COMMIT');
		last if $seen;
	}
	$reader->quit;
	query("ALTER SYSTEM RESET clickstream.mutant; SELECT pg_reload_conf()") if $where eq 'worker';
	ok($seen, "mistake $mutant is seen");
}

mutant_is_seen('gone_at_once', 'worker');
mutant_is_seen('since_ignored', 'reader');

# ---- the worker ends, and comes again

traffic_for(2);
query(q(SELECT clickstream.stop('live')));
wait_until($node, q(SELECT pid IS NULL FROM clickstream.stat_stream WHERE stream = 'live'));
$from = log_size();
is(query('SET log_min_messages = debug1; SELECT count(*) FROM wrong'), '0', 'a stopped stream is read');
is(join(' ', sources($from)), '0 3', 'from the log');
query(q(SELECT clickstream.start('live')));
traffic_for(3);
is_read_in_shared_memory(sub { query("SET log_min_messages = debug1; $_[0]") }, 'started again');
my $pid = worker_of($node, 'live');
kill 'KILL', $pid;
wait_until($node, "SELECT pid <> $pid FROM clickstream.stat_stream WHERE stream = 'live'");
traffic_for(3);
is(query('SELECT count(*) FROM wrong'), '0', 'a killed worker has built it anew');

# ---- a server that has not loaded the library has no shared memory

query(q(SELECT clickstream.stop('live')));
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is(query(q(SELECT count(*) FROM wrong)), '0', 'without preloading the log is read');
is(query(q(SELECT count(budget) FROM clickstream.stat_memory)), '0', 'and there is no budget to be shown');

done_testing();
