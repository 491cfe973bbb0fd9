# The way to a real broker: connections cut in the middle, slow, silent; messages
# larger than what is asked for at once, or than what is taken at all; headers
# without measure; a stream handed over to another server.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my @settings = ("clickstream.commit_interval = '50ms'", "clickstream.restart_delay = '50ms'", "clickstream.max_message_size = '10MB'");
my $node = new_node('main', @settings);
my $proxy = start_proxy();
my $kafka = start_kafka(network => 2, large => 1, headers => 1, moved => 2,
	'--listeners' => { PROXIED => 'PLAINTEXT ' . $proxy->address });

$proxy->command('to ' . $kafka->address('PROXIED'));

sub query { return $node->safe_psql('postgres', $_[0]) }

my $number = 0;

# So many messages of about $size bytes.
sub lines
{
	my ($n, $size) = @_;
	my $padding = 'x' x ($size // 10);
	return [ map {
		$number++;
		qq(k$number\t{"event_type": "page_view", "user_id": "u$number", "event_time": "2025-06-01T12:00:00Z", "event_properties": {"p": "$padding"}})
	} 1 .. $n ];
}

sub make_stream
{
	my ($stream, $topic, $address, $options, $on) = @_;
	$options //= '{}';

	($on // $node)->safe_psql('postgres', <<~END);
		SELECT clickstream.create_stream('$stream', brokers => '$address', topic => '$topic', start_from => 'earliest', options => '$options');
		SELECT clickstream.create_event_log('${stream}_log', stream => '$stream');
		SELECT clickstream.start('$stream');
		END
}

# Each event once: as many rows as events, as many visitors, and the ledger agrees.
sub counted
{
	my ($stream) = @_;

	wait_for($node, $stream);
	return query(<<~END);
		SELECT (SELECT count(*) || ' ' || count(DISTINCT user_id) FROM ${stream}_log) || ' ' || bool_and(balanced) FROM clickstream.audit('$stream')
		END
}

# ---- a bad network

my $sent = 0;

sub send_some
{
	my ($n, $size) = @_;
	$sent += produce($kafka, 'network', lines($n, $size), partition => $_) for 0 .. 1;
}

send_some(100);
make_stream('network', 'network', $proxy->address);
is(counted('network'), "$sent $sent true", 'through a proxy');

$proxy->command('cut after 400000'); # more than one answer, so that there is a way to go on
for (1 .. 10)
{
	send_some(10, 1000);
	$proxy->command('cut');
}
send_some(1, 40_000);
is(counted('network'), "$sent $sent true", 'connections that are cut, again and again, in the middle of a message');

$proxy->command('good');
$proxy->command('rate 50000');
send_some(20, 5_000);
is(counted('network'), "$sent $sent true", '50 kB a second');

$proxy->command('silent');
send_some(10);
wait_until($node, "SELECT state = 'waiting for broker' AND problem <> '' FROM clickstream.stat_stream WHERE stream = 'network'");
pass('a broker that says nothing any more is said to');
note query("SELECT problem FROM clickstream.stat_stream WHERE stream = 'network'");
$proxy->command('good');
is(counted('network'), "$sent $sent true", 'and when it speaks again the stream goes on by itself');
is_soon($node, "SELECT state, problem IS NULL FROM clickstream.stat_stream WHERE stream = 'network'", 'running|t', 'and says that nothing is wrong');
query("SELECT clickstream.drop_stream('network')");

# ---- large messages

my $address = $kafka->address;
my $large = produce($kafka, 'large', [ @{ lines(3) }, @{ lines(2, 5_000_000) }, @{ lines(3) } ], kcat => [ '-X', 'message.max.bytes=20000000' ]);
make_stream('small_steps', 'large', $address, '{"max.partition.fetch.bytes": "1000", "fetch.max.bytes": "1000000"}');
is(counted('small_steps'), "$large $large true", 'messages larger than what is asked for at once come all the same');
query("SELECT clickstream.drop_stream('small_steps')");

make_stream('small', 'large', $address, '{"receive.message.max.bytes": "1100000", "fetch.max.bytes": "1000000"}');
wait_until($node, "SELECT problem LIKE '%receive.message.max.bytes%' FROM clickstream.stat_stream WHERE stream = 'small'");
pass('one that is larger than what is taken: the reason is said');
query("SELECT clickstream.alter_stream('small', options => '{}')");
is(counted('small'), "$large $large true", 'and without that limit all is there');
query("SELECT clickstream.drop_stream('small')");

# ---- headers

# Kafka's own tool: an argument of kcat's could not hold them.
my $file = PostgreSQL::Test::Utils::tempdir() . '/headers';
my $json = '{"event_type": "page_view", "user_id": "h", "event_time": "2025-06-01T12:00:00Z"}';
append_to_file($file, "a:1\tk\t$json\n" . 'b:' . ('y' x 17_000_000) . "\tk\t$json\n" . "c:3\tk\t$json\n");
system_or_bail('sh', '-c', 'file=$1; shift; exec "$@" <"$file"', 'sh', $file, "$ClickstreamTest::top/test/kafka/tool.sh", 'kafka.tools.ConsoleProducer',
	'--bootstrap-server', $address, '--topic', 'headers', '--request-timeout-ms', 60_000, '--property', 'parse.headers=true', '--property', 'parse.key=true',
	'--producer-property', 'max.request.size=30000000', '--producer-property', 'buffer.memory=60000000');
make_stream('headers', 'headers', $address);
wait_for($node, 'headers');
is(query('SELECT count(*) FROM headers_log'), '2', 'the neighbours of a message with 17 MB of headers are there');
like(query("SELECT count(*) || ' ' || min(error || ' ' || message_offset) FROM clickstream.dead_letter WHERE stream = 'headers'"), qr/^1 .*header.* 1$/i,
	'itself is a dead letter');
query("SELECT clickstream.drop_stream('headers')");

# ---- handed over to another server: with its state, by a dump of the database

$node->safe_psql('postgres', 'CREATE DATABASE moving');
my $before = produce($kafka, 'moved', lines(30));
$node->safe_psql('moving', <<~END);
	CREATE EXTENSION clickstream;
	SELECT clickstream.create_stream('moved', brokers => '$address', topic => 'moved', start_from => 'earliest');
	SELECT clickstream.create_session('visits', stream => 'moved', gap => '1 hour', key => 'event_type');
	SELECT clickstream.start('moved');
	END
is_soon($node, 'SELECT sum(used) FROM clickstream.ledger', $before, 'one server has read what is there', 'moving');
$node->safe_psql('moving', "SELECT clickstream.stop('moved')");
is_soon($node, 'SELECT state FROM clickstream.stat_stream', 'stopped', 'and stops', 'moving');

my $other = new_node('other', @settings);
my $dump = PostgreSQL::Test::Utils::tempdir() . '/moving.dump';
system_or_bail('pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('moving'));
$other->safe_psql('postgres', 'CREATE DATABASE moving TEMPLATE template0');
system_or_bail('pg_restore', '-d', $other->connstr('moving'), $dump);
my $after = produce($kafka, 'moved', lines(20));
$other->safe_psql('moving', "SELECT clickstream.start('moved')");
$other->safe_psql('moving', "CALL clickstream.wait_for('moved', '5 minutes')");
is($other->safe_psql('moving', "SELECT sum(used), bool_and(balanced) FROM clickstream.audit('moved')"), $before + $after . '|t', 'another one goes on where it was');
is($other->safe_psql('moving', "SELECT count(*), sum(event_count) FROM clickstream.open_sessions('visits')"), '1|' . ($before + $after),
	'with the session that was open');
alone($node, 'DROP DATABASE moving');

$other->stop;
$node->stop;
done_testing();
