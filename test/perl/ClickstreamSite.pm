# ClickstreamSite: visits to a small made-up shop, definitions over them, and
# what is in the tables, as text to compare.
#
#   my $events = site_events(20_000, $seed);       # [partition, key, payload], in order of arrival
#   create_site($node, 'web', 'a', "brokers => '...'");
#   produce_site($broker, 'web', $events);         # into a broker's topic
#   my $more = site_events_from(20_000, 5_000, $seed);    # what comes next
#   load_site($node, $events);                     # into table site_event
#   ...
#   same_site($node, 'a', 'b', 'a and b have the same tables');
#   is_as_in_sql($node, 'a', 'windows of a are what plain SQL makes of site_event');
#
# All is inside the lag condition (an event is at most 8 s behind its
# partition, the watermark's delay is 10 s), so tables depend on the topic's
# content alone.  One message in 500 is broken and one in 50 is filtered, so
# that the ledger has more than one class.  Twenty events are a second of event
# time; a visitor comes, makes about ten events within some minutes, and does
# not come again, so sessions, windows and attempts close all the time.
#
# Unruly visitors (unruly => 1, of events and of create_site() alike) also send
# some messages twice, the copy a moment later and by the same key, and beacons
# that come up to a minute late.  Duplicates are dropped by dedupe_by; only definitions
# with an allowed_lateness that covers them take beacons.  So tables still depend
# on the content alone, and nothing is late.  There are cumulative windows then, too,
# and an event log.
package ClickstreamSite;

use strict;
use warnings;

use ClickstreamTest;
use Exporter 'import';
use POSIX qw(strftime);
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(site_events site_events_from create_site produce_site load_site same_site site_tables is_as_in_sql);

my @tables = qw(sessions pages rolling funnel metrics);
my @unruly_tables = qw(steps slow_sessions slow_metrics slow_pages slow_funnel);
my $log = 'log';
my $partitions = 4;
my $start = 1_750_000_000;    # 2025-06-15
my @devices = ('"mobile"', '"desktop"', '"tablet"', 'null');

sub page_of
{
	my ($kind) = @_;
	return '/checkout' if $kind < 0.1;
	return '/product/' . int(rand 40) if $kind < 0.6;
	return '/category/' . int(rand 10);
}

sub payload
{
	my ($visitor, $ms, $id, $type) = @_;
	my $kind = rand;
	$type //= $kind < 0.72 ? 'page_view' : $kind < 0.9 ? 'click' : $kind < 0.98 ? 'purchase' : 'ping';
	my $who = $visitor % 3 ? qq("user_id":"u$visitor") : qq("anonymous_id":"a$visitor");
	my $time = strftime('%Y-%m-%dT%H:%M:%S', gmtime(int($ms / 1000)));

	return sprintf '{%s,"event_type":"%s","event_time":"%s.%03dZ","page_url":"%s","device_type":%s,'
	  . '"event_properties":{"action":"%s","price":"%.2f"%s}}',
	  $who, $type, $time, $ms % 1000, page_of(rand), $devices[rand @devices],
	  $type eq 'click' ? 'add_to_cart' : 'look', rand 100, defined $id ? qq(,"id":"$id") : '';
}

sub site_events
{
	my ($n, $seed, %option) = @_;
	return site_events_from(0, $n, $seed, %option);
}

# The n events from the first'th on: the next part of a topic that is made part by part.
sub site_events_from
{
	my ($first, $n, $seed, %option) = @_;
	my (@events, @recent);    # recent: what may come again

	srand $seed + $first;
	for my $i ($first .. $first + $n - 1)
	{
		my $visitor = int($i / 10) + int(rand 300);
		my $ms = $start * 1000 + $i * 50 - int(rand 8000);
		my $is_broken = $i % 500 == 499;
		my $payload;

		if ($option{unruly} && !$is_broken && @recent && rand() < 0.04)
		{
			push @events, $recent[ rand @recent ];
			next;
		}
		my $type = $option{unruly} && rand() < 0.05 ? 'beacon' : undef;
		$ms -= int(rand 50_000) if $type;
		$payload = payload($visitor, $ms, $option{unruly} ? $i : undef, $type);
		$payload = substr $payload, 0, 60 if $is_broken;
		push @events, [ $visitor % $partitions, "v$visitor", $payload ];
		next if $is_broken || !$option{unruly};
		# So many are about a second, which with the eight of disorder is less than the watermark's delay.
		push @recent, $events[-1];
		shift @recent if @recent > 20;
	}
	return \@events;
}

