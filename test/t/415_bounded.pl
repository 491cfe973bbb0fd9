# Bounded everything: one visitor with very many events, a session of very many
# pages, a window with very many visitors, one with as many groups that close at
# once, a funnel of 30 days.  The worker's own counters stay below what
# doc/reliability.md says, and what is over is gone, in memory and in the tables.
#
# In make check it runs in seconds; "make bounded" runs it with a million of each.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use ClickstreamTest;

my $full = $ENV{BOUNDED_FULL};
my $visitors = $full ? 1_000_000 : 40_000;
my $events = $full ? 1_000_000 : 20_000;    # of one visitor
my $pages = $full ? 100_000 : 5_000;        # that he saw
my $budget = 16 * 1024 * 1024;
my $batch_memory = 16 * 1024 * 1024;
my $produced = 0;
my %most = map { $_ => 0 } qw(used own batch);

my $node = new_node('main',
	"clickstream.state_memory = '16MB'",
	"clickstream.batch_memory = '16MB'",
	"clickstream.commit_interval = '100ms'",
	"clickstream.state_log_size = '1MB'",
	'fsync = off',
	'max_wal_size = 4GB');

sub query { return $node->safe_psql('postgres', $_[0]) }

query(<<~'END');
	SELECT clickstream.create_stream('big', watermark_delay => '1 second', idle_timeout => '1 day', max_future => NULL);
	SELECT clickstream.create_session('visits', stream => 'big', gap => '30 minutes', measures => 'count(*) AS event_count, count(DISTINCT page_url) AS pages');
	SELECT clickstream.create_window('days', stream => 'big', size => '1 day', emit => 'closed', measures => 'count(*) AS n, count(DISTINCT user_id) AS visitors');
	SELECT clickstream.create_window('each', stream => 'big', size => '1 day', emit => 'closed', group_by => 'user_id', group_limit => 10000000, measures => 'count(*) AS n');
	SELECT clickstream.create_funnel('buys', stream => 'big', within => '30 days', emit => 'closed', steps => ARRAY[
		clickstream.step('look', $$event_type = 'look'$$), clickstream.step('pay', $$event_type = 'pay'$$)]);
	CREATE FUNCTION say(visitor text, type text, at interval, page text DEFAULT '/') RETURNS text LANGUAGE sql AS $$
	SELECT json_build_object('user_id', visitor, 'event_type', type, 'event_time', '2026-01-01 00:00:00+00'::timestamptz + at, 'page_url', page)::text $$;
	SELECT clickstream.start('big');
	END

# Produce what a query says, and look at the worker's counters until it has read and closed all.
sub feed
{
	my ($messages) = @_;
	my $end = time + ($full ? 7200 : $PostgreSQL::Test::Utils::timeout_default * 3);
	my $done = '';

	$produced += query("SELECT count(clickstream.produce('big', m)) FROM ($messages) AS x(m)");
	while ($done ne 't')
	{
		die 'the stream does not come to the end' if time > $end;
		sleep 0.05;
		my ($used, $own, $batch);
		($used, $own, $batch, $done) = split /\|/, query(<<~END);
			SELECT coalesce(m.used, 0), coalesce(m.own_bytes, 0), coalesce(m.batch_bytes, 0), p.closed = p.watermark AND
				(SELECT sum(next_offset) FROM clickstream.partition WHERE stream_id = s.stream_id) = $produced
			FROM clickstream.stat_memory AS m JOIN clickstream.stream AS s ON s.name = m.stream JOIN clickstream.progress AS p USING (stream_id)
			WHERE m.stream = 'big'
			END
		$most{used} = $used if $used > $most{used};
		$most{own} = $own if $own > $most{own};
		$most{batch} = $batch if $batch > $most{batch};
	}
}

# ---- one day

feed("SELECT say('one', 'move', i * interval '1 second' * (3600.0 / $events), '/' || i % $pages) FROM generate_series(1, $events) AS i");
feed("SELECT say('v' || i, 'look', '1 hour' + i * interval '1 second' * (3600.0 * 20 / $visitors)) FROM generate_series(1, $visitors) AS i");
feed("SELECT say('clock', 'move', '2 days')");
is(query('SELECT n, visitors FROM days'), ($events + $visitors) . '|' . ($visitors + 1), 'the window has counted each visitor');
is(query("SELECT event_count, pages FROM visits WHERE effective_user_id = 'one'"), "$events|$pages", 'the session each page');
is(query('SELECT count(*), sum(n) FROM each'), ($visitors + 1) . '|' . ($events + $visitors), 'each group is a row');
is(query('SELECT count(*) FROM visits'), $visitors + 1, 'each session is a row');
# The worker says what its memory holds a moment after the commit that is waited for.
is_soon($node, "SELECT entries <= $visitors + 4 FROM clickstream.stat_memory WHERE stream = 'big'", 't', 'of all that attempts are left');

# ---- 30 days later

feed(q(SELECT say('v' || i, 'pay', '29 days') FROM generate_series(1, 100) AS i));
feed("SELECT say('clock', 'move', '40 days')");
is(query('SELECT count(*), count(*) FILTER (WHERE is_conversion) FROM buys'), "$visitors|100", 'each attempt is a row');
is_soon($node, q(SELECT entries <= 4, used < 1000000 FROM clickstream.stat_memory WHERE stream = 'big'), 't|t', 'and nothing is left in memory but of the last event');
my $id = query(q(SELECT stream_id FROM clickstream.stream WHERE name = 'big'));
cmp_ok(query("SELECT count(*) FROM clickstream.state_spill_$id"), '<=', 4, 'nor in the spill table');

# ---- what it took

# Sets that are added to must be in memory, and the keys of what is spilled: a group and an attempt of each visitor.
my $bound = $budget + 40 * ($visitors + $pages) + 2 * 32 * $visitors;
cmp_ok($most{used}, '<=', $bound, 'the state was in its bounds');
cmp_ok($most{own}, '<=', $bound / 2, 'with little of it in memory of the worker\'s own');
cmp_ok($most{batch}, '<=', 2.5 * $batch_memory, 'a batch was, too');
note sprintf 'figure: %d events of one visitor, %d pages, %d visitors: used %.1f MB, own blocks %.1f MB, batch %.1f MB at most',
  $events, $pages, $visitors, map { $_ / 1048576 } @most{qw(used own batch)};
is(query("SELECT bool_and(balanced) FROM clickstream.audit('big')"), 't', 'the ledger is balanced');

$node->stop;
done_testing();
