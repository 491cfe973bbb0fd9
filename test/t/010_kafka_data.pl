# Real events of a shop and of a site's readers, through a real Kafka server:
# sessions, windows and funnel levels have the figures that were computed from
# the same files by other means.
#
# The data is years old.  So this also shows that neither max_future nor the
# idle rule spoils a replay.
use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $json = JSON::PP->new->utf8->canonical;
my $data = "$ClickstreamTest::top/test/data";
my $node = new_node('main');
my $kafka = start_kafka(shop => 4, pages => 4);

sub query { return $node->safe_psql('postgres', $_[0]) }

# The files are sorted by visitor; events happen in the order of time.
sub by_time { return sort { $a->{timestamp} cmp $b->{timestamp} } @_ }

sub shop_event
{
	my ($row) = @_;
	return $row->{user_id} . "\t"
	  . $json->encode(
		{
			user_id => $row->{user_id},
			event_type => $row->{event},
			event_time => $row->{timestamp},
			device_type => $row->{platform},
			utm_source => $row->{acquisition_channel},
			event_properties => { session_id => $row->{session_id}, cohort => $row->{user_cohort} },
		});
}

sub page_event
{
	my ($row) = @_;
	return $row->{uuid} . "\t"
	  . $json->encode(
		{
			anonymous_id => $row->{uuid},
			event_type => 'page_view',
			event_time => $row->{timestamp},
			page_url => $row->{url},
		});
}

# Runs a stream from its topic's beginning to the end of input.
sub run_to_end
{
	my ($stream, $events) = @_;

	query("SELECT clickstream.start('$stream')");
	wait_for($node, $stream);
	query("CALL clickstream.finish('$stream')");
	is(query(<<~END), "$events|$events|0", "$stream: each event was used once, none was late or dead");
		SELECT sum(next_offset), sum(used), sum(filtered + late + duplicate + dead + empty + skipped)
		FROM clickstream.partition JOIN clickstream.stream USING (stream_id) WHERE name = '$stream'
		END
	is(query('SELECT count(*) FROM clickstream.dead_letter'), '0', "$stream: no dead letters");
}

# Number, largest, sum and sum of squares of a table's counts of events.
sub is_windows
{
	my ($table, $expected) = @_;
	is(query("SELECT count(*), max(events), sum(events), sum(events * events) FROM $table"), $expected, $table);
	is(query("SELECT count(*) FROM $table WHERE NOT is_final"), '0', "$table: all rows are final");
}

sub is_sessions
{
	my ($table, $expected) = @_;
	is(query(<<~END), $expected, $table);
		SELECT count(*), count(*) FILTER (WHERE event_count = 1), sum(session_duration_seconds)::bigint, sum(event_count)
		FROM $table
		END
	is(query("SELECT count(*) FROM $table WHERE NOT is_final"), '0', "$table: all rows are final");
}

# ---- the shop

my @shop = by_time(read_csv("$data/retentioneering_ecom.csv.gz"));
is(produce($kafka, 'shop', [ map { shop_event($_) } @shop ]), 31106, 'events of the shop are in Kafka');

my $address = $kafka->address;
query(<<~END);
	SELECT clickstream.create_stream('shop', brokers => '$address', topic => 'shop', start_from => 'earliest');
	SELECT clickstream.create_session('shop_sessions', stream => 'shop', gap => '30 minutes');
	SELECT clickstream.create_window('shop_5_minutes', stream => 'shop', size => '5 minutes',
		measures => 'count(*) AS events');
	SELECT clickstream.create_window('shop_hourly', stream => 'shop', size => '1 hour',
		measures => 'count(*) AS events');
	SELECT clickstream.create_window('shop_hopping', stream => 'shop', size => '1 hour', slide => '15 minutes',
		measures => 'count(*) AS events');
	END

# Per session: the shop's events bring the id of the session that they belong
# to, so the session is the key, and no chain can leave it.
sub shop_funnel
{
	my ($table, $within, $key) = @_;
	query(<<~END);
		SELECT clickstream.create_funnel('$table', stream => 'shop', within => '$within', key => \$\$$key\$\$,
			steps => ARRAY[
				clickstream.step('product_view', \$\$event_type = 'product_view'\$\$),
				clickstream.step('add_to_cart', \$\$event_type = 'add_to_cart'\$\$),
				clickstream.step('cart', \$\$event_type = 'cart'\$\$),
				clickstream.step('shipping_details', \$\$event_type = 'shipping_details'\$\$),
				clickstream.step('purchase', \$\$event_type = 'purchase'\$\$)])
		END
}
shop_funnel('shop_funnel', '1 day', 'user_id');
shop_funnel('shop_funnel_30_minutes', '30 minutes', 'user_id');
shop_funnel('shop_funnel_7_days', '7 days', 'user_id');
shop_funnel('shop_funnel_session', '30 minutes', "event_properties->>'session_id' AS session_id");
run_to_end('shop', 31106);

is_sessions('shop_sessions', '3605|231|3747594|31106');
is_windows('shop_5_minutes', '10715|18|31106|135506');
is_windows('shop_hourly', '1874|87|31106|826548');
is_windows('shop_hopping', '7560|96|124424|3271070');

# Keys by the level they reached, from the table and from the report.
sub is_levels
{
	my ($table, $key, $expected, $name) = @_;
	is(query(<<~END), $expected, $name);
		SELECT string_agg(visitors::text, ' ' ORDER BY reached)
		FROM (
			SELECT reached, count(*) FILTER (WHERE level >= reached) AS visitors
			FROM (SELECT $key, max(level) AS level FROM $table GROUP BY $key) AS best,
				generate_series(1, 5) AS reached
			GROUP BY reached) AS levels
		END
	is(query("SELECT string_agg(reached::text, ' ' ORDER BY step) FROM clickstream.funnel_report('$table')"),
		$expected, "$name: the report");
}
is_levels('shop_funnel', 'user_id', '598 482 324 169 45', 'visitors of the shop by the level they reached within a day');
is_levels('shop_funnel_30_minutes', 'user_id', '598 480 317 157 40', 'within 30 minutes');
is_levels('shop_funnel_7_days', 'user_id', '598 487 353 210 75', 'within 7 days');
is_levels('shop_funnel_session', 'session_id', '2868 942 464 182 42', 'sessions of the shop within 30 minutes');
is(query('SELECT count(DISTINCT user_id) FROM shop_funnel WHERE is_conversion'),
	'45', 'who reached the last step has converted');
is(query('SELECT count(*) FROM shop_funnel WHERE NOT is_final'), '0', 'shop_funnel: all rows are final');

# ---- the site

my @pages = by_time(read_csv("$data/reconstructr_session_dataset.csv.gz"));
is(produce($kafka, 'pages', [ map { page_event($_) } @pages ]), 63524, 'page reads are in Kafka');

query(<<~END);
	SELECT clickstream.create_stream('pages', brokers => '$address', topic => 'pages', start_from => 'earliest');
	SELECT clickstream.create_session('page_sessions', stream => 'pages', gap => '30 minutes');
	SELECT clickstream.create_window('page_hourly', stream => 'pages', size => '1 hour',
		measures => 'count(*) AS events');
	END
run_to_end('pages', 63524);

is_sessions('page_sessions', '22224|13138|6053477|63524');
is_windows('page_hourly', '384|419|63524|12060172');

$node->stop;
$kafka->stop;
done_testing();
