# Who asks for windows that are open takes as much memory as he may (work_mem), not as
# much as all groups need: they come in parts, and are the same, out of shared
# memory and out of the log.  Of cumulative windows the newest step has an event of one
# group only, so that the others must be told of it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $visitors = 10_000;
my $node = new_node('main', "clickstream.state_memory = '64MB'", "clickstream.commit_interval = '100ms'", 'fsync = off');

sub query { return $node->safe_psql('postgres', $_[0]) }

query(<<~'END');
	SELECT clickstream.create_stream('big', watermark_delay => '10 seconds', idle_timeout => '1 day', max_future => NULL);
	SELECT clickstream.create_window('days', stream => 'big', size => '1 day', group_by => 'user_id', group_limit => 1000000,
		measures => 'count(*) AS n, max(repeat(user_id, 50)) AS long', emit => 'closed');
	SELECT clickstream.create_window('hops', stream => 'big', size => '1 hour', slide => '30 minutes', group_by => 'user_id', group_limit => 1000000,
		measures => 'count(*) AS n, max(repeat(user_id, 50)) AS long', emit => 'closed');
	SELECT clickstream.create_window('steps', stream => 'big', size => '1 hour', step => '10 seconds', group_by => 'user_id', group_limit => 1000000,
		measures => 'count(*) AS n, max(repeat(user_id, 50)) AS long', emit => 'closed');
	SELECT clickstream.start('big');
	END
query(<<~END);
	SELECT count(clickstream.produce('big', json_build_object('user_id', 'v' || i, 'event_time', '2026-01-01 00:00:00+00'::timestamptz
		+ i * interval '0.5 ms')::text)) FROM generate_series(1, $visitors) AS i;
	SELECT clickstream.produce('big', json_build_object('user_id', 'v7', 'event_time', '2026-01-01 00:00:10+00'::timestamptz)::text);
	END
wait_for($node, 'big');

# What it shows, and the most memory that the session had, in kB.
sub ask_with
{
	my ($work_mem, $what) = @_;
	return split /\n/, query(<<~END);
		SET work_mem = '$work_mem';
		SELECT count(*) || ' ' || sum(hashtextextended(o::text, 0)) FROM (SELECT window_start, window_end, groups, measures FROM clickstream.open_windows('$what')) AS o;
		SELECT (regexp_match(pg_read_file('/proc/self/status'), 'VmHWM:\\s+(\\d+)'))[1];
		END
}

for my $name (qw(running stopped))
{
	for my $what (qw(days hops steps))
	{
		my $rows = $visitors * ($what eq 'days' ? 1 : 2);
		my ($all, $most) = ask_with('1GB', $what);
		my ($parts, $little) = ask_with('256kB', $what);

		like($all, qr/^$rows /, "$name: all of $what");
		is($parts, $all, 'the same in parts');
		note "figure: $name: $what: $most kB at once, $little kB in parts";
		cmp_ok($little, '<', $most * 0.8, 'which take less memory') if $what ne 'days';    # whose rows are not put together
	}
	query("SELECT clickstream.stop('big')");
	wait_until($node, "SELECT state = 'stopped' FROM clickstream.stat_stream");
}

$node->stop;
done_testing();
