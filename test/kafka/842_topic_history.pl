# History from the topic of a real broker: what retention has deleted is said; compaction and transactions leave
# offsets without a message, and history ends where the stream stands all the same.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main', "clickstream.commit_interval = '50ms'", 'max_worker_processes = 30');
my $kafka = start_kafka(short => 1, transactions => 2);
my $address = $kafka->address;

sub query { return $node->safe_psql('postgres', $_[0]) }

sub lines
{
	my ($n, $key) = @_;
	return [ map { qq($key$_\t{"event_type": "page_view", "user_id": "$key$_", "event_time": "2025-06-01T12:00:00Z"}) } 1 .. $n ];
}

sub make_stream
{
	my ($stream) = @_;
	query(<<~END);
		SELECT clickstream.create_stream('$stream', brokers => '$address', topic => '$stream', start_from => 'earliest');
		SELECT clickstream.create_window('${stream}_hours', stream => '$stream', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n');
		SELECT clickstream.start('$stream');
		END
	wait_for($node, $stream);
}

sub fill
{
	my ($stream) = @_;
	query("SELECT clickstream.create_window('${stream}_again', stream => '$stream', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n', backfill => true)");
	wait_until($node, "SELECT NOT EXISTS (SELECT FROM clickstream.stat_progress)");
}

# ---- what retention has deleted

produce($kafka, 'short', lines(20, 'a'));
make_stream('short');
$kafka->trim_topic('short', 0, 15);
fill('short');
is(query("SELECT count(*), sum(n) FROM short_again_live"), '5|5', 'history has what the topic has');
is(query("SELECT since_offset, used FROM clickstream.stat_definition_partition WHERE definition = 'short_again'::regclass"), '15|5', 'and says from where on');
like(slurp_file($node->logfile), qr/history of "public\.short_again" lacks 15 messages of topic "short", partition 0/, 'so does the log');

# ---- offsets without a message: marks of transactions, and what they have aborted

produce($kafka, 'transactions', lines(30, $_), kcat => [ '-X', 'transactional.id=t' ]) for qw(a b c);
make_stream('transactions');
cmp_ok(query("SELECT sum(skipped) FROM clickstream.audit('transactions')"), '>', 0, 'there are such offsets');
fill('transactions');
is(query("SELECT count(*), sum(n), max(n) FROM transactions_again_live"), '90|90|1', 'each message is in it once');
produce($kafka, 'transactions', lines(30, 'd'), kcat => [ '-X', 'transactional.id=t' ]);
wait_for($node, 'transactions');
is(query("SELECT count(*) FROM (TABLE transactions_hours_live EXCEPT TABLE transactions_again_live) AS d"), '0', 'and so are those that come later');
is(query("SELECT bool_and(balanced) FROM clickstream.audit('transactions')"), 't', 'all is accounted for');
$node->stop;
done_testing();
