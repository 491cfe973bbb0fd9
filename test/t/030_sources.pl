# Where messages come from: a real Kafka server, the embedded broker, the local
# topic.  Where reading starts, partitions that are found while running, brokers
# that go away and come back, offsets that are gone; and the same events through
# each source, in batches of any size, make the same tables.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;
use ClickstreamSite;

my $seed = seed_of(30);

my $node = new_node('main',
	"clickstream.commit_interval = '50ms'",
	"clickstream.restart_delay = '50ms'",
	"clickstream.metadata_refresh_interval = '200ms'");
my $kafka = start_kafka(starts => 3, grows => 1, marks => 1, same => 4, short => 1);
my $broker = start_broker(starts => 3, same => 4, few => 4);
my %address = (kafka => $kafka->address, embedded => $broker->address);
my $hour = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }

# So many lines for produce(), each an event of its own hour.
sub lines
{
	my ($n) = @_;
	return [ map {
		my $time = sprintf '2025-%02d-%02dT%02d:00:00Z', 1 + int($hour / 672), 1 + int($hour / 24) % 28, $hour % 24;
		$hour++;
		qq(k\t{"event_type": "page_view", "user_id": "u", "event_time": "$time"})
	} 1 .. $n ];
}

# A stream that counts, started.  Which partition is read first is a matter of luck, and hours lie between them: who
# reads from the latest on would find the others late, as a partition that was empty at first holds back nobody.
sub make_stream
{
	my ($stream, $from, $topic, $start, @more) = @_;
	my $more = join ', ', "start_from => '$start'", "watermark_delay => '366 days'", "idle_timeout => '1 hour'", @more;

	query(<<~END);
		SELECT clickstream.create_stream('$stream', brokers => '$address{$from}', topic => '$topic', $more);
		SELECT clickstream.create_window('${stream}_hours', stream => '$stream', size => '1 hour', measures => 'count(*) AS n');
		SELECT clickstream.start('$stream');
		END
}

# How many events the stream's rows hold (of hours of their own: each is there with the commit that counts it); how many
# the ledger says were used, late, and skipped; and is it balanced?
sub counted
{
	my ($stream) = @_;
	return query(<<~END);
		SELECT (SELECT coalesce(sum(n), 0) FROM ${stream}_hours), sum(used), sum(late), sum(skipped), bool_and(balanced)
		FROM clickstream.audit('$stream')
		END
}

sub is_counted
{
	my ($stream, $n, $name) = @_;

	wait_for($node, $stream);
	query("CALL clickstream.finish('$stream')");
	is(counted($stream), "$n|$n|0|0|t", $name);
	query("SELECT clickstream.drop_stream('$stream')");
}

sub is_refused
{
	my ($call, $error, $name) = @_;
	my ($code, $out, $err) = $node->psql('postgres', "SELECT clickstream.create_stream('refused', $call)");

	like($err, $error, $name);
	is(query("SELECT count(*) FROM clickstream.stream WHERE name = 'refused'"), '0', "$name: nothing was made");
}

# ---- mistakes are seen when the stream is made

is_refused("brokers => '$address{kafka}', topic => 'nowhere'",
	qr/topic "nowhere" does not exist.*HINT:/s, 'a missing topic');
is_refused("brokers => '127.0.0.1:1', topic => 'starts'",
	qr/could not reach the broker "127\.0\.0\.1:1".*DETAIL:(?:(?!in state|suppressed).)*HINT:/s, 'an unreachable broker');
{
	my (undef, undef, $err) = $node->psql('postgres', q{SET statement_timeout = '8s';
		SELECT clickstream.create_stream('away', brokers => '127.0.0.1:1', topic => 'starts', check_broker => false);
		CALL clickstream.process('away');});

	like($err, qr/NOTICE: .*waiting for the broker of stream "away"\nDETAIL: .*refused/, 'process() says what it waits for');
	query(q{SELECT clickstream.drop_stream('away')});
}

# ---- where reading starts

for my $from (qw(kafka embedded))
{
	my $there = $from eq 'kafka' ? $kafka : $broker;
	my $between;

	produce($there, 'starts', lines(10), partition => $_) for 0 .. 2;
	$between = query('SELECT clock_timestamp()');
	wait_until($node, "SELECT clock_timestamp() > '$between'::timestamptz + interval '20 milliseconds'");
	make_stream('latest', $from, 'starts', 'latest');
	wait_until($node, "SELECT count(*) = 3 FROM clickstream.stat_partition WHERE stream = 'latest'");
	produce($there, 'starts', lines(4), partition => $_) for 0 .. 1;

	is_counted('latest', 8, "$from: from the latest on");
	make_stream('earliest', $from, 'starts', 'earliest');
	is_counted('earliest', 38, "$from: from the earliest on");
	make_stream('offsets', $from, 'starts', 'offsets', q(start_offsets => '{"0": 13, "2": 7}'));
	is_counted('offsets', 1 + 14 + 3, "$from: from given offsets on; a partition not named from its beginning");
	next if $from eq 'embedded';    # it cannot look up times
	make_stream('times', $from, 'starts', 'timestamp', "start_time => '$between'");
	is_counted('times', 8, "$from: from a point in time on");
	make_stream('future', $from, 'starts', 'timestamp', "start_time => '2100-01-01'");
	wait_until($node, "SELECT count(*) = 3 FROM clickstream.stat_partition WHERE stream = 'future'");
	is_counted('future', 0, "$from: from a time that has not come");
}