# A stream and its tables, whose names begin with the prefix.  $source is what
# create_stream() is told besides: brokers, topic, filter.  Options: within
# and rolling, the funnel's and the longer windows' time, say how much state
# there is; unruly: for visitors who are that.
sub create_site
{
	my ($node, $stream, $prefix, $source, %option) = @_;
	my $within = $option{within} // '10 minutes';
	my $rolling = $option{rolling} // '5 minutes';

	$source //= '';
	$source = "filter => \$\$event_type <> 'ping'\$\$, $source" unless $source =~ /filter =>/;
	$source =~ s/,\s*$//;
	$source .= ", dedupe_by => \$\$event_properties->>'id'\$\$, dedupe_horizon => '2 minutes'" if $option{unruly};
	my $timely = $option{unruly} ? "filter => \$\$event_type <> 'beacon'\$\$," : '';
	$node->safe_psql('postgres', <<~END);
		SELECT clickstream.create_stream('$stream', idle_timeout => '1 hour', $source);
		SELECT clickstream.create_session('${prefix}_sessions', stream => '$stream', $timely gap => '30 seconds');
		SELECT clickstream.create_window('${prefix}_pages', stream => '$stream', size => '1 minute',
			filter => \$\$event_type = 'page_view'\$\$, group_by => 'page_url',
			measures => 'count(*) AS views, count(DISTINCT effective_user_id) AS visitors');
		SELECT clickstream.create_window('${prefix}_rolling', stream => '$stream', size => '$rolling',
			slide => '1 minute', group_by => 'device_type', $timely
			measures => \$\$count(*) AS events, count(DISTINCT effective_user_id) AS visitors,
				sum((event_properties->>'price')::numeric) AS total, min(page_url) AS least, max(user_id) AS greatest,
				first(page_url) AS first_page, last(event_time) AS last_time\$\$);
		SELECT clickstream.create_funnel('${prefix}_funnel', stream => '$stream', within => '$within',
			key => 'user_id', steps => ARRAY[
				clickstream.step('product', \$\$event_type = 'page_view' AND page_url LIKE '/product/%'\$\$),
				clickstream.step('cart', \$\$event_properties->>'action' = 'add_to_cart'\$\$),
				clickstream.step('purchase', \$\$event_type = 'purchase'\$\$)]);
		SELECT clickstream.create_rollup('${prefix}_metrics', source => '${prefix}_sessions', size => '1 minute',
			measures => 'count(*) AS sessions, sum(event_count) AS events, max(session_duration_seconds) AS longest');
		END
	create_unruly($node, $stream, $prefix, $within, $rolling) if $option{unruly};
}

sub create_unruly
{
	my ($node, $stream, $prefix, $within, $rolling) = @_;

	$node->safe_psql('postgres', <<~END);
		SELECT clickstream.create_window('${prefix}_steps', stream => '$stream', size => '$rolling',
			step => '30 seconds', group_by => 'device_type', filter => \$\$event_type <> 'beacon'\$\$,
			measures => \$\$count(*) AS events, count(DISTINCT page_url) AS pages, max(page_url) AS greatest\$\$);
		SELECT clickstream.create_session('${prefix}_slow_sessions', stream => '$stream', gap => '30 seconds',
			allowed_lateness => '1 minute', emit => 'changes', emit_interval => '1 second');
		SELECT clickstream.create_rollup('${prefix}_slow_metrics', source => '${prefix}_slow_sessions', size => '1 minute',
			measures => 'count(*) AS sessions, sum(event_count) AS events, min(session_duration_seconds) AS shortest');
		SELECT clickstream.create_window('${prefix}_slow_pages', stream => '$stream', size => '1 minute',
			allowed_lateness => '1 minute', group_by => 'page_url',
			measures => 'count(*) AS views, count(DISTINCT effective_user_id) AS visitors');
		SELECT clickstream.create_funnel('${prefix}_slow_funnel', stream => '$stream', within => '$within',
			allowed_lateness => '1 minute', steps => ARRAY[
				clickstream.step('page', \$\$event_type = 'page_view'\$\$),
				clickstream.step('beacon', \$\$event_type = 'beacon'\$\$),
				clickstream.step('purchase', \$\$event_type = 'purchase'\$\$)]);
		SELECT clickstream.create_event_log('${prefix}_$log', stream => '$stream');
		END
}

# Into a topic of a broker, each event into its partition; or (by_key => 1) a
# visitor's into the one that the producer picks for him, which takes one process.
sub produce_site
{
	my ($broker, $topic, $events, %option) = @_;
	my @lines = map { [] } 1 .. $partitions;

	# All at once, where the key decides the partition.
	return produce($broker, $topic, [ map { "$_->[1]\t$_->[2]" } @$events ], %option) if delete $option{by_key};
	push @{ $lines[$_->[0]] }, "$_->[1]\t$_->[2]" for @$events;
	produce($broker, $topic, $lines[$_], partition => $_, %option) for 0 .. $partitions - 1;
}

# Into table site_event (n, partition, key, payload), for produce() in SQL.
sub load_site
{
	my ($node, $events) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/site';
	my $n = 0;

	open my $out, '>:raw', $file or die "could not write $file: $!";
	print $out map { join("\t", $n++, @$_) . "\n" } @$events;
	close $out or die "could not write $file: $!";
	$node->safe_psql('postgres', <<~END);
		DROP TABLE IF EXISTS site_event;
		CREATE TABLE site_event (n integer PRIMARY KEY, partition integer, key text, payload text);
		\\copy site_event FROM '$file'
		ANALYZE site_event;
		END
	unlink $file;
}

