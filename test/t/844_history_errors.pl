# History from the topic in a worker that goes on after an error: in the batch in which it began, and with
# messages in hand that no position has passed yet.  Each message is in it once, and it counts from where it began.
# And where an offset is not there, and the broker does not say why: history waits for it, the stream does not fail.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '10ms'",
	'clickstream.batch_messages = 10'); # of history forty messages at once

sub query { return $node->safe_psql('postgres', $_[0]) }

sub stop_stream
{
	my ($stream) = @_;

	query("SELECT clickstream.stop('$stream')");
	wait_until($node, "SELECT pid IS NULL FROM clickstream.stat_stream WHERE stream = '$stream'");
}

# A session that sees it was forked after the server had told the workers.
sub set_fault
{
	my ($fault) = @_;

	query("ALTER SYSTEM SET clickstream.fault = '$fault'");
	query("SELECT pg_reload_conf()");
	wait_until($node, "SELECT current_setting('clickstream.fault') = '$fault'");
}

query(<<~'END');
	SELECT clickstream.create_stream('s', watermark_delay => '1 hour');
	SELECT clickstream.create_window('hours', stream => 's', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n');
	SELECT count(clickstream.produce('s', format('{"user_id": "u%s", "event_time": "2025-06-01T12:00:00Z"}', i))) FROM generate_series(1, 300) i;
	SELECT clickstream.start('s');
	END
wait_for($node, 's');

# the first piece is applied when it fails; the second one has been delivered, and nothing else has happened in its batch
for my $fault (qw(applied:error:1 history:error:2))
{
	my ($point) = $fault =~ /^(\w+)/;
	my $announced = $node->data_dir . "/clickstream_fault.$point";

	stop_stream('s');
	set_fault($fault);
	query("SELECT clickstream.create_window('$point', stream => 's', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n', backfill => true)");
	query("SELECT clickstream.start('s')");
	wait_until($node, "SELECT NOT EXISTS (SELECT FROM clickstream.stat_progress)");
	ok(-e $announced, "$fault: it has failed");
	is(query("SELECT count(*), min(n), max(n) FROM ${point}_live"), '300|1|1', 'each message is in it once');
	is(query("SELECT since_offset, used FROM clickstream.stat_definition_partition WHERE definition = '$point'::regclass"), '0|300', 'it counts from the first on');
}
is(query("SELECT bool_and(balanced) FROM clickstream.audit('s')"), 't', 'all is accounted for');
stop_stream('s');

# ---- a broker that is asked where a partition begins, and is silent

my $broker = start_broker(web => 1);
my $address = $broker->address;
my $announced = $node->data_dir . '/clickstream_fault.history';
END { kill 'CONT', $broker->{pid} if $broker && $broker->{pid} } # or nobody could end it

sub wait_for_fault
{
	wait_until($node, "SELECT EXISTS (SELECT FROM pg_ls_dir('.') f WHERE f = 'clickstream_fault.history')");
}

sub go_on { unlink $announced or die "$announced: $!" }

produce($broker, 'web', [ map { qq(k\t{"user_id": "u$_", "event_time": "2025-06-01T12:00:00Z"}) } 1 .. 300 ]);
query(<<~END);
	SELECT clickstream.create_stream('k', brokers => '$address', topic => 'web', start_from => 'earliest', watermark_delay => '1 hour');
	SELECT clickstream.create_window('k_hours', stream => 'k', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n');
	SELECT clickstream.start('k');
	END
wait_for($node, 'k');
stop_stream('k');
go_on(); # what the last fault has left
set_fault('history:pause:2');
query("SELECT clickstream.create_window('silent', stream => 'k', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n', backfill => true)");
query("SELECT clickstream.start('k')");
wait_for_fault();
kill 'STOP', $broker->{pid};
my $offset = -s $node->logfile;
set_fault('history:miss:0');
go_on();
# it has gone on after the first one, and after the second
wait_until($node, "SELECT 2 < count(*) FROM regexp_matches(pg_read_file('" . $node->logfile . "', $offset, 100000000), 'fault: history:miss:0 in pro[c]ess', 'g')");
set_fault('history:pause:1');
wait_for_fault();
kill 'CONT', $broker->{pid};
set_fault('');
go_on();
wait_until($node, "SELECT NOT EXISTS (SELECT FROM clickstream.stat_progress)");
is(query("SELECT count(*), min(n), max(n) FROM silent_live"), '300|1|1', 'when it speaks again, each message is in it once');
unlike(slurp_file($node->logfile, $offset), qr/injected lost offset/, 'nothing has failed');
$node->stop;
done_testing();
