# What is fetched ahead is bounded by clickstream.queue_memory: a stream that is
# slower than its broker, with large messages, holds a queue of that size, and
# the messages that it has taken out of it and not yet used, which were in it.
#
# The slow stream is one that waits (core/fault.h): at first with few messages in
# hand, until the library has filled its queue; then it takes all that is there
# and waits again, while the queue is filled once more.  What counts is the
# memory of the process.  With a queue that has room for the topic it must be
# seen to hold it, else the measure would be none.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use ClickstreamTest;

my $partitions = 8;      # the embedded broker keeps 5 MB of each
my $messages = 30;       # in each
my $bytes = 128 * 1024;  # of each
my $topic = $partitions * $messages * $bytes / 1024;    # kB

my $node = new_node('main', "clickstream.commit_interval = '1ms'", "clickstream.restart_delay = '10ms'");
my $broker = start_broker(small => $partitions, large => $partitions);
my $padding = 'x' x $bytes;

sub query { return $node->safe_psql('postgres', $_[0]) }

# kB of memory that is the process' own.
sub memory_of
{
	my ($pid) = @_;
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	return $kb;
}

# The same when it has not grown for half a second; the most that was seen.
sub settled_memory_of
{
	my ($pid) = @_;
	my ($most, $since) = (0, time);

	while (time < $since + 0.5)
	{
		my $now = memory_of($pid);
		($most, $since) = ($now, time) if $now > $most + 64;
		sleep 0.02;
	}
	return $most;
}

sub wait_at
{
	my ($point) = @_;
	my $file = $node->data_dir . "/clickstream_fault.$point";
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	until (-e $file)
	{
		die "the worker does not come to $point" if time > $end;
		sleep 0.01;
	}
	return $file;
}

sub set_fault { query("ALTER SYSTEM SET clickstream.fault = '$_[0]'; SELECT pg_reload_conf()") }

# Reads the topic, with a queue of so many kB: (memory before anything is there, with a full queue, with its content in
# hand and a full queue again).
sub read_with
{
	my ($stream, $queue) = @_;

	query(<<~END);
		ALTER SYSTEM SET clickstream.queue_memory = '${queue}kB';
		SELECT pg_reload_conf();
		SELECT clickstream.create_stream('$stream', brokers => '${\$broker->address}', topic => '$stream', start_from => 'earliest', idle_timeout => '1 hour');
		SELECT clickstream.create_session('${stream}_sessions', stream => '$stream');
		SELECT clickstream.start('$stream');
		END
	my $pid = worker_of($node, $stream);
	wait_until($node, "SELECT count(*) = $partitions FROM clickstream.stat_partition WHERE stream = '$stream'");
	my $idle = settled_memory_of($pid);
	set_fault('decoded:pause');
	for my $p (0 .. $partitions - 1)
	{
		produce($broker, $stream, [ map { qq(v$p\t{"user_id":"v$p","event_type":"view","event_time":"2025-06-01T00:00:00Z","pad":"$padding"}) } 1 .. $messages ],
			partition => $p);
	}
	my $paused = wait_at('decoded');
	my $full = settled_memory_of($pid);
	set_fault('before_begin:pause');
	unlink $paused;
	$paused = wait_at('before_begin');
	my $twice = settled_memory_of($pid);
	query('ALTER SYSTEM RESET clickstream.fault; SELECT pg_reload_conf()');
	unlink $paused;
	wait_for($node, $stream);
	is(query("SELECT sum(event_count), count(*) FROM clickstream.open_sessions('${stream}_sessions')"), $partitions * $messages . "|$partitions",
		"$stream: each message was read");
	is(worker_of($node, $stream), $pid, "$stream: by one process");
	query("SELECT clickstream.stop('$stream')");
	note "figure: topic of $topic kB, queue_memory $queue kB: worker's own memory $idle kB, with a full queue $full kB, with messages in hand and a full queue $twice kB";
	return ($idle, $full, $twice);
}


# Of its own, too, a worker takes some MB with its first chunk, whatever the queue.
my $queue = 2048;
my $own = 6 * 1024;
my ($idle, $full, $twice) = read_with('small', $queue);
# In hand there may be as much as the queue held already the first time: that depends on how soon the worker looks.
cmp_ok($full - $idle, '<', 3 * $queue + $own, 'a full queue takes what it may, and the answer to one fetch');
cmp_ok($twice - $idle, '<', 3 * $queue + $own, 'and so it does with what it held in hand');

($idle, $full, $twice) = read_with('large', 4 * $topic);
cmp_ok($full - $idle, '>', 0.6 * $topic, 'a queue with room for it takes the whole topic');

$node->stop;
done_testing();
