# The life of workers: they start by themselves, end when they shall, get out
# of the way of DDL, and one that fails harms no other.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main',
	'restart_after_crash = on',
	'wal_level = replica',
	'max_wal_senders = 4',
	"clickstream.commit_interval = '50ms'",
	"clickstream.restart_delay = '100ms'");

sub query { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

# State of a stream, waited for.
sub is_state
{
	my ($stream, $state, $database) = @_;
	my $is = "SELECT state = '$state' FROM clickstream.stat_stream WHERE stream = '$stream'";
	my $done = eval { wait_until($node, $is, $database); 1 };

	ok($done, "stream $stream is $state");
	diag(query('SELECT row_to_json(s) FROM clickstream.stat_stream s', $database)) unless $done;
}

sub pid_of { return worker_of($node, $_[0]) }

my $hour = 0;

# One event of its own hour into the local topic.
sub produce_one
{
	my ($stream, $database) = @_;
	my $time = sprintf '2026-01-%02dT%02d:00:00Z', 1 + int($hour / 24), $hour % 24;

	$hour++;
	query(qq(SELECT clickstream.produce('$stream', '{"event_type": "page_view", "user_id": "u", "event_time": "$time"}')),
		$database);
}

# Rows of next_offset, which is how many messages were committed.
sub position
{
	my ($stream, $database) = @_;
	return query("SELECT coalesce(sum(next_offset), 0) FROM clickstream.stat_partition WHERE stream = '$stream'", $database);
}

sub make_stream
{
	my ($stream, $database) = @_;

	query("SELECT clickstream.create_stream('$stream')", $database);
	query("SELECT clickstream.create_window('${stream}_views', stream => '$stream', size => '1 hour', measures => 'count(*) AS views')",
		$database);
}

# ---- starting, waking, stopping

make_stream($_) for qw(web broken);
is_state('web', 'stopped');
query("BEGIN; SELECT clickstream.start('web'); ROLLBACK");
is_state('web', 'stopped');
query("SELECT clickstream.start('web')");
is_state('web', 'running');
produce_one('web');
wait_for($node, 'web');
is(position('web'), 1, 'produce() wakes the worker');

query('BEGIN; SAVEPOINT a; ' . "SELECT clickstream.stop('web'); ROLLBACK TO a; COMMIT");
is_state('web', 'running');

my ($code, $out, $err) = $node->psql('postgres', "CALL clickstream.process('web')");
like($err, qr/is run by a worker/, 'process() is refused while a worker runs the stream');
($code, $out, $err) = $node->psql('postgres', "BEGIN; CALL clickstream.process('broken')");
like($err, qr/cannot run inside a transaction block/, 'process() is refused in a transaction block');

query("SELECT clickstream.stop('web')");
is_state('web', 'stopped');
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'clickstream stream'");
produce_one('web');
($code, $out, $err) = $node->psql('postgres', "CALL clickstream.wait_for('web', '200 milliseconds')");
like($err, qr/timeout while waiting for stream "web".*1 messages? behind.*stopped/s, 'wait_for() gives up and says why');
query("SELECT clickstream.start('web')");
wait_for($node, 'web');
is(position('web'), 2, 'what was produced meanwhile is read after start()');

# ---- reload, death, restart

my $pid = pid_of('web');
query("ALTER SYSTEM SET clickstream.commit_interval = '20ms'");
$node->reload;
produce_one('web');
wait_for($node, 'web');
is(pid_of('web'), $pid, 'a reload does not end the worker');

query("SELECT pg_terminate_backend($pid)");
wait_until($node, "SELECT pid <> $pid FROM clickstream.stat_stream WHERE stream = 'web'");
produce_one('web');
wait_for($node, 'web');
is(position('web'), 4, 'a worker that was terminated comes back');

query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'clickstream launcher'");
wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'clickstream launcher'");
is_state('web', 'running');

$pid = pid_of('web');
kill 'KILL', $pid;
wait_until($node, "SELECT pid <> $pid FROM clickstream.stat_stream WHERE stream = 'web'");
is_state('web', 'running');
produce_one('web');
wait_for($node, 'web');
is(position('web'), 5, 'after a crash of the server the stream goes on');

$node->restart;
is_state('web', 'running');
produce_one('web');
wait_for($node, 'web');
is(position('web'), 6, 'after a restart of the server the stream goes on');

# ---- a stream that fails

query("SELECT clickstream.start('broken')");
query('ALTER TABLE broken_views DROP COLUMN views CASCADE');
produce_one('broken');
is_state('broken', 'failed');
like(query("SELECT last_error FROM clickstream.stat_stream WHERE stream = 'broken'"), qr/views/, 'its reason is shown');
query('CREATE ROLE visitor; GRANT USAGE ON SCHEMA clickstream TO visitor');
is(query("SET ROLE visitor; SELECT last_error IS NULL FROM clickstream.stat_stream WHERE stream = 'broken'"),
	't', 'but not to everybody');
($code, $out, $err) = $node->psql('postgres', "CALL clickstream.wait_for('broken')");
like($err, qr/stream "broken" has failed.*views/s, 'wait_for() does not wait for a stream that failed');
produce_one('web');
wait_for($node, 'web');
is(position('web'), 7, 'the other stream goes on');
query('ALTER TABLE broken_views ADD COLUMN views bigint');
query("SELECT clickstream.start('broken')");
wait_for($node, 'broken');
is_state('broken', 'running');

# ---- what the watermark closes in many parts is waited for, too

query('ALTER SYSTEM SET clickstream.force_closings = 1');
$node->reload;
query(<<~'END');
	SELECT clickstream.create_stream('parts');
	SELECT clickstream.create_session('part_visits', stream => 'parts', gap => '1 minute');
	SELECT count(clickstream.produce('parts', json_build_object('user_id', 'u' || i, 'event_time', '2026-01-01T00:00:00Z')::text)) FROM generate_series(1, 1000) AS i;
	SELECT clickstream.produce('parts', '{"user_id": "last", "event_time": "2026-01-01T01:00:00Z"}');
	SELECT clickstream.start('parts');
	END
wait_for($node, 'parts');
is(query('SELECT count(*) FROM part_visits'), 1000, 'wait_for() returns when all is closed that the watermark has passed');
query('ALTER SYSTEM RESET clickstream.force_closings');
query("SELECT clickstream.drop_stream('parts')");
$node->reload;

# ---- DDL while they run

query("BEGIN; SELECT clickstream.drop_stream('broken'); ROLLBACK");
is_state('broken', 'running');
query("SELECT clickstream.drop_stream('broken')");
is(query("SELECT count(*) FROM clickstream.stat_stream WHERE stream = 'broken'"), '0', 'a running stream can be dropped');
wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'clickstream stream'");

query('CREATE DATABASE shop');
query('CREATE EXTENSION clickstream', 'shop');
make_stream('shop', 'shop');
query("SELECT clickstream.start('shop')", 'shop');
is_state('shop', 'running', 'shop');
alone($node, 'CREATE DATABASE shop_copy TEMPLATE shop');
is_state('shop', 'running', 'shop');
is_state('shop', 'stopped', 'shop_copy');
alone($node, 'ALTER DATABASE shop RENAME TO store');
is_state('shop', 'running', 'store');
produce_one('shop', 'store');
wait_for($node, 'shop', 'store');
is(position('shop', 'store'), 1, 'a renamed database goes on');
alone($node, 'DROP DATABASE store');
is_soon($node, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'clickstream stream' AND datname = 'store'), 0,
	'a database can be dropped while its stream runs');
