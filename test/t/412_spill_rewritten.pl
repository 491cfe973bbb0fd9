# The spill table is rewritten (VACUUM FULL, CLUSTER) while a stream uses it: a
# batch remembers where the rows that it has read lie, so the rewriting waits for
# it; and afterwards nothing is lost or doubled.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use ClickstreamTest;

my $node = new_node('main',
	'clickstream.force_spill = 0',
	'clickstream.batch_messages = 1000000',
	"clickstream.commit_interval = '10ms'");

sub query { return $node->safe_psql('postgres', $_[0]) }

# An event of each of these visitors, at that minute.
sub send_events
{
	my ($from, $to, $minute) = @_;
	query(<<~END);
		SELECT count(clickstream.produce('web', json_build_object('user_id', 'v' || i, 'page_url', '/' || i,
			'event_time', '2026-01-01 00:00:00+00'::timestamptz + $minute * interval '1 minute')::text)) FROM generate_series($from, $to) AS i
		END
}

query(<<~'END');
	SELECT clickstream.create_stream('web', watermark_delay => '1 second', idle_timeout => '1 day');
	SELECT clickstream.create_session('visits', stream => 'web', gap => '30 minutes', measures => 'count(*) AS events, min(page_url) AS page');
	SELECT clickstream.start('web');
	END
my $spill = query(q(SELECT spill_relation FROM clickstream.stream WHERE name = 'web'));

# Half of the rows go, so that a rewriting moves all others.
send_events(1, 1000, 0);
wait_for($node, 'web');
send_events(501, 1000, 20);
wait_for($node, 'web');
send_events(0, 0, 40);
wait_for($node, 'web');
is(query('SELECT count(*), sum(events) FROM visits'), '500|500', 'half of the sessions are over');

for my $point (qw(applied before_log))
{
	my $file = $node->data_dir . "/clickstream_fault.$point";
	my $minute = $point eq 'applied' ? 41 : 42;

	query("ALTER SYSTEM SET clickstream.fault = '$point:pause:1'");
	query('SELECT pg_reload_conf()');
	send_events(501, 1000, $minute);
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if -e $file;
		sleep 0.1;
	}
	ok(-e $file, "the worker is at $point");
	for my $command ("VACUUM FULL $spill", "CLUSTER $spill USING " . query("SELECT relname FROM pg_class JOIN pg_index ON indexrelid = oid WHERE indrelid = '$spill'::regclass"))
	{
		my ($code, undef, $err) = $node->psql('postgres', $command, extra_params => ['-v', 'ON_ERROR_STOP=1'],
			connstr => $node->connstr('postgres') . q( options='-c lock_timeout=200ms'));
		like($err, qr/lock timeout/, "$point: $command waits for the batch");
	}
	query('ALTER SYSTEM RESET clickstream.fault');
	query('SELECT pg_reload_conf()');
	unlink $file;
	wait_for($node, 'web');
	query("VACUUM FULL $spill");
}
send_events(501, 750, 43);
wait_for($node, 'web');
query("VACUUM FULL $spill");
query("CALL clickstream.finish('web')");
is(query(q(SELECT count(*), count(DISTINCT effective_user_id), sum(events) FROM visits WHERE effective_user_id <> 'v0')), '1000|1000|2750', 'all sessions are there, once');
is(query(q(SELECT count(*) FROM visits WHERE effective_user_id <> 'v' || substr(page, 2))), '0', 'each with its own events');
is(query("SELECT count(*) FROM $spill"), '0', 'and nothing is left in the table');

$node->stop;
done_testing();
