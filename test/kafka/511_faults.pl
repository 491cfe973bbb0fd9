# What happens to a topic and to the way there: topics of a pattern that are
# deleted, a damaged segment, headers without measure; leaders that move, cut
# connections, slow and silent brokers.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main', "clickstream.commit_interval = '50ms'", "clickstream.restart_delay = '50ms'",
	"clickstream.metadata_refresh_interval = '200ms'", 'clickstream.max_workers = 16', 'max_worker_processes = 30');
my $kafka = start_kafka('--properties' => [ 'auto.create.topics.enable=true', 'num.partitions=1' ]);
my $broker = start_broker(moves => 3, '--brokers' => 3);

sub query { return $node->safe_psql('postgres', $_[0]) }

sub lines
{
	my ($n) = @_;
	return [ map { qq(k$_\t{"event_type": "page_view", "user_id": "k$_", "event_time": "2025-06-01T12:00:00Z"}) } 1 .. $n ];
}

sub make_stream
{
	my ($stream, $topic, $from) = @_;
	my $address = ($from // $kafka)->address;

	query(<<~END);
		SELECT clickstream.create_stream('$stream', brokers => '$address', topic => '$topic', start_from => 'earliest');
		SELECT clickstream.create_window('${stream}_hours', stream => '$stream', size => '1 hour', group_by => 'topic', measures => 'count(*) AS n');
		SELECT clickstream.start('$stream');
		END
}

sub counted
{
	my ($stream) = @_;

	wait_for($node, $stream);
	return query(<<~END);
		SELECT string_agg(topic || ':' || used, ' ' ORDER BY topic) || ' ' || (SELECT bool_and(balanced)::text FROM clickstream.audit('$stream'))
		FROM (SELECT topic, sum(used) AS used FROM clickstream.stat_partition WHERE stream = '$stream' GROUP BY 1) AS p
		END
}

sub stop_stream
{
	my ($stream) = @_;

	query("SELECT clickstream.stop('$stream')");
	wait_until($node, "SELECT state = 'stopped' FROM clickstream.stat_stream WHERE stream = '$stream'");
}

sub last_error
{
	my ($stream) = @_;

	wait_until($node, "SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = '$stream'");
	return query("SELECT last_error || ' | ' || last_hint FROM clickstream.stat_stream WHERE stream = '$stream'");
}

# ---- topics of a pattern that are deleted: one was read to its end, of one something is missing

produce($kafka, $_, lines(3)) for qw(go.one go.two lost.one lost.two);
make_stream('go', '^go[.]');
make_stream('lost', '^lost[.]');
is(counted('go'), 'go.one:3 go.two:3 true', 'two topics of a pattern');
is(counted('lost'), 'lost.one:3 lost.two:3 true', 'two topics of another one');
# The worker sees the end of what is produced when it commits the next message; then it is stopped.
stop_stream('lost');
produce($kafka, 'lost.one', lines(4));
query("UPDATE clickstream.partition SET end_offset = 7 WHERE topic = 'lost.one'");
$kafka->delete_topic('(go|lost)[.]one');
query("SELECT clickstream.start('lost')");
produce($kafka, $_, lines(5)) for qw(go.two lost.two);

# ---- meanwhile, the way to a broker: nothing is lost or doubled, and it mends itself

my $sent = 0;

sub send_some { $sent += produce($broker, 'moves', lines(20), partition => $_) for 0 .. 2 }

send_some();
make_stream('moves', 'moves', $broker);
is(counted('moves'), "moves:$sent true", 'three brokers');
for my $leader (1 .. 3)
{
	$broker->command("leader moves $_ $leader") for 0 .. 2;
	send_some();
	is(counted('moves'), "moves:$sent true", "all partitions are led by broker $leader");
}
$broker->command('rtt 700');
send_some();
is(counted('moves'), "moves:$sent true", 'a slow network');
$broker->command('rtt 0');
$broker->command('errors 1 20 -195');
send_some();
is(counted('moves'), "moves:$sent true", 'connections that are cut with each fetch');
$broker->command('errors 3 5 7');
send_some();
is(counted('moves'), "moves:$sent true", 'metadata that times out');
$broker->command('down');
wait_until($node, "SELECT problem IS NOT NULL FROM clickstream.stat_stream WHERE stream = 'moves'");
pass('no broker answers: that is said');
$broker->command('up');
send_some();
is(counted('moves'), "moves:$sent true", 'and it goes on by itself');

# ---- a byte that has turned over on the broker's disk

produce($kafka, 'damaged', lines(5)) for 1 .. 3;
$kafka->stop;
my ($segment) = glob("$kafka->{directory}/data/damaged-0/*.log");
my $bytes = slurp_file($segment);
my $place = index($bytes, '"k3"', int(length($bytes) / 3) + 70);
cmp_ok($place, '>', 0, 'a message in the second of three batches');
open my $file, '+<:raw', $segment or die "could not open $segment: $!";
seek $file, $place + 1, 0;
print $file 'X';
close $file or die $!;
$kafka->start;
make_stream('damaged', 'damaged');
like(last_error('damaged'), qr/could not read topic "damaged", partition 0 \| Messages from offset 5 on may be damaged/, 'is found by its checksum');
query("SELECT clickstream.seek('damaged', 0, 10); SELECT clickstream.start('damaged')");
is(counted('damaged'), 'damaged:10 true', 'and passed over by hand');

# ---- what became of the topics that were deleted

wait_until($node, "SELECT gone_at IS NOT NULL FROM clickstream.stream_topic WHERE topic = 'go.one'");
is(counted('go'), 'go.one:3 go.two:8 true', 'a topic that goes ends no stream');
wait_until($node, "SELECT state = 'running' AND lag = 0 FROM clickstream.stat_stream WHERE stream = 'go'");
pass('nor is it waited for');
like(last_error('lost'),
	qr/^topic "lost.one", partition 0, is no longer on the broker: it was read up to offset 3 of 7, 4 offsets are missing \| clickstream\.seek\('lost', 0, 7, 'lost.one'\) goes on/,
	'one of which something is missing does');
query("SELECT clickstream.seek('lost', 0, 7, 'lost.one'); SELECT clickstream.start('lost')");
is(counted('lost'), 'lost.one:3 lost.two:8 true', 'until somebody says to go on without');
is(query("SELECT skipped FROM clickstream.stat_partition WHERE topic = 'lost.one'"), '4', 'which the ledger knows');

$node->stop;
done_testing();
