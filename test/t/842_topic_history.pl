# A definition that is being filled from a broker's topic, on a stream without an event log: the worker is
# killed, the server is stopped at once, the broker goes away and comes back, and live messages come all the time.
# The tables are those of definitions that were there from the beginning, also on a stream that began at the topic's end.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use ClickstreamTest;
use ClickstreamSite;

my $seed = seed_of(842);

my $node = new_node('main',
	'restart_after_crash = on',
	'max_worker_processes = 30',
	'clickstream.batch_messages = 1000',
	'clickstream.force_spill = 0',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '10ms'");
my $broker = start_broker(web => 4);
my $address = $broker->address;
my @events = @{ site_events(14_000, $seed) };
# some messages come twice: the copy is a duplicate, there and in history
$_->[2] =~ s/"action"/"id":"$_->[1]-@{[ int rand 1e9 ]}","action"/ for @events;
@events = map { rand() < 0.05 ? ($_, $_) : $_ } @events;
my $sent = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }

sub send_to
{
	my ($to) = @_;
	$to = @events if $to > @events;
	produce_site($broker, 'web', [ @events[ $sent .. $to - 1 ] ]);
	$sent = $to;
}

# Waits until so many offsets of history are done by the one that is being read, or none is.
sub wait_until_done
{
	my ($done) = @_;
	wait_until($node, "SELECT sum(done) >= $done OR count(*) = 0 FROM clickstream.stat_progress");
}

sub set_batch
{
	my ($messages) = @_;
	query("ALTER SYSTEM SET clickstream.batch_messages = $messages");
	query("SELECT pg_reload_conf()");
}

# The same definitions with history, beside those of create_site().
sub fill
{
	my ($stream, $prefix) = @_;
	query(<<~END);
		SELECT clickstream.create_session('${prefix}_sessions', stream => '$stream', gap => '30 seconds', backfill => true);
		SELECT clickstream.create_window('${prefix}_pages', stream => '$stream', size => '1 minute',
			filter => \$\$event_type = 'page_view'\$\$, group_by => 'page_url', backfill => true,
			measures => 'count(*) AS views, count(DISTINCT effective_user_id) AS visitors');
		SELECT clickstream.create_window('${prefix}_rolling', stream => '$stream', size => '5 minutes',
			slide => '1 minute', group_by => 'device_type', backfill => true,
			measures => \$\$count(*) AS events, count(DISTINCT effective_user_id) AS visitors,
				sum((event_properties->>'price')::numeric) AS total, min(page_url) AS least, max(user_id) AS greatest,
				first(page_url) AS first_page, last(event_time) AS last_time\$\$);
		SELECT clickstream.create_funnel('${prefix}_funnel', stream => '$stream', within => '10 minutes', backfill => true,
			key => 'user_id', steps => ARRAY[
				clickstream.step('product', \$\$event_type = 'page_view' AND page_url LIKE '/product/%'\$\$),
				clickstream.step('cart', \$\$event_properties->>'action' = 'add_to_cart'\$\$),
				clickstream.step('purchase', \$\$event_type = 'purchase'\$\$)]);
		SELECT clickstream.create_rollup('${prefix}_metrics', source => '${prefix}_sessions', size => '1 minute', backfill => true,
			measures => 'count(*) AS sessions, sum(event_count) AS events, max(session_duration_seconds) AS longest');
		END
}

my $dedupe = "dedupe_by => \$\$event_properties->>'id'\$\$, dedupe_horizon => '1 day'";
create_site($node, 'web', 'a', "brokers => '$address', topic => 'web', start_from => 'earliest', $dedupe");
send_to(int(0.6 * @events));
query("SELECT clickstream.start('web')");
wait_for($node, 'web');
query("SELECT clickstream.stop('web')");
wait_until($node, "SELECT pid IS NULL FROM clickstream.stat_stream WHERE stream = 'web'");
fill('web', 'b');
is(query("SELECT string_agg(source, ' ' ORDER BY definition) FROM clickstream.stat_progress"), 'topic topic topic topic table',
	'five definitions are to be filled, four from the topic');
