# What is read, and from where: several topics, some partitions, offsets that
# count from the end; going on behind what is gone; each codec, compacted and
# transactional topics; several brokers; what lag tools see of it.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use ClickstreamTest;

my @settings = ("clickstream.commit_interval = '50ms'", "clickstream.restart_delay = '50ms'",
	"clickstream.metadata_refresh_interval = '200ms'", 'clickstream.max_workers = 16', 'max_worker_processes = 30');
my $node = new_node('main', @settings);
my $kafka = start_kafka(
	clicks => 2, views => 2, shared => 4, short => 1, anew => 1, codecs => 1, '--properties' => ['log.cleaner.backoff.ms=200']);
my $broker = start_broker(clicks => 2);

sub query { return $node->safe_psql('postgres', $_[0]) }

sub lines
{
	my ($n, $key) = @_;
	return [ map { my $k = $key // "k$_"; qq($k\t{"event_type": "page_view", "user_id": "$k", "event_time": "2025-06-01T12:00:00Z"}) } 1 .. $n ];
}

# A stream that counts by topic and partition, started; on another server if told so.
sub make_stream
{
	my ($stream, $topic, %option) = @_;
	my $server = delete $option{server} // $node;
	my $address = (delete $option{broker} // $kafka)->address;
	my %given = (start_from => 'earliest', %option);
	my $more = join ', ', map { "$_ => '$given{$_}'" } sort keys %given;

	$server->safe_psql('postgres', <<~END);
		SELECT clickstream.create_stream('$stream', brokers => '$address', topic => '$topic', $more);
		SELECT clickstream.create_window('${stream}_hours', stream => '$stream', size => '1 hour', group_by => 'topic, partition',
			measures => 'count(*) AS n');
		SELECT clickstream.start('$stream');
		END
}

# What the stream's rows hold when all is read, "topic/partition:n ...", and does the ledger agree?
sub counted
{
	my ($stream, $server) = @_;
	$server //= $node;

	wait_for($server, $stream);
	$server->safe_psql('postgres', "CALL clickstream.finish('$stream')");
	return $server->safe_psql('postgres', <<~END);
		SELECT coalesce((SELECT string_agg(topic || '/' || partition || ':' || n, ' ' ORDER BY topic, partition) FROM ${stream}_hours), '')
			|| ' ' || (SELECT bool_and(balanced)::text FROM clickstream.audit('$stream'))
		END
}

sub last_error
{
	my ($stream, $state) = @_;

	wait_until($node, "SELECT state = '$state' FROM clickstream.stat_stream WHERE stream = '$stream'");
	return query("SELECT last_error || ' | ' || last_hint FROM clickstream.stat_stream WHERE stream = '$stream'");
}

sub stop_stream
{
	my ($stream) = @_;

	query("SELECT clickstream.stop('$stream')");
	wait_until($node, "SELECT state = 'stopped' FROM clickstream.stat_stream WHERE stream = '$stream'");
}

sub refused
{
	my ($call) = @_;
	my (undef, undef, $err) = $node->psql('postgres', "SELECT $call");
	return $err;
}

# ---- several topics, each with its partitions

produce($kafka, 'clicks', lines(3), partition => $_) for 0 .. 1;
produce($kafka, 'views', lines(5), partition => $_) for 0 .. 1;
make_stream('both', 'views, clicks');
wait_for($node, 'both');
produce($kafka, 'views', lines(2), partition => 1);
is(counted('both'), 'clicks/0:3 clicks/1:3 views/0:5 views/1:7 true', 'several topics in one stream');
like(refused("clickstream.seek('both', 0, 3)"), qr/partition 0 of several topics.*HINT:  Give the topic/s, 'which topic must be said');
make_stream('tails', 'clicks, views', start_from => 'offsets', start_offsets => '{"clicks/0": 1, "0": -1, "*": -2}');
is(counted('tails'), 'clicks/0:2 clicks/1:2 views/0:1 views/1:2 true',
	'where each begins: of a topic, of any topic, of all; from the start, from the end');

# ---- what lag tools see

wait_for($node, 'both');
my $group = '';
for (1 .. 30)
{
	$group = $kafka->tool('org.apache.kafka.tools.consumer.group.ConsumerGroupCommand', '--describe', '--group', 'clickstream-both');
	last if 4 == (() = $group =~ /^clickstream-both\s+(?:clicks|views)\s+\d+\s+(\d+)\s+\1\s+0\s/mg);
}
like($group, qr/^clickstream-both\s+views\s+1\s+7\s+7\s+0\s/m, 'the group is told where the stream is');

# ---- a topic shared by two servers

my $other = new_node('other', @settings);
make_stream('half', 'shared', partitions => '{0,2}');
make_stream('half', 'shared', partitions => '{1,3}', server => $other);
produce($kafka, 'shared', lines(10 + $_), partition => $_) for 0 .. 3;
is(counted('half'), 'shared/0:10 shared/2:12 true', 'one server reads some partitions');
is(counted('half', $other), 'shared/1:11 shared/3:13 true', 'another one the others');
my $address = $kafka->address;
like(refused("clickstream.create_stream('none', brokers => '$address', topic => 'shared', partitions => '{3,4}')"),
	qr/topic "shared" has no partition 4.*DETAIL:  It has 4 partitions/s, 'a partition that is not there');
$other->stop;

# ---- what is gone

make_stream('short', 'short');
produce($kafka, 'short', lines(10));
wait_for($node, 'short');
stop_stream('short');
produce($kafka, 'short', lines(10));
$kafka->trim_topic('short', 0, 15);
query("SELECT clickstream.start('short')");
like(last_error('short', 'failed'),
	qr/offset 10 of topic "short", partition 0, is not on the broker: it begins at 15, 5 offsets are missing \| .*clickstream\.seek\('short', 0, 15, 'short'\)/,
	'what is missing is said in numbers');
like(refused("clickstream.seek('short', 0, 12)"), qr/offset 12 is not in topic.*from 15 to 20/s, 'the hint cannot be mistaken');
is(query("SELECT clickstream.seek('short', 0, 15, 'short')"), '5', 'going on without them');
query("SELECT clickstream.start('short')");
is(counted('short'), 'short/0:15 true', 'counts what is left');
is(query("SELECT used, skipped FROM clickstream.audit('short')"), '15|5', 'and the ledger knows of them');

make_stream('anew', 'anew');
produce($kafka, 'anew', lines(10));
wait_for($node, 'anew');
stop_stream('anew');
$kafka->delete_topic('anew');
$kafka->create_topic('anew', 1);
produce($kafka, 'anew', lines(3));
query("SELECT clickstream.start('anew')");
like(last_error('anew', 'failed'), qr/offset 10 of topic "anew", partition 0, is not on the broker: it ends at 3, 7 offsets are missing \| .*made anew.*reset/,
	'a topic that was made anew');
query("SELECT clickstream.reset('anew', 'earliest'); SELECT clickstream.start('anew')");
is(counted('anew'), 'anew/0:3 true', 'is read after a reset');

# ---- each codec, compaction, transactions

make_stream('codecs', 'codecs');
produce($kafka, 'codecs', lines(20), kcat => [ '-z', $_ ]) for qw(none gzip snappy lz4 zstd);
is(counted('codecs'), 'codecs/0:100 true', 'none, gzip, snappy, lz4, zstd');

$kafka->create_topic('compacted', 1, 'cleanup.policy=compact', 'segment.ms=100', 'min.cleanable.dirty.ratio=0.01', 'delete.retention.ms=0');
produce($kafka, 'compacted', lines(30, 'same')) for 1 .. 3;
# What is in the last segment stays: so a message of another key, again and again, until others have gone.
my $left = 90;
my $in_all = 90;
for my $try (1 .. 100)
{
	produce($kafka, 'compacted', lines(1, "try$try"));
	$in_all++;
	$left = () = run_kcat('-C', '-t', 'compacted', '-e', '-f', "%k\n") =~ /^same$/mg;
	last if $left < 90;
	Time::HiRes::usleep(300_000);
}
cmp_ok($left, '<', 90, 'the broker has compacted');
make_stream('compacted', 'compacted');
wait_for($node, 'compacted');
is(query("SELECT used < $in_all AND used + skipped = $in_all AND balanced FROM clickstream.audit('compacted')"), 't',
	'a compacted topic: offsets without a message are skipped');
is(query("SELECT lag FROM clickstream.stat_stream WHERE stream = 'compacted'"), '0', 'and none is waited for');

sub run_kcat
{
	my (@arguments) = @_;
	my $out = '';

	IPC::Run::run([ 'kcat', '-b', $kafka->address, '-q', @arguments ], '<', \undef, '>', \$out) or die "kcat @arguments failed";
	return $out;
}

# A producer that dies in a transaction; the next one of its name aborts what it left.
$kafka->create_topic('transactions', 1);
make_stream('transactions', 'transactions');
my $in = join '', map { "$_\n" } @{ lines(50, 'lost') };
my $dying = IPC::Run::start([ 'kcat', '-P', '-b', $kafka->address, '-t', 'transactions', '-K', "\t", '-q', '-X', 'transactional.id=t', '-X', 'linger.ms=0' ],
	'<pipe', \*DYING, '>', \my $unused, '2>&1');
print DYING $in;
DYING->flush;
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if run_kcat('-C', '-t', 'transactions', '-e', '-X', 'isolation.level=read_uncommitted', '-f', "%k\n") =~ /lost/;
	Time::HiRes::usleep(100_000);
}
$dying->kill_kill(grace => 0);
produce($kafka, 'transactions', lines(7, 'kept'), kcat => [ '-X', 'transactional.id=t' ]);
is(counted('transactions'), 'transactions/0:7 true', 'aborted messages are never counted');
cmp_ok(query("SELECT skipped FROM clickstream.audit('transactions')"), '>', 7, 'they are skipped');

# ---- several brokers; a stream that pauses

produce($broker, 'clicks', lines(4), partition => $_) for 0 .. 1;
make_stream('here', 'clicks', broker => $broker);
make_stream('there', 'clicks');
wait_for($node, 'here');
wait_for($node, 'there');
stop_stream('there');
produce($broker, 'clicks', lines(2), partition => 0);
produce($kafka, 'clicks', lines(2), partition => 0);
wait_for($node, 'here');
is(query("SELECT string_agg(stream || ':' || consumed, ' ' ORDER BY stream) FROM (SELECT stream, sum(consumed) AS consumed FROM clickstream.ledger"
		. " WHERE stream IN ('here', 'there') GROUP BY 1) AS l"), 'here:10 there:6', 'one broker\'s stream pauses, that of another goes on');
query("SELECT clickstream.start('there')");
is(counted('there'), 'clicks/0:5 clicks/1:3 true', 'after the pause it goes on where it was');
is(counted('here'), 'clicks/0:6 clicks/1:4 true', 'each has counted its own');

$node->stop;
done_testing();
