# History from the topic in a worker that goes on after an error: in the batch in which it began, and with
# messages in hand that no position has passed yet.  Each message is in it once, and it counts from where it began.
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
	query("SELECT clickstream.stop('s')");
	wait_until($node, "SELECT pid IS NULL FROM clickstream.stat_stream WHERE stream = 's'");
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

	stop_stream();
	query("ALTER SYSTEM SET clickstream.fault = '$fault'");
	query("SELECT pg_reload_conf()");
	query("SELECT clickstream.create_window('$point', stream => 's', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n', backfill => true)");
	query("SELECT clickstream.start('s')");
	wait_until($node, "SELECT NOT EXISTS (SELECT FROM clickstream.stat_progress)");
	ok(-e $announced, "$fault: it has failed");
	is(query("SELECT count(*), min(n), max(n) FROM ${point}_live"), '300|1|1', 'each message is in it once');
	is(query("SELECT since_offset, used FROM clickstream.stat_definition_partition WHERE definition = '$point'::regclass"), '0|300', 'it counts from the first on');
}
is(query("SELECT bool_and(balanced) FROM clickstream.audit('s')"), 't', 'all is accounted for');
$node->stop;
done_testing();
