# The worker's memory is flat over a million events: steady traffic through
# sessions, windows, a funnel and a rollup, some of the state in the spill table;
# at three tenths of it and at the end the worker says what its memory contexts
# hold (pg_log_backend_memory_contexts()), and the system what the process has of
# its own.  What grew is named.
#
#   LEAK_EVENTS        how many (1000000)
#   CLICKSTREAM_SEED   the seed
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use ClickstreamTest;
use ClickstreamSite;

my $total = $ENV{LEAK_EVENTS} // 1_000_000;
my $seed = $ENV{CLICKSTREAM_SEED} // int(rand 1_000_000);
my $slice = $total / 50;
my $allowed = 1024 * 1024;    # bytes that a context, or the sum, may differ by: it depends on the moment
diag("CLICKSTREAM_SEED=$seed");

my $node = new_node('main',
	"clickstream.commit_interval = '50ms'",
	"clickstream.state_log_size = '1MB'",
	'clickstream.force_spill = 1000',
	'autovacuum_naptime = 10s');
my $broker = start_broker(web => 4);
my $produced = 0;
my @events;

sub query { return $node->safe_psql('postgres', $_[0]) }

sub load_until
{
	my ($upto) = @_;

	while ($produced < $upto)
	{
		my $events = site_events_from($produced, $slice, $seed);
		produce_site($broker, 'web', $events, by_key => 1);
		$produced += @$events;
		wait_until($node, "SELECT sum(next_offset) = $produced FROM clickstream.partition");
	}
}

# name => bytes that it holds, those of the same name together; '' is the sum.
sub contexts
{
	my $from = -s $node->logfile;
	my $pid = query("SELECT pid FROM clickstream.stat_stream WHERE stream = 'web'");
	my (%held, $log);

	query("SELECT pg_log_backend_memory_contexts($pid)");
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$log = slurp_file($node->logfile, $from);
		last if $log =~ /Grand total: .*\n/;
		Time::HiRes::sleep(0.1);
	}
	$held{$1} += $2 while $log =~ /level: \d+; ([^:\n]+): (\d+) total in/g;
	($held{''}) = $log =~ /Grand total: (\d+) bytes/;
	my ($own) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	return ($pid, $own * 1024, \%held);
}

create_site($node, 'web', 't', "brokers => '" . $broker->address . "', topic => 'web', start_from => 'earliest'", within => '1 minute', rolling => '2 minutes');
query("SELECT clickstream.start('web')");
load_until(0.3 * $total);
my ($pid, $own, $held) = contexts();
load_until($total);
my ($pid_after, $own_after, $held_after) = contexts();

is($pid_after, $pid, 'the same process has read all of it');
cmp_ok($held->{''}, '>', 0, 'it says what it holds');
cmp_ok($held_after->{''}, '<', $held->{''} + $allowed, "at $produced events its contexts hold what they held before");
cmp_ok($own_after, '<', $own + 4 * $allowed, 'and the process has no more of its own');
my @grown = grep { $_ ne '' && $held_after->{$_} > ($held->{$_} // 0) + $allowed } sort keys %$held_after;
is(join(', ', map { "$_: " . ($held->{$_} // 0) . " -> $held_after->{$_}" } @grown), '', 'no context has grown');
note sprintf('figure: %d events: contexts %d -> %d bytes, private memory %d -> %d bytes', $produced, $held->{''}, $held_after->{''}, $own, $own_after);
query("CALL clickstream.finish('web')");
is(query("SELECT sum(consumed), bool_and(balanced) FROM clickstream.audit('web')"), "$produced|t", 'each event was counted once');
$node->stop;
done_testing();