# ---- new partitions

make_stream('grows', 'kafka', 'grows', 'latest');
wait_until($node, "SELECT count(*) = 1 FROM clickstream.stat_partition WHERE stream = 'grows'");
produce($kafka, 'grows', lines(5));
wait_for($node, 'grows');
$kafka->widen_topic('grows', 3);
produce($kafka, 'grows', lines(5), partition => $_) for 1 .. 2;
wait_until($node, "SELECT count(*) = 3 FROM clickstream.stat_partition WHERE stream = 'grows' AND next_offset = 5");
is_counted('grows', 15, 'new partitions are found while running, and read from their beginnings');

# ---- offsets without a message, messages without payload

make_stream('marks', 'kafka', 'marks', 'earliest');
for my $part (1 .. 3)
{
	produce($kafka, 'marks', lines(4), kcat => [ '-X', 'transactional.id=t' ]);
	wait_for($node, 'marks');
}
produce($kafka, 'marks', ["k\t"], kcat => ['-Z']);
wait_for($node, 'marks');
is(query(q(SELECT consumed, used, skipped, empty, balanced FROM clickstream.audit('marks'))), '16|12|3|1|t',
	"marks of transactions are skipped, tombstones are empty");
is_soon($node, "SELECT lag FROM clickstream.stat_stream WHERE stream = 'marks'", '0', 'and none is waited for');
query("SELECT clickstream.stop('marks')");
is(query("SELECT lag IS NULL FROM clickstream.stat_stream WHERE stream = 'marks'"), 't', 'of a stream that is stopped nobody knows how far behind it is');
query("SELECT clickstream.drop_stream('marks')");

# ---- offsets that are gone

make_stream('short', 'kafka', 'short', 'earliest');
make_stream('other', 'kafka', 'starts', 'earliest');
produce($kafka, 'short', lines(10));
wait_for($node, 'short');
query("SELECT clickstream.stop('short')");
wait_until($node, "SELECT state = 'stopped' FROM clickstream.stat_stream WHERE stream = 'short'");
produce($kafka, 'short', lines(10));
$kafka->trim_topic('short', 0, 15);
query("SELECT clickstream.start('short')");
wait_until($node, "SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = 'short'");
like(query("SELECT last_error FROM clickstream.stat_stream WHERE stream = 'short'"),
	qr/offset 10 of topic "short", partition 0, is not on the broker/, 'a stream that retention overtook fails with the reason');
like(slurp_file($node->logfile),
	qr/DETAIL:  The broker holds offsets from 15 up to, not including, 20\..*HINT:  .*clickstream\.reset\(\)/s, 'and a hint in the log');
is(counted('short'), '10|10|0|0|t', 'nothing was guessed');
produce($kafka, 'starts', lines(2), partition => 0);
is_counted('other', 40, 'another stream goes on');
query("SELECT clickstream.reset('short', 'earliest'); SELECT clickstream.start('short')");
is_counted('short', 5, 'after a reset it reads what is left');

# ---- brokers that go away

for my $from (qw(kafka embedded))
{
	my $there = $from eq 'kafka' ? $kafka : $broker;
	
	make_stream('away', $from, 'starts', 'latest');
	wait_until($node, "SELECT count(*) = 3 FROM clickstream.stat_partition WHERE stream = 'away'");
	produce($there, 'starts', lines(5), partition => $_) for 0 .. 2;
	wait_for($node, 'away');
	is_soon($node, "SELECT problem IS NULL FROM clickstream.stat_stream WHERE stream = 'away'", 't', "$from: no problem yet");
	$from eq 'kafka' ? $kafka->stop('KILL') : $broker->command('down');
	wait_until($node, "SELECT state = 'waiting for broker' AND problem <> '' FROM clickstream.stat_stream WHERE stream = 'away'");
	pass("$from: the broker's absence is shown");
	note query("SELECT problem FROM clickstream.stat_stream WHERE stream = 'away'");
	$from eq 'kafka' ? $kafka->start : $broker->command('up');
	produce($there, 'starts', lines(5), partition => $_) for 0 .. 2;
	wait_for($node, 'away');
	is(counted('away'), '30|30|0|0|t', "$from: when it is back the stream goes on, nothing is lost or doubled");
	wait_until($node, "SELECT state = 'running' AND problem IS NULL FROM clickstream.stat_stream WHERE stream = 'away'");
	query("SELECT clickstream.drop_stream('away')");
}

