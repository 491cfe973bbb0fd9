# Logical replication of result tables to another server, without the extension
# there: rows that are inserted, changed and deleted arrive, while the stream
# runs and until it is finished.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use ClickstreamTest;

my @tables = qw(visits pages attempts metrics);
my $node = new_node('main', 'wal_level = logical', 'max_wal_senders = 4', 'max_replication_slots = 4',
	"clickstream.commit_interval = '20ms'");
my $other = PostgreSQL::Test::Cluster->new('other');
$other->init;
$other->start;

sub query { return $node->safe_psql('postgres', $_[0]) }

my $n = 0;

# Some come late, so that rows are revised, and sessions joined, which deletes rows.
sub produce_more
{
	my ($count) = @_;
	query(<<~END);
		SELECT count(clickstream.produce('web', json_build_object('user_id', 'u' || i % 5, 'event_type', (ARRAY['view', 'buy'])[1 + i % 2],
			'page_url', '/' || i % 7, 'event_time', '2025-03-01 12:00:00+00'::timestamptz
				+ i * interval '20 seconds' - CASE WHEN i % 9 = 0 THEN interval '9 minutes' ELSE '0' END)::text))
		FROM generate_series($n, $n + $count - 1) AS i
		END
	$n += $count;
}

query(<<~'END');
	SELECT clickstream.create_stream('web', idle_timeout => '1 hour');
	SELECT clickstream.create_session('visits', stream => 'web', gap => '70 seconds', allowed_lateness => '20 minutes', emit => 'changes', emit_interval => '0');
	SELECT clickstream.create_window('pages', stream => 'web', size => '5 minutes', group_by => 'page_url', allowed_lateness => '20 minutes',
		emit => 'changes', emit_interval => '0', measures => 'count(*) AS views, count(DISTINCT user_id) AS visitors');
	SELECT clickstream.create_funnel('attempts', stream => 'web', within => '3 minutes', emit => 'changes', steps => ARRAY[
		clickstream.step('view', $$event_type = 'view'$$), clickstream.step('buy', $$event_type = 'buy'$$)]);
	SELECT clickstream.create_rollup('metrics', source => 'visits', size => '5 minutes', emit_interval => '0',
		measures => 'count(*) AS visits, sum(event_count) AS events');
	CREATE PUBLICATION results FOR TABLE visits, pages, attempts, metrics;
	SELECT clickstream.start('web');
	END
produce_more(200);
wait_for($node, 'web');

my $dump = PostgreSQL::Test::Utils::tempdir() . '/tables';
$node->command_ok([ 'pg_dump', '--schema-only', '--no-publications', (map { ('-t', $_) } @tables), '-f', $dump, 'postgres' ], 'pg_dump of the tables');
$other->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'postgres', '-f', $dump ], 'made on a server without the extension');
my $connection = $node->connstr . ' dbname=postgres';
$other->safe_psql('postgres', "CREATE SUBSCRIPTION results CONNECTION '$connection' PUBLICATION results");
$other->wait_for_subscription_sync($node, 'results');

# Rows of open attempts are written again when emit_interval is over: then the two are looked at once more.
sub is_same_there
{
	my ($table, $name) = @_;
	my ($there, $here);

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$here = digest($node, $table);
		$node->wait_for_catchup('results');
		$there = digest($other, $table);
		last if $there eq $here;
		sleep 0.1;
	}
	is($there, $here, $name);
}

produce_more(600);
wait_for($node, 'web');
is_same_there($_, "$_: as it is while the stream runs") for @tables;
# Ten visitors with two sessions each, which are rows by now; what comes between makes them one.
sub produce_visits
{
	my (@seconds) = @_;
	query(<<~END);
		SELECT count(clickstream.produce('web', json_build_object('user_id', 'joins' || i, 'event_type', 'view', 'page_url', '/',
			'event_time', '2025-03-01 12:00:00+00'::timestamptz + $n * interval '20 seconds' + (s - 300) * interval '1 second')::text))
		FROM generate_series(1, 10) AS i, unnest(ARRAY[@{[ join ', ', @seconds ]}]) AS s
		END
	wait_for($node, 'web');
}

my $of_these = "SELECT count(*) FROM visits WHERE effective_user_id ~ '^joins'";
produce_visits(0, 120);
wait_until($node, "SELECT ($of_these) = 20");
produce_visits(60);
wait_until($node, "SELECT ($of_these) = 10");
produce_more(200);
wait_for($node, 'web');
query("CALL clickstream.finish('web')");
for my $table (@tables)
{
	isnt(query("SELECT count(*) FROM $table"), '0', "$table: has rows");
	is_same_there($table, "$table: as it is in the end");
}
# The worker says what it has done at the latest when it ends.
my $counts = q(FROM pg_stat_user_tables WHERE relname IN ('visits', 'pages', 'attempts', 'metrics'));
query("SELECT clickstream.stop('web')");
is_soon($node, "SELECT sum(n_tup_upd) > 50, sum(n_tup_del) >= 10 $counts", 't|t', 'rows were updated, and deleted');
note 'rows inserted, updated, deleted: ' . query("SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del) $counts");

$_->stop for $other, $node;
done_testing();
