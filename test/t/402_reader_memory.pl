# Who asks for what is open takes as much memory as he may (work_mem), not as
# much as is open: it comes in parts, and is the same, out of shared memory, out
# of the spill table, and out of the log of a stream that is stopped.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $visitors = 40_000;
my $node = new_node('main', "clickstream.state_memory = '64MB'", "clickstream.commit_interval = '100ms'", 'fsync = off');

sub query { return $node->safe_psql('postgres', $_[0]) }

query(<<~'END');
	SELECT clickstream.create_stream('big', watermark_delay => '1 second', idle_timeout => '1 day', max_future => NULL);
	SELECT clickstream.create_session('visits', stream => 'big', gap => '1 day', measures => 'count(*) AS event_count, max(repeat(user_id, 50)) AS long');
	SELECT clickstream.create_funnel('attempts', stream => 'big', within => '1 day', steps => ARRAY[
		clickstream.step('look', $$event_type = 'look'$$), clickstream.step('pay', $$event_type = 'pay'$$)]);
	SELECT clickstream.start('big');
	END
query(<<~END);
	SELECT count(clickstream.produce('big', json_build_object('user_id', 'v' || i, 'event_type', 'look', 'event_time', '2026-01-01 00:00:00+00'::timestamptz
		+ i * interval '1 ms')::text)) FROM generate_series(1, $visitors) AS i
	END
wait_for($node, 'big');

# What it shows, and the most memory that the session had, in kB.
sub ask_with
{
	my ($work_mem, $what) = @_;
	return split /\n/, query(<<~END);
		SET work_mem = '$work_mem';
		SELECT count(*) || ' ' || sum(hashtextextended(o::text, 0)) FROM $what AS o;
		SELECT (regexp_match(pg_read_file('/proc/self/status'), 'VmHWM:\\s+(\\d+)'))[1];
		END
}

sub is_in_parts
{
	my ($name) = @_;
	for my $what (q((SELECT visitor, session_start, event_count, measures FROM clickstream.open_sessions('visits'))), 'visits_live',
		q((SELECT visitor, step FROM clickstream.open_funnels('attempts'))))
	{
		my ($all, $most) = ask_with('1GB', $what);
		my ($parts, $little) = ask_with('1MB', $what);
		like($all, qr/^$visitors /, "$name: all of $what");
		is($parts, $all, 'the same in parts');
		note "figure: $name: $what: $most kB at once, $little kB in parts";
		cmp_ok($little, '<', $most - $visitors * 0.15, 'which take less memory');    # of an entry 150 bytes at least
	}
}

is_in_parts('running');
query("ALTER SYSTEM SET clickstream.force_spill = 1000; SELECT pg_reload_conf()");
query("SELECT clickstream.produce('big', json_build_object('user_id', 'v1', 'event_type', 'look', 'event_time', '2026-01-01 00:01:00+00'::timestamptz)::text)");
wait_until($node, "SELECT spilled_keys > $visitors FROM clickstream.stat_memory");
is_in_parts('spilled');
query("SELECT clickstream.stop('big')");
wait_until($node, "SELECT state = 'stopped' FROM clickstream.stat_stream");
is_in_parts('stopped');
query('ALTER SYSTEM RESET clickstream.force_spill; SELECT pg_reload_conf()');
query("SELECT clickstream.start('big')");
query("SELECT clickstream.produce('big', json_build_object('user_id', 'v2', 'event_type', 'look', 'event_time', '2026-01-01 00:01:00+00'::timestamptz)::text)");
wait_for($node, 'big');
query("CALL clickstream.finish('big')");
is(query('SELECT count(*), sum(event_count) FROM visits'), $visitors . '|' . ($visitors + 2), 'and nothing is lost by it');

$node->stop;
done_testing();
