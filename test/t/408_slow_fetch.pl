# A stream that is far behind, and faster than what fetches for it: an empty
# queue does not end its batch, which goes on until commit_interval is over.
# Else the stream would read one small queue in each commit_interval.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $partitions = 8;
my $messages = 4000;    # in each; the embedded broker keeps 5 MB of each

my $node = new_node('main', "clickstream.commit_interval = '20s'", "clickstream.queue_memory = '1MB'");
my $broker = start_broker(web => $partitions);
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
$node->stop;
done_testing();
