# A stream that is far behind, and faster than what fetches for it: an empty
# queue does not end its batch, which goes on until commit_interval is over.
# Else the stream would read one small queue in each commit_interval.  Nor does it
# wait so long after a batch that has read nothing because closings were left, and
# what fetches does not sleep while there is room.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use ClickstreamTest;

my $partitions = 8;
my $messages = 4000;    # in each; the embedded broker keeps 5 MB of each

my $node = new_node('main', "clickstream.commit_interval = '20s'", "clickstream.queue_memory = '1MB'");
my $broker = start_broker(web => $partitions, far => $partitions);
my $padding = 'x' x 300;

sub query { return $node->safe_psql('postgres', $_[0]) }

for my $p (0 .. $partitions - 1)
{
	produce($broker, 'web', [ map { my $s = sprintf('%02d:%02d', $_ / 600 % 60, $_ / 10 % 60);
		qq(v$p\t{"user_id":"v$p","event_type":"view","event_time":"2025-06-01T00:${s}Z","pad":"$padding"}) } 1 .. $messages ], partition => $p);
}
query(<<~END);
	SELECT clickstream.create_stream('web', brokers => '${\$broker->address}', topic => 'web', start_from => 'earliest', idle_timeout => '1 hour');
	SELECT clickstream.create_session('sessions', stream => 'web');
	SELECT clickstream.start('web');
	END
wait_until($node, 'SELECT sum(next_offset) > 0 FROM clickstream.partition');
my $read = query('SELECT sum(next_offset) FROM clickstream.partition');
note "figure: the first batch took $read messages";
cmp_ok($read, '>=', $partitions * $messages - 20_000, 'one batch takes all but what is not far behind');
# What is left comes with the following ones: the interval counts as it is now, not as it was when the worker began to wait.
query("ALTER SYSTEM SET clickstream.commit_interval = '10ms'; SELECT pg_reload_conf()");
wait_for($node, 'web');
is(query("SELECT sum(event_count) FROM clickstream.open_sessions('sessions')"), $partitions * $messages, 'each message was read');
query(q(SELECT clickstream.stop('web')));

# ---- batches that only close

my $far = 12000; # in each; in batches of which eight fill the queue
produce($broker, 'far', [ map { my $s = sprintf('%02d:%02d', $_ / 600 % 60, $_ / 10 % 60);
	qq(v$_\t{"user_id":"v$_","event_type":"view","event_time":"2025-06-01T01:${s}Z","pad":"$padding"}) } 1 .. $far ], partition => $_, kcat => [ '-X', 'linger.ms=1000', '-X', 'batch.num.messages=1000' ]) for 0 .. $partitions - 1;

# How long it takes from the start until the stream is not far behind any more.
sub seconds_of
{
	my ($stream) = @_;

	my $begun = time;
	query("SELECT clickstream.start('$stream')");
	wait_until($node, "SELECT lag < 20000 FROM clickstream.stat_stream WHERE stream = '$stream'");
	return time - $begun;
}
query("ALTER SYSTEM SET clickstream.commit_interval = '60s'; ALTER SYSTEM SET clickstream.batch_messages = 20000; ALTER SYSTEM SET clickstream.force_closings = 300; SELECT pg_reload_conf()");
query(<<~END);
	SELECT clickstream.create_stream('closing', brokers => '${\$broker->address}', topic => 'far', start_from => 'earliest', idle_timeout => '1 hour');
	SELECT clickstream.create_window('rolling', stream => 'closing', size => '100 seconds', slide => '50 seconds', group_by => 'user_id', measures => 'count(*) AS events', emit => 'closed');
	END
my $seconds = seconds_of('closing');
note sprintf('figure: far behind for %.1f s, with a commit_interval of 60 s', $seconds);
cmp_ok($seconds, '<', 60, 'nothing waits for a commit_interval: neither after the first commit, of where it begins, nor after those that only close');
query(q(SELECT clickstream.stop('closing')));

# ---- what fetches is woken

SKIP:
{
	my $version = `pkg-config --modversion rdkafka`;
	my %seconds;

	chomp $version;
	skip "librdkafka $version wakes by itself", 1 if $version !~ /^2\.[01]\.|^1\./;
	skip 'nothing is fast here', 1 if $ENV{CLICKSTREAM_INSTRUMENT};
	query("ALTER SYSTEM SET clickstream.commit_interval = '100ms'; ALTER SYSTEM RESET clickstream.batch_messages; ALTER SYSTEM RESET clickstream.force_closings");
	for my $mutant ('', 'no_nudges')
	{
		my $stream = $mutant eq '' ? 'woken' : 'asleep';

		query("ALTER SYSTEM SET clickstream.mutant = '$mutant'; SELECT pg_reload_conf()");
		query("SELECT clickstream.create_stream('$stream', brokers => '${\$broker->address}', topic => 'far', start_from => 'earliest', idle_timeout => '1 hour')");
		query("SELECT clickstream.create_session('${stream}_sessions', stream => '$stream')");
		$seconds{$stream} = seconds_of($stream);
		query("SELECT clickstream.stop('$stream')");
	}
	note sprintf('figure: far behind for %.1f s, and %.1f s where what fetches is not woken', $seconds{woken}, $seconds{asleep});
	cmp_ok($seconds{woken}, '<', $seconds{asleep} / 2, 'what fetches is woken while there is room');
}
$node->stop;
done_testing();
