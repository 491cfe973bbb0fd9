# A definition that is being filled with history: the worker is killed, the server crashes and is stopped
# in the middle, the stream is stopped and started, live messages come all the time, and memory for
# state is so small that it spills.  The tables are those of definitions that were there from the beginning.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use ClickstreamTest;

my $seed = seed_of(840);

my $node = new_node('main',
	'restart_after_crash = on',
	'clickstream.batch_messages = 1000',
	'clickstream.force_spill = 0',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '10ms'");

sub query { return $node->safe_psql('postgres', $_[0]) }

# Visits of a day, each event at once or late, in the order of arrival.
query(<<~END);
	SELECT setseed($seed / 1000000.0);
	CREATE TABLE event AS
	SELECT row_number() OVER (ORDER BY arrives, v, k) AS n, (v + k) % 3 AS partition, v, k, event_time, '/' || trunc(random() * 5)::int AS page_url
	FROM (SELECT v, k, t0 + k * gap AS event_time,
			t0 + k * gap + CASE WHEN random() < 0.05 THEN interval '5 hours' ELSE random() * interval '50 seconds' END AS arrives
		FROM (SELECT v, '2024-06-01 00:00+00'::timestamptz + trunc(random() * 86400) * interval '1 second' AS t0,
				1 + trunc(random() * 8)::int AS n, trunc(random() * 500) * interval '1 second' AS gap
			FROM generate_series(1, 2000) v) AS visit, generate_series(0, n - 1) k) AS e;
	END
my $events = query('SELECT max(n) FROM event');
my @tables = qw(visits cut hours rolling funnel starts);

sub produce_events
{
	my ($from, $to) = @_;
	query(<<~END);
		SELECT count(clickstream.produce('web', json_build_object('user_id', 'u' || v % 400, 'event_type', 'page_view', 'event_time', event_time,
			'page_url', page_url)::text, partition => partition::int, message_timestamp => event_time))
		FROM (SELECT * FROM event WHERE n > $from AND n <= $to ORDER BY n) AS e
		END
}

sub create
{
	my ($suffix, $backfill) = @_;
	my $common = "stream => 'web', backfill => $backfill";
	query(<<~END);
		SELECT clickstream.create_session('visits$suffix', $common, gap => '10 minutes', allowed_lateness => '30 minutes',
			measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, first(page_url) AS landing, last(page_url) AS leaving');
		SELECT clickstream.create_session('cut$suffix', $common, gap => '10 minutes', max_length => '20 minutes', measures => 'count(*) AS events');
		SELECT clickstream.create_window('hours$suffix', $common, size => '1 hour', group_by => 'page_url', measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors');
		SELECT clickstream.create_window('rolling$suffix', $common, size => '2 hours', slide => '30 minutes', measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors');
		SELECT clickstream.create_funnel('funnel$suffix', $common, within => '20 minutes', steps => ARRAY[
			clickstream.step('a', \$\$page_url IN ('/0', '/1')\$\$), clickstream.step('b', \$\$page_url = '/2'\$\$)]);
		SELECT clickstream.create_rollup('starts$suffix', source => 'visits$suffix', backfill => $backfill, size => '1 hour', measures => 'count(*) AS visits, sum(events) AS events');
		END
}

# Rows that one of the tables has and the other has not, all columns but revision, which batches decide.
sub differences_of
{
	my ($table) = @_;
	return <<~END;
		WITH a AS (SELECT (to_jsonb(r) - 'revision')::text AS line FROM $table r), b AS (SELECT (to_jsonb(r) - 'revision')::text FROM ${table}_filled r)
		SELECT count(*) FROM ((TABLE a EXCEPT ALL TABLE b) UNION ALL (TABLE b EXCEPT ALL TABLE a)) AS x
		END
}

# Each new worker is held at a piece of history: its passes count from its start, and the file that says so holds it.
my $held = $node->data_dir . '/clickstream_fault.history';

sub wait_until_held
{
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if -e $held;
		sleep 0.1;
	}
	ok(-e $held, 'held in the middle of history');
	note query("SELECT string_agg(done || '/' || todo, ' ') FROM clickstream.stat_progress");
}

sub set_batch
{
	my ($messages) = @_;
	query("ALTER SYSTEM SET clickstream.batch_messages = $messages");
	query("SELECT pg_reload_conf()");
}

query("SELECT clickstream.create_stream('web', watermark_delay => '1 minute', idle_timeout => '1 hour') > 0");
query("SELECT clickstream.create_event_log('log', stream => 'web')");
create('', 'false');
produce_events(0, int($events * 0.7));
query("SELECT clickstream.start('web')");
wait_for($node, 'web');

query("SELECT clickstream.stop('web')");
wait_until($node, "SELECT pid IS NULL FROM clickstream.stat_stream WHERE stream = 'web'");
create('_filled', 'true');
my $sent = int($events * 0.7);

sub send_some
{
	my $to = $sent + 20;
	produce_events($sent, $to);
	$sent = $to;
}

is(query("SELECT count(*) FROM clickstream.stat_progress"), 6, 'six definitions are being filled');
my $total = query("SELECT done + todo FROM clickstream.stat_progress WHERE definition = 'cut_filled'::regclass");
cmp_ok($total, '>=', int($events * 0.7), 'all that was read is to be done');
set_batch(1); # of history four events at once: more than a thousand transactions
query("ALTER SYSTEM SET clickstream.fault = 'history:pause:100'");
query("SELECT pg_reload_conf()");
query("SELECT clickstream.start('web')");
wait_until_held();
send_some();
is(query("SELECT per_second > 0 AND expected_end > begun_at AND moved_at >= begun_at FROM clickstream.stat_progress WHERE definition = 'cut_filled'::regclass"),
	't', 'rate and end are shown');

# the worker is killed: the server goes through a crash
my $pid = worker_of($node, 'web');
kill 'KILL', $pid;
unlink $held;
wait_until($node, "SELECT pid <> $pid FROM clickstream.stat_stream WHERE stream = 'web' AND state = 'running'");
wait_until_held();
send_some();

# the stream is stopped and started
query("SELECT clickstream.stop('web')");
wait_until($node, "SELECT pid IS NULL FROM clickstream.stat_stream WHERE stream = 'web'");
is(query("SELECT count(*) > 0 FROM clickstream.stat_progress WHERE done > 0 AND todo > 0"), 't', 'in the middle');
my $before = query("SELECT sum(done) FROM clickstream.stat_progress");
my ($code, undef, $error) = $node->psql('postgres', "SELECT clickstream.drop_event_log('log')");
like($error, qr/is being filled from it/, 'the log cannot go');
($code, undef, $error) = $node->psql('postgres', "SELECT * FROM clickstream.verify('cut_filled')");
like($error, qr/still being filled/, 'what is being filled cannot be verified yet');
is(query("SELECT sum(done) FROM clickstream.stat_progress"), $before, 'stopped is stopped');
unlink $held;
query("SELECT clickstream.start('web')");
wait_until_held();
send_some();

# the server stops at once, and starts
$node->stop('immediate');
unlink $held;
$node->start;
wait_until_held();
send_some();
query('ALTER SYSTEM RESET clickstream.fault');
unlink $held;
$node->restart('fast');

# one goes in the middle
query("SELECT clickstream.create_window('gone', stream => 'web', backfill => true, size => '1 hour', measures => 'count(*) AS n')");
query("SELECT clickstream.drop_window('gone')");

# and now it may be quick
set_batch(1000);
wait_until($node, "SELECT NOT EXISTS (SELECT FROM clickstream.stat_progress)");
produce_events($sent, $events);
wait_for($node, 'web');
is_soon($node, differences_of($_), 0, "$_ is as if it had been there from the beginning") for @tables; # rows of open windows when emit_interval is over
query("CALL clickstream.finish('web')");
for (@tables)
{
	is(query(differences_of($_)), 0, "$_ is the same at the end");
	is(query("SELECT count(*) FROM clickstream.verify('${_}_filled')"), 0, "$_ verifies");
}
is(query("SELECT count(*) FROM clickstream.late_event WHERE definition = 'cut'::regclass"), query("SELECT count(*) FROM clickstream.late_event WHERE definition = 'cut_filled'::regclass"),
	'the same events were late');
is(query("SELECT count(*) > 0 FROM clickstream.audit('web')"), 't', 'all is accounted for');
$node->stop;
done_testing();
