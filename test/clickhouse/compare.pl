# Our answers to the questions of a file that answers.js wrote are ClickHouse's.
# CLICKSTREAM_CLICKHOUSE names the file.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main');
$node->safe_psql('postgres', 'CREATE SCHEMA test');
$node->command_ok(
	[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', "$ClickstreamTest::top/test/clickhouse/compare.sql" ],
	'compare.sql runs');
$node->safe_psql('postgres', "CALL test.clickhouse_file('$ENV{CLICKSTREAM_CLICKHOUSE}')");
for my $line (split /\n/,
	$node->safe_psql('postgres', q{SELECT concat_ws(' ', function, nullif(mode, '')), sum(groups), sum(differs), min(first)
		FROM test.clickhouse_result GROUP BY 1 ORDER BY 1}))
{
	my ($what, $groups, $differs, $first) = split /\|/, $line;

	is($differs, 0, "$what, $groups groups" . ($differs ? ": $first" : ''));
}
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT mode) FROM test.clickhouse_result'), '==', 24, 'every combination of modes was asked');
note('figure: ' . $node->safe_psql('postgres', 'SELECT sum(groups) FROM test.clickhouse_result') . ' answers compared');
done_testing();