query("SELECT clickstream.start('shop')", 'shop_copy');
is_state('shop', 'running', 'shop_copy');
query('BEGIN; DROP EXTENSION clickstream CASCADE; ROLLBACK', 'shop_copy');
is_state('shop', 'running', 'shop_copy');
query('DROP EXTENSION clickstream CASCADE', 'shop_copy');
wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'shop_copy'");
alone($node, 'DROP DATABASE shop_copy');
is_state('web', 'running');

# ---- a standby runs nothing until it is promoted

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup('standby', 'replay', $node->lsn('insert'));
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'clickstream%'"),
	'0', 'nothing runs on a standby');
is($standby->safe_psql('postgres', 'SELECT state FROM clickstream.stat_stream'),
	'stopped', 'and its views say so');
$node->stop;
$standby->promote;
wait_until($standby, "SELECT state = 'running' FROM clickstream.stat_stream");
$standby->safe_psql('postgres',
	q(SELECT clickstream.produce('web', '{"event_type": "page_view", "user_id": "u", "event_time": "2026-02-01T00:00:00Z"}')));
wait_for($standby, 'web');
is($standby->safe_psql('postgres', 'SELECT sum(next_offset) FROM clickstream.stat_partition'),
	'8', 'after promotion the stream goes on by itself');
$standby->stop;

done_testing();
