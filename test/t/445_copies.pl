# Copies of a database made while its stream runs: by pg_dump and pg_restore,
# as a whole, in parallel and without data, and as a template.  A copy holds
# the state of one commit, starts stopped and says so, and when it is started
# reads the rest of the topic: the tables are those of the source, which went
# on all the time.  And a database that is renamed and moved meanwhile.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;
use ClickstreamSite;

my $seed = seed_of(445);

my $part = 3_000;
my $parts = 3;
my $broker = start_broker(web => 4);
my $address = $broker->address;
my @events = @{ site_events($parts * $part, $seed) };
my $node = new_node('main',
	"clickstream.commit_interval = '20ms'",
	"clickstream.restart_delay = '50ms'",
	"clickstream.batch_messages = 200",
	"clickstream.state_log_size = '256kB'");
my $dumps = PostgreSQL::Test::Utils::tempdir();

sub query { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

sub produce_part
{
	produce_site($broker, 'web', [ splice @events, 0, $part ]);
}

# What the tables of a database say when all of the topic is in them.
sub outcome
{
	my ($database) = @_;
	return join "\n", query('SELECT sum(consumed), sum(used), sum(filtered), sum(dead), bool_and(balanced) FROM clickstream.audit($$shop$$)',
		$database), map { query(<<~END, $database) } qw(sessions pages rolling funnel metrics);
			SELECT '$_', count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE "C"))
			FROM (SELECT (to_jsonb(t) - 'revision')::text FROM s_$_ AS t) AS t
			END
}

sub is_stopped_copy
{
	my ($database) = @_;

	is(query("SELECT state FROM clickstream.stat_stream", $database), 'stopped', "$database: starts stopped");
	like(query('SELECT problem FROM clickstream.stat_stream', $database), qr/copied or restored.*clickstream\.start\(\)/,
		"$database: and says why");
	is(query('SELECT clickstream.start($$shop$$)', $database), '', "$database: can be started");
}

sub run_out
{
	my ($database) = @_;
	wait_for($node, 'shop', $database);
	query("CALL clickstream.finish('shop')", $database);
}

# ---- the source runs, in mid-stream, all the time

query('CREATE DATABASE shop');
query('CREATE EXTENSION clickstream', 'shop');
$ENV{PGDATABASE} = 'shop';
query(<<~END, 'shop');
	SELECT clickstream.create_stream('shop', idle_timeout => '1 hour', filter => \$\$event_type <> 'ping'\$\$,
		brokers => '$address', topic => 'web', start_from => 'earliest');
	SELECT clickstream.create_session('s_sessions', stream => 'shop', gap => '30 seconds', emit => 'changes');
	SELECT clickstream.create_window('s_pages', stream => 'shop', size => '1 minute', group_by => 'page_url',
		measures => 'count(*) AS views, count(DISTINCT effective_user_id) AS visitors');
	SELECT clickstream.create_window('s_rolling', stream => 'shop', size => '5 minutes', slide => '1 minute', group_by => 'device_type',
		measures => 'count(*) AS events, count(DISTINCT effective_user_id) AS visitors, first(page_url) AS first_page');
	SELECT clickstream.create_funnel('s_funnel', stream => 'shop', within => '10 minutes', key => 'user_id', steps => ARRAY[
		clickstream.step('view', \$\$event_type = 'page_view'\$\$), clickstream.step('buy', \$\$event_type = 'purchase'\$\$)]);
	SELECT clickstream.create_rollup('s_metrics', source => 's_sessions', size => '1 minute',
		measures => 'count(*) AS sessions, sum(event_count) AS events');
	END
produce_part();    # before it starts: a partition that never had a message holds back no other
query("SELECT clickstream.start('shop')", 'shop');
wait_for($node, 'shop', 'shop');
produce_part();    # it works on this while it is dumped

$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dumps/whole", 'shop' ], 'pg_dump while the stream runs');
$node->command_ok([ 'pg_dump', '-Fd', '-j', '3', '-f', "$dumps/parallel", 'shop' ], 'pg_dump, parallel');
$node->command_ok([ 'pg_dump', '--schema-only', '-f', "$dumps/schema", 'shop' ], 'pg_dump without data');
$node->command_ok([ 'pg_dump', '-Fp', '-f', "$dumps/plain", 'shop' ], 'pg_dump as SQL');
is_soon($node, 'SELECT state FROM clickstream.stat_stream', 'running', 'the source runs on', 'shop');

query("CREATE DATABASE $_") for qw(whole parallel schema plain);
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'whole', "$dumps/whole" ], 'pg_restore');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-j', '3', '-d', 'parallel', "$dumps/parallel" ], 'pg_restore, parallel');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'plain', '-f', "$dumps/plain" ], 'restored by psql');
alone($node, 'CREATE DATABASE template_copy TEMPLATE shop');
is_soon($node, 'SELECT state FROM clickstream.stat_stream', 'running', 'after it was a template the source runs again', 'shop');

# ---- the source moves

my $directory = PostgreSQL::Test::Utils::tempdir();
query("CREATE TABLESPACE elsewhere LOCATION '$directory'");
alone($node, 'ALTER DATABASE shop SET TABLESPACE elsewhere');
alone($node, 'ALTER DATABASE shop RENAME TO store');
produce_part();
run_out('store');
my $expected = outcome('store');
like($expected, qr/^${\($parts * $part)}\|.*\|t\n/, 'the source has read all, renamed and in another tablespace');

for my $copy (qw(whole parallel plain template_copy))
{
	is_stopped_copy($copy);
	run_out($copy);
	is(outcome($copy), $expected, "$copy: the tables are those of the source");
}

# ---- without data: tables of no stream

$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'schema', '-f', "$dumps/schema" ], 'restored without data');
is(query('SELECT count(*) FROM clickstream.stat_stream', 'schema'), '0', 'without data there is no stream');
is(query('SELECT count(*) FROM s_sessions', 'schema'), '0', 'but the empty result tables');
query(<<~END, 'schema');
	SELECT clickstream.create_stream('shop', filter => \$\$event_type <> 'ping'\$\$, brokers => '$address', topic => 'web', start_from => 'earliest');
	SELECT clickstream.create_window('s_pages', stream => 'shop', size => '1 minute', group_by => 'page_url',
		measures => 'count(*) AS views, count(DISTINCT effective_user_id) AS visitors');
	SELECT clickstream.start('shop');
	END
run_out('schema');
is(query(q(SELECT count(*), sum(views) FROM s_pages), 'schema'), query('SELECT count(*), sum(views) FROM s_pages', 'store'),
	'a definition takes its table again');

$node->stop;
done_testing();
