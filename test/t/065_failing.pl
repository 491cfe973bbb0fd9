# A stream one partition of which meets the same permanent error again and
# again, while others go on: it does not back off for ever, but fails with the
# reason, and goes on from there when the cause is gone.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '20ms'",
	"clickstream.batch_messages = 1");

sub query { return $node->safe_psql('postgres', $_[0]) }

query(<<~'END');
	SELECT clickstream.create_stream('mixed', max_drift => NULL);
	SELECT clickstream.create_window('pages', stream => 'mixed', size => '1 hour', group_by => 'page_url', measures => 'count(*) AS n');
	ALTER TABLE pages ADD CONSTRAINT no_bad CHECK (page_url <> '/bad');
	SELECT count(clickstream.produce('mixed', '{"user_id": "a", "page_url": "/good", "event_time": "2024-06-01 00:00:00"}')) FROM generate_series(1, 300);
	SELECT clickstream.produce('mixed', '{"user_id": "a", "page_url": "/bad", "event_time": "2024-06-01 00:00:00"}', partition => 1);
	SELECT clickstream.start('mixed');
	END
wait_until($node, "SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = 'mixed'");
like(query("SELECT last_error FROM clickstream.stat_stream WHERE stream = 'mixed'"),
	qr/violates check constraint "no_bad"/, 'it fails with the reason');
cmp_ok(query("SELECT next_offset FROM clickstream.stat_partition WHERE stream = 'mixed' AND partition = 0"), '>', 1,
	'although the other partition went on in between');
query("ALTER TABLE pages DROP CONSTRAINT no_bad; SELECT clickstream.start('mixed')");
wait_for($node, 'mixed');
is_soon($node, "SELECT string_agg(page_url || ' ' || n, ', ' ORDER BY page_url) FROM pages", '/bad 1, /good 300',
	'when the cause is gone it goes on, nothing lost or doubled');

# What cannot mend itself fails at once, and the view says what to do.
query(<<~'END');
	UPDATE clickstream.local_partition SET first_offset = 1000, next_offset = 1000 WHERE partition = 0;
	SELECT clickstream.produce('mixed', '{}');
	END
wait_until($node, "SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = 'mixed'");
like(query("SELECT last_hint FROM clickstream.stat_stream WHERE stream = 'mixed'"), qr/clickstream\.reset\(\)/, 'the hint is shown');

done_testing();