my ($code, undef, $error) = $node->psql('postgres', "SELECT clickstream.alter_session('b_sessions', allowed_lateness => '1 hour')");
like($error, qr/being filled with history/, 'what is being filled is not altered');

# In the middle of the tenth piece of history the worker waits, and is killed: the server goes through a crash.
set_batch(50); # of history two hundred messages at once
query("ALTER SYSTEM SET clickstream.fault = 'applied:pause:10'");
query("SELECT pg_reload_conf()");
query("SELECT clickstream.start('web')");
my $paused = $node->data_dir . '/clickstream_fault.applied';
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if -e $paused;
	sleep 0.1;
}
ok(-e $paused, 'in the middle of history');
is(query("SELECT done > 0 AND todo > 0 AND gone = 0 AND per_second > 0 AND expected_end > moved_at FROM clickstream.stat_progress WHERE done > 0"), 't',
	'rate and end are shown');
send_to($sent + 500);
my $pid = worker_of($node, 'web');
kill 'KILL', $pid;
wait_until($node, "SELECT pid <> $pid FROM clickstream.stat_stream WHERE stream = 'web' AND state = 'running'");
wait_until_done(1500);
send_to($sent + 500);

# the server stops at once, and starts
$node->stop('immediate');
$node->start;
wait_until_done(3000);

# the stream is stopped and started
query("SELECT clickstream.stop('web')");
wait_until($node, "SELECT pid IS NULL FROM clickstream.stat_stream WHERE stream = 'web'");
my $before = query("SELECT sum(done) FROM clickstream.stat_progress");
send_to($sent + 1000);
is(query("SELECT sum(done) FROM clickstream.stat_progress"), $before, 'stopped is stopped');
set_batch(1000);
query("SELECT clickstream.start('web')");

# the others keep running meanwhile: what is sent is read
send_to($sent + 100);
wait_for($node, 'web');
wait_until($node, "SELECT NOT EXISTS (SELECT FROM clickstream.stat_progress)");
pass('history has met the live stream');

# a stream that begins here has the same history
query("SELECT clickstream.create_stream('late', brokers => '$address', topic => 'web', start_from => 'latest', idle_timeout => '1 hour', "
	. "filter => \$\$event_type <> 'ping'\$\$, $dedupe)");
query("SELECT clickstream.start('late')");
wait_for($node, 'late');
send_to($sent + 40); # two seconds: with eight of disorder less than the watermark's delay, whichever partition is read first
wait_for($node, 'late');
fill('late', 'c');
wait_until($node, "SELECT NOT EXISTS (SELECT FROM clickstream.stat_progress)");
send_to(scalar @events);
wait_for($node, $_) for qw(web late);
is(query("SELECT count(*), sum(since_offset) FROM clickstream.stat_definition_partition WHERE definition = 'c_pages'::regclass"), '4|0', 'it counts from the beginning');
is(query("SELECT count(*) FROM clickstream.dead_letter WHERE stream = 'late' AND (definition IS NULL OR definition = 'c_pages'::regclass)"),
	query("SELECT count(*) FROM clickstream.dead_letter WHERE stream = 'web'"),
	'broken messages that the stream has not met are the dead letters of who has');
query("CALL clickstream.finish('$_')") for qw(web late);
same_site($node, 'b', 'a', 'all is as if it had been there from the beginning');
same_site($node, 'c', 'a', 'the same of a stream that began at the end of the topic');
is(query("SELECT bool_and(balanced) FROM clickstream.audit('$_')"), 't', "all of $_ is accounted for") for qw(web late);
cmp_ok(query("SELECT sum(duplicate) FROM clickstream.ledger WHERE stream = 'web'"), '>', 100, 'there were duplicates');
$node->stop;
done_testing();
