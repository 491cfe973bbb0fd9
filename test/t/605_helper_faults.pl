# A decode worker that fails, ends or is killed at each step of its work: the
# work is done again, by another one or by the stream's worker, and the tables,
# ledger and dead letters are those of a stream that has none.  How often one
# was started again is in stat_stream; an error in one is the stream's error.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;
use ClickstreamSite;
use Time::HiRes qw(sleep);

my $seed = seed_of(605);

my $node = new_node('main',
	"clickstream.commit_interval = '20ms'",
	"clickstream.restart_delay = '50ms'",
	"max_worker_processes = 24",
	"restart_after_crash = on");
my $broker = start_broker(site => 4);
my $address = $broker->address;
my $n = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }

# Also while the server starts again.
sub query_at_last
{
	my ($sql) = @_;
	my $out;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($code, $answer) = ask($node, $sql);
		return $answer if $code == 0;
		sleep 0.1;
	}
	die "no answer to: $sql";
}

sub source { return "brokers => '$address', topic => 'site', start_from => 'earliest', decode_workers => $_[0]" }

sub produce_more
{
	produce_site($broker, 'site', site_events_from($n, 600, $seed));
	$n += 600;
}

sub set_fault
{
	my ($fault) = @_;

	query("ALTER SYSTEM SET clickstream.fault = '$fault'");
	query('SELECT pg_reload_conf()');
}

# Messages come until it happens: whoever is to meet it may not have the setting yet.
sub feed
{
	my ($point) = @_;

	for (1 .. $PostgreSQL::Test::Utils::timeout_default)
	{
		produce_more();
		for (1 .. 20)
		{
			return 1 if -e $node->data_dir . "/clickstream_fault.$point";
			sleep 0.1;
		}
	}
	return 0;
}

# All helpers are new ones.  The server may be killed by what they meet, and with it whoever asked for them.
sub reopen
{
	my ($stream) = @_;
	ask($node, "SELECT clickstream.alter_stream('$stream', decode_workers => 2)");
}

sub is_read
{
	my ($stream) = @_;
	wait_until($node, "SELECT sum(consumed) = $n FROM clickstream.audit('$stream')");
}

sub books
{
	my ($stream) = @_;
	return query_at_last(<<~END);
		SELECT partition, consumed, used, late, filtered, duplicate, dead, empty, skipped, balanced
		FROM clickstream.audit('$stream') ORDER BY topic, partition;
		SELECT count(*), md5(string_agg(d::text, E'\\n' ORDER BY d::text COLLATE "C")) FROM (
			SELECT topic, partition, message_offset, message_key, payload, headers, cause, error, sqlstate
			FROM clickstream.dead_letter WHERE stream = '$stream') AS d
		END
}

# "fatal" ends the process, "kill" all of the server's; an "error" or what there is too little of is the stream's error.
sub strike
{
	my ($point, $action, $stream) = @_;

	set_fault("$point:$action");
	reopen($stream) if $point eq 'feeder_opened';
	ok(feed($point), "$point:$action happens");
	if ($action eq 'fatal' || ($action eq 'error' && $point eq 'feeder_opened'))
	{
		wait_until($node, "SELECT decode_restarts > 0 AND decode_workers = 2 FROM clickstream.stat_stream WHERE stream = '$stream'");
		pass("$point:$action: it was started again, and that is shown");
	}
	elsif ($action eq 'error')
	{
		wait_until($node, "SELECT last_error LIKE 'injected error at $point%' FROM clickstream.stat_stream WHERE stream = '$stream'");
		pass("$point:$action: it is the stream's error");
	}
	is_read($stream);
	wait_until($node, "SELECT decode_workers = 2 AND decode_problem IS NULL FROM clickstream.stat_stream WHERE stream = '$stream'");
	query_at_last("ALTER SYSTEM RESET clickstream.fault");
	query_at_last('SELECT pg_reload_conf()');
	unlink $node->data_dir . "/clickstream_fault.$point";
	is_read('calm');
	is(books($stream), books('calm'), "$point:$action: the ledger and dead letters are the same");
}

create_site($node, 'calm', 'calm', source(0));
create_site($node, 'hurt', 'hurt', source(2));
produce_more();    # a partition that has never spoken holds no watermark back: all have, before anybody reads
query("SELECT clickstream.start('calm'), clickstream.start('hurt')");
wait_until($node, q(SELECT decode_workers = 2 AND decode_problem IS NULL FROM clickstream.stat_stream WHERE stream = 'hurt'));

my @points = grep { /^feeder_/ } slurp_file("$ClickstreamTest::top/src/core/fault.h") =~ /^\tF\([A-Z_]+, "(\w+)"\)/mg;
is(scalar @points, 4, 'the list of points was read');
for my $point (@points)
{
	strike($point, $_, 'hurt') for qw(error fatal kill);
}

for my $stream (qw(calm hurt))
{
	is_read($stream);
	query("CALL clickstream.finish('$stream')");
	query("SELECT clickstream.stop('$stream')");
}
same_site($node, 'hurt', 'calm', 'nothing is lost or doubled');
is(books('hurt'), books('calm'), 'and the ledger is the same');
$node->stop;
done_testing();