# Where a stream starts is decided by the broker's first answer, whatever was committed before it.
$broker->command('down');
make_stream('absent', 'embedded', 'starts', 'latest', 'check_broker => false');
query("SELECT clickstream.advance_watermark('absent', '2020-01-01')");
wait_until($node, "SELECT p.commit_number > 0 FROM clickstream.progress AS p JOIN clickstream.stream AS s USING (stream_id) WHERE s.name = 'absent'");
is(query("SELECT count(*) FROM clickstream.stat_partition WHERE stream = 'absent'"), '0', 'committed before a broker answered');
$broker->command('up');
wait_until($node, "SELECT count(*) = 3 FROM clickstream.stat_partition WHERE stream = 'absent'");
produce($broker, 'starts', lines(5), partition => $_) for 0 .. 2;
is_counted('absent', 15, 'and from the latest on, as was asked for');

# ---- the same events through everything

my $events = site_events(20_000, $seed);
load_site($node, $events);
produce_site($kafka, 'same', $events);

# Through the local topic by process(), $size messages a batch.
sub through_local
{
	my ($name, $size, $count) = @_;

	create_site($node, $name, $name);
	query(<<~END);
		SELECT count(clickstream.produce('$name', payload, key, partition))
		FROM (SELECT * FROM site_event WHERE n < $count ORDER BY n OFFSET 0) AS e;
		SET clickstream.batch_messages = $size;
		CALL clickstream.process('$name');
		CALL clickstream.finish('$name');
		END
}

# Through a broker's topic by the worker.
sub through_broker
{
	my ($name, $size, $from, $topic) = @_;

	query("ALTER SYSTEM SET clickstream.batch_messages = $size");
	$node->reload;
	create_site($node, $name, $name, "brokers => '$address{$from}', topic => '$topic', start_from => 'earliest'");
	query("SELECT clickstream.start('$name')");
	wait_for($node, $name);
	query("CALL clickstream.finish('$name')");
	query("SELECT clickstream.stop('$name')");
}

# Parts of each partition by turns, of random length, each processed at once.
sub through_local_interleaved
{
	my ($name) = @_;
	my @script;
	my @next = (0) x 4;
	my @left = map { my $p = $_; scalar grep { $_->[0] == $p } @$events } 0 .. 3;

	create_site($node, $name, $name);
	srand $seed;
	# Each partition has said something before any is far ahead.
	for my $turn (0 .. 1_000_000)
	{
		my @open = grep { $next[$_] < $left[$_] } 0 .. 3;
		last unless @open;
		my $p = $turn < 4 ? $turn : $open[rand @open];
		my $n = 1 + int(rand 400);

		push @script, <<~END;
			SELECT count(clickstream.produce('$name', payload, key, partition)) FROM (
				SELECT * FROM site_event WHERE partition = $p ORDER BY n OFFSET $next[$p] LIMIT $n) AS e;
			END
		push @script, "CALL clickstream.process('$name');" if $turn >= 3;
		$next[$p] += $n;
	}
	query(join "\n", 'CREATE INDEX ON site_event (partition, n);', @script, "CALL clickstream.finish('$name');");
}

through_local('whole', 1_000_000, 20_000);
is_as_in_sql($node, 'whole', 'the local topic, all at once: windows are what plain SQL makes of the events');
through_local('thousands', 1000, 20_000);
same_site($node, 'thousands', 'whole', 'the local topic, 1,000 messages a batch');
through_local('sevens', 7, 20_000);
same_site($node, 'sevens', 'whole', 'the local topic, 7 messages a batch');
through_local_interleaved('interleaved');
same_site($node, 'interleaved', 'whole', 'the local topic, partitions interleaved at random');
through_broker('kafka_whole', 1_000_000, 'kafka', 'same');
same_site($node, 'kafka_whole', 'whole', 'Kafka, all at once');
through_broker('kafka_thousands', 1000, 'kafka', 'same');
same_site($node, 'kafka_thousands', 'whole', 'Kafka, 1,000 messages a batch');
through_broker('kafka_sevens', 7, 'kafka', 'same');
same_site($node, 'kafka_sevens', 'whole', 'Kafka, 7 messages a batch');
produce_site($broker, 'same', $events);
through_broker('embedded_whole', 1_000_000, 'embedded', 'same');
same_site($node, 'embedded_whole', 'whole', 'the embedded broker, all at once');

through_local('few', 1_000_000, 2000);
through_local('ones', 1, 2000);
same_site($node, 'ones', 'few', 'the local topic, a batch for each message');
produce_site($broker, 'few', [ @$events[ 0 .. 1999 ] ]);
through_broker('broker_ones', 1, 'embedded', 'few');
same_site($node, 'broker_ones', 'few', 'the embedded broker, a batch for each message');

$node->stop;
done_testing();