# Those of them that a stream has.
sub tables_of
{
	my ($node, $prefix) = @_;
	return (@tables, $node->safe_psql('postgres', "SELECT to_regclass('${prefix}_$log') IS NOT NULL") eq 't' ? (@unruly_tables, $log) : ());
}

my %columns;    # table => its columns as they were at first, whatever users do to it later

# A table's columns, to compare by.  Left out is what may depend on batches
# (revision; of the log all that says when the event came) and the topic's name within identifiers.
sub columns_of
{
	my ($node, $table) = @_;

	return $node->safe_psql('postgres', <<~END);
		SELECT string_agg(CASE WHEN attname IN ('session_id', 'attempt_id')
			THEN format('substring(%I from ''[0-9]+/[0-9]+\$'')', attname) ELSE quote_ident(attname) END, ', ' ORDER BY attnum)
		FROM pg_attribute
		WHERE attrelid = '$table'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'revision'
			AND ('$table' NOT LIKE '%\\_$log' OR attname NOT IN ('arrived_at', 'commit_number', 'arrival', 'watermark', 'message_timestamp'))
		END
}

# One line for each table: how many rows, and a hash of them.  With a condition:
# of the rows for which it is true; but all of the log, whose rows are final from the first.
sub site_tables
{
	my ($node, $prefix, $condition) = @_;
	my @digests;

	$condition //= 'true';
	for my $table (tables_of($node, $prefix))
	{
		my $columns = $columns{"${prefix}_$table"} //= columns_of($node, "${prefix}_$table");
		# The log is long: no need to sort it.
		push @digests, $table eq $log
		  ? "SELECT '$table: ' || count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM (SELECT $columns FROM ${prefix}_$table) t"
		  : <<~END;
			SELECT '$table: ' || count(*) || ' ' || coalesce(md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE "C")), '-')
			FROM (SELECT $columns FROM ${prefix}_$table WHERE $condition) t
			END
	}
	return $node->safe_psql('postgres', join(' UNION ALL ', @digests) . ' ORDER BY 1');
}

# Are the tables of two streams the same?  If not, some of the rows that differ.
sub same_site
{
	my ($node, $got, $expected, $name) = @_;

	return 1 if is(site_tables($node, $got), site_tables($node, $expected), $name);
	for my $table (tables_of($node, $expected))
	{
		my $columns = columns_of($node, "${expected}_$table");
		for my $pair ([ $got, $expected ], [ $expected, $got ])
		{
			my $rows = $node->safe_psql('postgres', <<~END);
				SELECT $columns FROM $pair->[0]_$table EXCEPT SELECT $columns FROM $pair->[1]_$table ORDER BY 1, 2, 3 LIMIT 5
				END
			diag("$pair->[0]_$table alone has\n$rows") if $rows ne '';
		}
	}
	return 0;
}

# Windows against plain SQL over site_event.
sub is_as_in_sql
{
	my ($node, $prefix, $name) = @_;

	is($node->safe_psql('postgres', <<~END), '0', $name);
		WITH event AS (
			SELECT (payload::jsonb->>'event_time')::timestamptz AS event_time, payload::jsonb->>'event_type' AS event_type,
				payload::jsonb->>'page_url' AS page_url, payload::jsonb->>'device_type' AS device_type,
				payload::jsonb->>'user_id' AS user_id,
				coalesce(payload::jsonb->>'user_id', payload::jsonb->>'anonymous_id') AS visitor,
				(payload::jsonb->'event_properties'->>'price')::numeric AS price
			FROM site_event
			WHERE payload LIKE '%}' AND payload NOT LIKE '%"event_type":"ping"%'),
		pages AS (
			SELECT date_trunc('minute', event_time) AS window_start, page_url, count(*), count(DISTINCT visitor)
			FROM event WHERE event_type = 'page_view' GROUP BY 1, 2),
		rolling AS (
			SELECT w.window_start, device_type, count(*), count(DISTINCT visitor), sum(price), min(page_url), max(user_id),
				max(event_time)
			FROM event, clickstream.window_starts(event_time, '5 minutes', '1 minute', 'epoch') AS w(window_start)
			GROUP BY 1, 2),
		got_pages AS (SELECT window_start, page_url, views, visitors FROM ${prefix}_pages),
		got_rolling AS (
			SELECT window_start, device_type, events, visitors, total, least, greatest, last_time FROM ${prefix}_rolling)
		SELECT (SELECT count(*) FROM (TABLE pages EXCEPT TABLE got_pages) AS d)
			+ (SELECT count(*) FROM (TABLE got_pages EXCEPT TABLE pages) AS d)
			+ (SELECT count(*) FROM (TABLE rolling EXCEPT TABLE got_rolling) AS d)
			+ (SELECT count(*) FROM (TABLE got_rolling EXCEPT TABLE rolling) AS d)
		END
}

1;
