# SIGKILL of the worker at thirty random moments while 300,000 events run, with
# state that is spilled all the time: the tables are what they are without
# kills, and each event was counted once.
#
# A kill that finds nothing uncommitted proves nothing.  So the run is slowed
# down where it evaluates (the stream's filter) and where it writes (a trigger),
# and the filter logs, with its process, every 50th offset that it sees: an
# offset that was evaluated again by a later process was thrown away by the
# kill between.  Only kills that did that count.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use ClickstreamTest;
use ClickstreamSite;

my $kills = 30;
my $kills_at_most = 60;
my $count = 300_000;
my $seed = seed_of(40);

my $node = new_node('main',
	'restart_after_crash = on',
	'clickstream.batch_messages = 8000',
	"clickstream.state_log_size = '256kB'",    # so that its halves change, too
	"clickstream.restart_delay = '10ms'",
	'clickstream.force_spill = 1000');
my $broker = start_broker(web => 4);
my $address = $broker->address;

sub query { return $node->safe_psql('postgres', $_[0]) }

# Which process evaluated which "partition/offset", in the order of the log.
my $log_read = 0;
my %seen_by;    # offset => processes
my @processes;

sub read_log
{
	open my $log, '<', $node->logfile or die "could not read the log: $!";
	seek $log, $log_read, 0;
	while (defined(my $line = readline $log))
	{
		last unless $line =~ /\n\z/;
		$log_read += length $line;
		next unless $line =~ /\[(\d+)\].*evaluated (\d+\/\d+)$/;
		push @processes, $1 unless @processes && $processes[-1] == $1;
		push @{ $seen_by{$2} }, $1 unless ($seen_by{$2}[-1] // 0) == $1;
	}
	close $log;
}

sub poll_for
{
	my ($what, $is_true) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $is_true->();
		sleep 0.1;
	}
	die "timed out waiting for $what";
}

# ---- the same topic for both runs

my $events = site_events($count, $seed);
produce_site($broker, 'web', $events, kcat => [ '-z', 'lz4' ]);
undef $events;
is(join(',', map { (split)[2] } grep { /^web / } $broker->command('partitions')),
	'0,0,0,0', 'the embedded broker still has all of it');

# ---- without kills

create_site($node, 'calm', 'calm', "brokers => '$address', topic => 'web', start_from => 'earliest'");
query("SELECT clickstream.start('calm')");
wait_for($node, 'calm');
query("CALL clickstream.finish('calm')");
my $ledger = 'sum(consumed), sum(used), sum(filtered), sum(dead), sum(late + duplicate + empty + skipped), bool_and(balanced)';
my $expected_ledger = query("SELECT $ledger FROM clickstream.audit('calm')");
like($expected_ledger, qr/^$count\|\d+\|\d+\|600\|0\|t$/, 'without kills all is accounted for');
query("SELECT clickstream.stop('calm')");

# ---- with kills

query(<<~'END');
	CREATE FUNCTION slow(partition int, message_offset bigint) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		IF message_offset % 50 = 0 THEN
			RAISE LOG 'evaluated %/%', partition, message_offset;
			PERFORM pg_sleep(0.01);
		END IF;
		RETURN true;
	END $$;
	CREATE FUNCTION slow_write() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(0.002);
		RETURN NEW;
	END $$;
	END
create_site($node, 'killed', 'killed', "brokers => '$address', topic => 'web', start_from => 'earliest', "
	  . "filter => \$\$public.slow(partition, message_offset) AND event_type <> 'ping'\$\$");
query('CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON killed_metrics FOR EACH ROW EXECUTE FUNCTION slow_write()');
query("SELECT clickstream.start('killed')");

# Process => offsets that a later one evaluated again.
sub thrown_away
{
	my %thrown_away;

	for my $pids (values %seen_by)
	{
		$thrown_away{ $pids->[$_] }++ for 0 .. $#$pids - 1;
	}
	return %thrown_away;
}

srand $seed;
my @killed;
my $counted = 0;
while ($counted < $kills && @killed < $kills_at_most)
{
	my $pid;
	my %thrown_away;

	# A new process is at work, and then some time passes: a batch or two.
	poll_for('a process that evaluates',
		sub { read_log(); @processes && !grep { $_ == $processes[-1] } @killed });
	%thrown_away = thrown_away();
	$counted = grep { $thrown_away{$_} } @killed;
	sleep rand 1;
	$pid = $processes[-1];
	die 'the worker has ended before all kills: slow it down' unless kill 'KILL', $pid;
	push @killed, $pid;
	poll_for('the server', sub { !kill(0, $pid) && (ask($node, 'SELECT 1'))[0] == 0 });
}
my $done = query("SELECT sum(next_offset) FROM clickstream.stat_partition WHERE stream = 'killed'");
cmp_ok($done, '<', $count, 'all kills came before the end');
query(<<~'END');
	CREATE OR REPLACE FUNCTION slow(partition int, message_offset bigint) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		IF message_offset % 50 = 0 THEN
			RAISE LOG 'evaluated %/%', partition, message_offset;
		END IF;
		RETURN true;
	END $$;
	DROP TRIGGER slow ON killed_metrics;
	END
wait_for($node, 'killed');
query("CALL clickstream.finish('killed')");
read_log();

my %thrown_away = thrown_away();
my @counted = grep { $thrown_away{$_} } @killed;
my $again = 0;
$again += 50 * $thrown_away{$_} for @counted;
note 'figure: ' . @killed . ' kills, ' . @counted . " of which threw away uncommitted work: about $again of $count events, of which $done were done then";
cmp_ok(scalar @counted, '>=', $kills, "$kills kills threw away uncommitted work");
is(query("SELECT $ledger FROM clickstream.audit('killed')"), $expected_ledger, 'each event was counted once');
is(query("SELECT count(*) FROM clickstream.dead_letter WHERE stream = 'killed'"), '600', 'dead letters too');
same_site($node, 'killed', 'calm', 'the tables are as without kills');

$node->stop;
done_testing();
