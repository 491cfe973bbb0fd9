# pg_upgrade of a server in mid-stream, with state that memory had no room for:
# the stream goes on by itself on the new one, and ends with the tables of a run that nothing happened to.  OLD_BIN is
# the directory of the older server's programs; the newer one's come first in
# PATH.  test/versions.sh runs it where both are.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = PostgreSQL::Test::Cluster->new('old', install_path => $ENV{OLD_BIN} =~ s,/bin$,,r);
my $new = PostgreSQL::Test::Cluster->new('new');

for my $node ($old, $new)
{
	$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'clickstream'\nclickstream.commit_interval = '20ms'\nclickstream.state_memory = '16MB'\n");
}
$old->start;
$old->safe_psql('postgres', 'CREATE EXTENSION clickstream');

sub produce
{
	my ($node, $stream, $from, $to) = @_;
	$node->safe_psql('postgres', <<~END);
		SELECT count(clickstream.produce('$stream', json_build_object('user_id', 'u' || i % 23, 'event_type', (ARRAY['view', 'buy'])[1 + i % 5 / 4],
			'page_url', '/' || i % 7, 'event_time', '2025-03-01 12:00:00+00'::timestamptz + i * interval '5 seconds')::text, partition => i % 2))
		FROM generate_series($from, $to - 1) AS i
		END
}

sub make
{
	my ($node, $stream, $prefix) = @_;
	$node->safe_psql('postgres', <<~END);
		SELECT clickstream.create_stream('$stream', idle_timeout => '1 hour');
		SELECT clickstream.create_session('${prefix}_visits', stream => '$stream', gap => '100 seconds');
		SELECT clickstream.create_session('${prefix}_large', stream => '$stream', key => 'event_time::text', gap => '1 day',
			measures => 'max(repeat(user_id || page_url, 2000)) AS large');
		SELECT clickstream.create_window('${prefix}_pages', stream => '$stream', size => '10 minutes', slide => '5 minutes', group_by => 'page_url',
			measures => 'count(*) AS views, count(DISTINCT user_id) AS visitors, first(user_id) AS first_user');
		SELECT clickstream.create_funnel('${prefix}_funnel', stream => '$stream', within => '5 minutes', steps => ARRAY[
			clickstream.step('view', \$\$event_type = 'view'\$\$), clickstream.step('buy', \$\$event_type = 'buy'\$\$)]);
		SELECT clickstream.create_rollup('${prefix}_metrics', source => '${prefix}_visits', size => '10 minutes',
			measures => 'count(*) AS visits, sum(event_count) AS events');
		END
	produce($node, $stream, 0, 3000);
	$node->safe_psql('postgres', "SELECT clickstream.start('$stream')");
	$node->safe_psql('postgres', "CALL clickstream.wait_for('$stream')");
}

sub outcome
{
	my ($prefix) = @_;
	return join "\n", map { $new->safe_psql('postgres', <<~END) } qw(visits large pages funnel metrics);
		SELECT '$_', count(*), md5(string_agg(t, E'\\n' ORDER BY t COLLATE "C"))
		FROM (SELECT (to_jsonb(t) - '{revision,session_id,attempt_id}'::text[])::text AS t FROM ${prefix}_$_ AS t) AS t
		END
}

make($old, 'moved', 'm');
my $open = $old->safe_psql('postgres', "SELECT count(*), sum(event_count) FROM clickstream.open_sessions('m_visits')");
isnt($open, '0|', 'sessions are open');
my $spilled = "SELECT spilled_keys FROM clickstream.stat_memory WHERE stream = 'moved'";
cmp_ok($old->safe_psql('postgres', $spilled), '>', 500, 'state lies in the spill table');
$old->stop;

chdir $PostgreSQL::Test::Utils::tmp_check or die;
command_ok([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $ENV{OLD_BIN}, '-B', $new->config_data('--bindir'),
	'-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade');
$new->start;
ok($new->poll_query_until('postgres', "SELECT state = 'running' FROM clickstream.stat_stream WHERE stream = 'moved'"),
	'on the new server the stream goes on by itself');
is($new->safe_psql('postgres', "SELECT count(*), sum(event_count) FROM clickstream.open_sessions('m_visits')"), $open, 'its sessions are open there');
cmp_ok($new->safe_psql('postgres', $spilled), '>', 500, 'and its spill table is known');
produce($new, 'moved', 3000, 6000);
make($new, 'calm', 'c');
produce($new, 'calm', 3000, 6000);
for my $stream (qw(moved calm))
{
	$new->safe_psql('postgres', "CALL clickstream.wait_for('$stream')");
	$new->safe_psql('postgres', "CALL clickstream.finish('$stream')");
}
is(outcome('m') =~ s/^m_//mgr, outcome('c') =~ s/^c_//mgr, 'the tables are as if nothing had happened');
is($new->safe_psql('postgres', "SELECT sum(consumed), bool_and(balanced) FROM clickstream.audit('moved')"), '6000|t', 'each event was counted once');
note $new->safe_psql('postgres', 'SELECT version()');
$new->stop;
done_testing();
