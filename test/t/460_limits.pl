# Too many streams, settings that change, streams started and stopped quickly,
# an update of the extension under a running worker, and a server that did not
# load the library.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main',
	'clickstream.max_workers = 2',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '20ms'");
my $hour = 0;

sub query { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

sub make
{
	my ($stream, $database) = @_;
	query(<<~END, $database);
		SELECT clickstream.create_stream('$stream');
		SELECT clickstream.create_window('${stream}_views', stream => '$stream', size => '1 hour', emit => 'changes', measures => 'count(*) AS n');
		END
}

sub produce_one
{
	my ($stream, $database) = @_;
	query(sprintf(q(SELECT clickstream.produce('%s', '{"user_id": "u", "event_time": "2025-03-%02dT%02d:00:00Z"}')),
		$stream, 1 + int($hour / 24), $hour % 24), $database);
	$hour++;
}

sub wait_for_state
{
	my ($stream, $state, $database) = @_;
	my $is = "SELECT state = '$state' FROM clickstream.stat_stream WHERE stream = '$stream'";

	ok(eval { wait_until($node, $is, $database); 1 }, "$stream: $state")
	  or diag(column($stream, 'row_to_json(stat_stream)', $database));
}

sub column { return query("SELECT $_[1] FROM clickstream.stat_stream WHERE stream = '$_[0]'", $_[2]) }

# ---- more streams than workers, in two databases

query('CREATE DATABASE other');
query('CREATE EXTENSION clickstream', 'other');
make($_) for qw(one two three);
make('four', 'other');
query("SELECT clickstream.start('$_')") for qw(one two);
wait_for_state($_, 'running') for qw(one two);
query("SELECT clickstream.start('three')");
query("SELECT clickstream.start('four')", 'other');
wait_for_state('three', 'no worker slot');
wait_for_state('four', 'no worker slot', 'other');
is_soon($node, "SELECT problem ~ 'clickstream\\.max_workers' FROM clickstream.stat_stream WHERE stream = 'three'", 't', 'it says which limit that is');
produce_one('three');
produce_one('four', 'other');
my $log = slurp_file($node->logfile);
my $starts = () = $log =~ /background worker "clickstream stream"/g;
is($starts, 0, 'nothing is started in vain');
query("SELECT clickstream.stop('one')");
query("SELECT clickstream.stop('two')");
wait_for_state('three', 'running');
wait_for_state('four', 'running', 'other');
wait_for($node, 'three');
is(query('SELECT sum(n) FROM three_views'), 1, 'with a worker it runs');
wait_for($node, 'four', 'other');
is_soon($node, "SELECT problem IS NULL FROM clickstream.stat_stream WHERE stream = 'three'", 't', 'and has no problem any more');
is(query("SELECT clickstream.stop('three')"), '', 'stopped');
query("SELECT clickstream.stop('four')", 'other');

# ---- stopped and started quickly

make('quick');
for my $round (1 .. 40)
{
	produce_one('quick') if $round % 4 == 0;
	query('SELECT clickstream.' . ($round % 2 ? 'start' : 'stop') . "('quick')");
}
query("SELECT clickstream.start('quick')");
wait_for($node, 'quick');
wait_for_state('quick', 'running');
is(query('SELECT sum(n) FROM quick_views'), 10, 'after 40 starts and stops each event was counted once');
# One that has been told to end may still be ending.
is_soon($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'clickstream stream' AND application_name = 'clickstream: quick'",
	1, 'by one worker');

# ---- settings that a reload changes

my $pid = column('quick', 'pid');
for my $setting (split /\n/, query(<<~'END'))
	SELECT name || '=' || CASE WHEN vartype = 'string' THEN '/tmp' WHEN setting::numeric > min_val::numeric THEN (setting::numeric - 1)::text ELSE (setting::numeric + 1)::text END
	FROM pg_settings WHERE name LIKE 'clickstream.%' AND context IN ('sighup', 'superuser')
		AND name NOT IN ('clickstream.mock_clock', 'clickstream.mutant', 'clickstream.fault', 'clickstream.force_spill', 'clickstream.force_closings') AND vartype IN ('integer', 'string')
	END
{
	my ($name, $value) = split /=/, $setting;

	query("ALTER SYSTEM SET $name = '$value'");
	$node->reload;
	produce_one('quick');
	wait_for($node, 'quick');
	is(column('quick', 'pid'), $pid, "$name: the same worker goes on with another value");
	query("ALTER SYSTEM RESET $name");
}
$node->reload;

# ---- ALTER EXTENSION UPDATE while it runs

my $script = $node->config_data('--sharedir') . '/extension/clickstream--1.0--1.0.1.sql';
open my $out, '>', $script or die "could not write $script: $!";
print $out <<~'END';
	ALTER TABLE clickstream.stream ADD COLUMN of_the_test integer DEFAULT 7;
	CREATE FUNCTION clickstream.of_the_test() RETURNS integer LANGUAGE sql RETURN 1;
	END
close $out;
produce_one('quick');
query("ALTER EXTENSION clickstream UPDATE TO '1.0.1'");
unlink $script;
produce_one('quick');
wait_for($node, 'quick');
wait_for_state('quick', 'running');
is(query('SELECT sum(n) = (SELECT sum(next_offset) FROM clickstream.stat_partition WHERE stream = $$quick$$) FROM quick_views'), 't',
	'an update of the extension under a running worker loses nothing');
is(query("SELECT extversion || clickstream.of_the_test() FROM pg_extension WHERE extname = 'clickstream'"), '1.0.11', 'and is done');

# ---- no room among the server's own worker processes

$node->append_conf('postgresql.conf', "max_worker_processes = 3\nclickstream.max_workers = 8\nmax_logical_replication_workers = 0");
$node->restart;
# One is the launcher's, so two streams can run.
query("SELECT clickstream.start('$_')") for qw(one two);
wait_until($node, q(SELECT count(*) FILTER (WHERE state = 'running') = 2 AND count(*) FILTER (WHERE state = 'no worker slot') = 1
	FROM clickstream.stat_stream));
is_soon($node, q(SELECT count(*) FROM clickstream.stat_stream WHERE state = 'no worker slot' AND problem LIKE '%max_worker_processes%'), 1,
	'it says which limit that is');
# The launcher tries again whenever it wakes up, and start() wakes it; what is shown must not flicker meanwhile.
my $shown = join '', map { (split /\n/, query(<<~'END'))[-1] } 1 .. 20;
	SELECT clickstream.start('one');
	SELECT count(*) FROM clickstream.stat_stream WHERE state = 'no worker slot' AND problem LIKE '%max_worker_processes%';
	END
is($shown, '1' x 20, 'and goes on saying so while the launcher tries again');
my $running = query("SELECT stream FROM clickstream.stat_stream WHERE state = 'running' LIMIT 1");
my $waiting = query("SELECT stream FROM clickstream.stat_stream WHERE state = 'no worker slot'");
query("SELECT clickstream.stop('$running')");
wait_for_state($waiting, 'running');

# ---- a server that did not load the library

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
like(($node->psql('postgres', "SELECT clickstream.start('one')"))[2], qr/not loaded when the server started.*shared_preload_libraries/s,
	'without preloading start() says what to do');
is(column('one', 'state'), 'stopped', 'nothing runs');
produce_one('one');
query("CALL clickstream.process('one')");
cmp_ok(query('SELECT sum(n) FROM one_views'), '>', 0, 'but process() does');

$node->stop;
done_testing();
