# History from the topic of a real broker: what retention has deleted is said; compaction and transactions leave
# offsets without a message, and history ends where the stream stands all the same.  So it does where a topic of a
# pattern goes, before history has begun or in the middle of it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main', "clickstream.commit_interval = '50ms'", 'max_worker_processes = 30',
	"clickstream.metadata_refresh_interval = '200ms'", "clickstream.restart_delay = '50ms'");
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
	my ($stream, $topic) = @_;
	$topic //= $stream;
	query(<<~END);
		SELECT clickstream.create_stream('$stream', brokers => '$address', topic => '$topic', start_from => 'earliest');
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

# ---- topics of a pattern that go: in the middle of history, and before it

$kafka->create_topic($_, 1) for qw(go.one go.two);
produce($kafka, 'go.one', lines(40, 'one'));
produce($kafka, 'go.two', lines(40, 'two'));
make_stream('go', '^go[.]');
query("ALTER SYSTEM SET clickstream.batch_messages = 1"); # of history four messages at once
query("ALTER SYSTEM SET clickstream.fault = 'applied:pause:2'");
query("SELECT clickstream.stop('go')");
wait_until($node, "SELECT pid IS NULL FROM clickstream.stat_stream WHERE stream = 'go'");
query("SELECT pg_reload_conf()");
query("SELECT clickstream.create_window('go_again', stream => 'go', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n', backfill => true)");
query("SELECT clickstream.start('go')");
wait_until($node, "SELECT EXISTS (SELECT FROM pg_ls_dir('.') f WHERE f = 'clickstream_fault.applied')");
$kafka->delete_topic('go[.]one');
$node->stop('immediate'); # the file stays: it does not pause again
$node->start;
wait_until($node, "SELECT NOT EXISTS (SELECT FROM clickstream.stat_progress)");
is(query("SELECT count(*), max(n) FROM go_again_live WHERE user_id LIKE 'two%'"), '40|1', 'of the topic that is there all');
my ($lacks) = slurp_file($node->logfile) =~ /history of "public\.go_again" lacks (\d+) messages of topic "go\.one", partition 0\n.*DETAIL:  The topic is gone\./;
is(query("SELECT count(*) + $lacks FROM go_again_live WHERE user_id LIKE 'one%'"), '40', 'what is missing of the other is said');
query("SELECT clickstream.create_window('go_later', stream => 'go', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n', backfill => true)");
wait_until($node, "SELECT NOT EXISTS (SELECT FROM clickstream.stat_progress)");
is(query("SELECT count(*), max(n) FROM go_later_live"), '40|1', 'the same where it was gone before');
like(slurp_file($node->logfile), qr/history of "public\.go_later" lacks 40 messages of topic "go\.one", partition 0/, 'and says so');
produce($kafka, 'go.two', lines(5, 'new'));
wait_for($node, 'go');
is(query("SELECT count(*) FROM go_later_live WHERE user_id LIKE 'new%'"), '5', 'it goes on');
is(query("SELECT bool_and(balanced) FROM clickstream.audit('go')"), 't', 'all is accounted for');
$node->stop;
done_testing();
