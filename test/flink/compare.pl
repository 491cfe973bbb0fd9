# The published Flink SQL pipeline (seed.sql) runs in a Flink, over one topic of
# 4 partitions in a real Kafka, and clickstream's runs over the same topic.
# Their final rows are equal, row by row.
#
# "Final rows are equal" is promised for events that lag their partition by at
# most watermark_delay less 2 ms (doc/semantics.md); that the topic keeps this,
# and that it has the cases in which sessions and funnels are easily wrong, is
# checked first.
#
# It ends by running our side twice more, each time with a mistake in the code:
# rows must differ then.
#
# Lines "figure: ..." are printed by test/check.sh.  CLICKSTREAM_SEED and
# CLICKSTREAM_FLINK_EVENTS make another topic.
use strict;
use warnings;

use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use ClickstreamTest;

my $events = $ENV{CLICKSTREAM_FLINK_EVENTS} // 200_000;
my $seed = $ENV{CLICKSTREAM_SEED} // 42;

# Ten events are a second of event time, so that most windows and sessions
# close on the way, not at the end.
my $rate = 10;
my $visitors = $events / 10;

# Differences of a table that are shown.
my $shown = 10;

my $json = JSON::PP->new->utf8->canonical;
my $here = "$ClickstreamTest::top/test/flink";
my $out = PostgreSQL::Test::Utils::tempdir();
my $node = new_node('main', q{listen_addresses = '127.0.0.1'}, q{timezone = 'UTC'}, 'max_wal_size = 4GB');
my $kafka = start_kafka(
	'clickstream-events' => 4,
	'funnel-metrics' => 1,
	'users-cdc' => 1,
	'small-events' => 1,
	'zoned-events' => 1,
	'broken-events' => 1,
	'late-events' => 1);

sub query { return $node->safe_psql('postgres', $_[0]) }
sub figure { note('figure: ' . sprintf(shift, @_)) }

# Runs a function and says how long it took.
sub timed
{
	my ($what, $function) = @_;
	my $start = time;

	$function->();
	figure('%-32s %5.1f s', $what, time - $start);
}

sub psql_file
{
	my ($file, @options) = @_;
	$node->command_ok(
		[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', @options, '-d', $node->connstr('postgres'), '-f', "$here/$file" ],
		"$file runs");
}

# ---- the topics

# What surprises.sql is about: visitor, type, page, action, time.
sub small_events
{
	my @step = ([ 'page_view', '/product/1' ], [ 'click', '/product/1', 'add_to_cart' ], [ 'page_view', '/checkout' ],
		[ 'purchase', '/thanks' ]);
	my @minute = map { "10:0$_:00.000" } 0 .. 3;
	my @events = (
		(map { [ { anonymous_id => "a$_" }, $step[$_], $minute[$_] ] } 0 .. 3),
		(map { [ { user_id => 'scrolls' }, $step[$_], $minute[$_] ] } 0 .. 3),
		[ { user_id => 'scrolls' }, [ 'scroll', '/product/1' ], '10:00:30.000' ],
		(map { [ { user_id => 'exact' }, $step[$_], $_ == 3 ? '11:00:00.000' : $minute[$_] ] } 0 .. 3),
		(map { [ { user_id => 'in time' }, $step[$_], $_ == 3 ? '10:59:59.999' : $minute[$_] ] } 0 .. 3),
		(map { [ {}, [ 'scroll', '/' ], "10:1$_:00.000" ] } 0 .. 1));

	return map {
		my ($who, $what, $time) = @$_;
		"k\t" . $json->encode(
			{
				%$who,
				event_type => $what->[0],
				page_url => $what->[1],
				event_properties => { $what->[2] ? (action => $what->[2]) : () },
				event_time => "2024-06-01 $time",
			})
	} sort { $a->[2] cmp $b->[2] } @events;
}

sub load_topics
{
	system_or_bail('make', '-s', '-C', $ClickstreamTest::top, 'bench/bin/generate');
	system_or_bail(
		"$ClickstreamTest::top/bench/bin/generate",
		'--brokers' => $kafka->address,
		'--topic' => 'clickstream-events',
		$events, $seed, $rate, $visitors);
	produce($kafka, 'small-events', [ small_events() ]);
	produce($kafka, 'zoned-events', ["k\t{\"event_time\": \"2024-06-01T00:00:00Z\"}"]);
	produce($kafka, 'broken-events', [ "k\t{\"event_type\": \"a\"}", "k\tnot JSON", "k\t{\"event_type\": \"b\"}" ]);
	produce($kafka, 'late-events', [ map { "k\t{\"event_time\": \"2024-06-01 10:$_.000\"}" } qw(00:00 05:00 00:30) ]);
}

# ---- Flink

# A file of this folder with our addresses in it.
sub our_copy
{
	my ($name) = @_;
	my $text = slurp_file("$here/$name");
	my $database = '127.0.0.1:' . $node->port . '/postgres?user=' . query('SELECT current_user');

	$text =~ s/kafka:9092/$kafka->address/eg;
	$text =~ s{analytics-db:5432/clickstream}{$database}g;
	$text =~ s{file:///out}{file://$out/rows}g;
	append_to_file("$out/$name", $text);
	return "$out/$name";
}

# flink(INIT, FILE): FILE ends at its first error; undef and statements for
# standard input, each of which may fail.  Returns what Flink said.
sub flink
{
	my ($init, $file, $statements) = @_;
	my ($said, $err) = ('', '');
	my @command = ("$here/flink.sh", "$out/flink", $init);

	push @command, $file if defined $file;
	IPC::Run::run(\@command, '<', \($statements // ''), '>', \$said, '2>', \$err)
	  or die "Flink failed: $err\n" . substr($said, -8000);
	return $said;
}

# Statements as they were published: each error must come, in this order, and no
# other, and each answer.
sub check_surprises
{
	my $statements = slurp_file(our_copy('surprises.sql'));
	my $init = slurp_file("$out/seed.sql") =~ s/'clickstream-events'/'small-events'/r;

	append_to_file("$out/small.sql", $init);
	my $said = flink("$out/small.sql", undef, $statements);
	my @expected = $statements =~ /^-- refused: (.*)$/mg;
	my @errors = $said =~ /\[ERROR\] Could not execute SQL statement\. Reason:\n(.*(?:\n.*)?)/g;

	is(scalar @errors, scalar @expected, 'Flink refuses as many statements as expected')
	  or diag(join "\n", @errors);
	like($errors[$_] // '', qr/\Q$expected[$_]\E/, "Flink refuses: $expected[$_]") for 0 .. $#expected;

	# Without the statements themselves, which it repeats, and tables' padding.
	my $answers = join "\n", map { s/ +/ /gr } grep { !/^(Flink SQL)?> +--/ } split /\n/, $said;
	like($answers, qr/\Q$_\E/, "Flink answers: $_") for $statements =~ /^-- answers: (.*)$/mg;
}

sub run_job
{
	my $said = flink("$out/seed.sql", our_copy('job.sql'));

	like($said, qr/Complete execution of the SQL update statement/, 'the job ends');
	unlike($said, qr/\[ERROR\]/, 'without an error') or diag(substr($said, -8000));
}

# Files and messages of Flink into tables.
sub load_rows
{
	my %table = (
		user_sessions => 'user_sessions_file',
		map { $_ => $_ } 
		  qw(page_views_per_minute page_views_rolling traffic_by_source checkout_funnel checkout_funnel_relaxed));

	for my $name (sort keys %table)
	{
		query("COPY flink.$table{$name} FROM PROGRAM 'cat $out/rows/$name/*' (FORMAT csv, NULL '\\N')");
	}
	my $address = $kafka->address;
	query("COPY flink.funnel_metrics_message FROM PROGRAM 'kcat -C -e -q -b $address -t funnel-metrics'
		(FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')");
	query('ANALYZE');
}

# ---- clickstream

sub run_ours
{
	psql_file('ours.sql', '-v', 'brokers=' . $kafka->address);
	wait_for($node, 'web', undef, '10 minutes');
	query(q{CALL clickstream.finish('web')});
	is(query('SELECT sum(consumed) || \' \' || sum(used) FROM clickstream.ledger'),
		"$events $events", 'clickstream has used every event');
}

# ---- the topic is as the comparison needs it

sub check_topic
{
	my ($lag) = query(<<~'END');
		SELECT max(newest - event_time) FROM (
			SELECT event_time, max(event_time) OVER (PARTITION BY partition ORDER BY message_offset) AS newest
			FROM web.clickstream_events) e
		END
	figure('%-32s %s, the delay is 00:00:10', 'greatest lag in a partition', $lag);
	is(query(qq{SELECT interval '$lag' <= interval '10 seconds' - interval '2 milliseconds'}), 't', 'events lag little enough');

	for my $case (map { [ split /\|/ ] } split /\n/, query('SELECT name, count FROM topic_case ORDER BY place'))
	{
		my ($name, $count) = @$case;
		figure('%-32s %7d', $name, $count);
		cmp_ok($count, '>', 0, "the topic has: $name");
	}
}

# ---- the comparison

# The rows that only one side has, with equal keys side by side.
sub differing_rows
{
	my ($table, @key) = @_;
	my ($left, $right) = map { my $side = $_; 'ROW(' . join(', ', map { "$side.$_" } @key) . ')::text' } qw(f o);

	return query(<<~END);
		WITH f AS (SELECT * FROM flink.$table EXCEPT ALL SELECT * FROM ours.$table),
			o AS (SELECT * FROM ours.$table EXCEPT ALL SELECT * FROM flink.$table)
		SELECT coalesce($left, $right) || E'\\n    flink ' || coalesce(f::text, '-') || E'\\n    ours  ' || coalesce(o::text, '-')
		FROM f FULL JOIN o ON $left = $right
		ORDER BY coalesce($left, $right) LIMIT $shown
		END
}

# How many rows Flink has, how many we have, and how many only one side has.
sub counts
{
	my ($table) = @_;

	return split /\|/, query(<<~END);
		SELECT (SELECT count(*) FROM flink.$table), (SELECT count(*) FROM ours.$table),
			(SELECT count(*) FROM (SELECT * FROM flink.$table EXCEPT ALL SELECT * FROM ours.$table) f)
			+ (SELECT count(*) FROM (SELECT * FROM ours.$table EXCEPT ALL SELECT * FROM flink.$table) o)
		END
}

sub compare
{
	my ($table, @key) = @_;
	my ($theirs, $ours, $different) = counts($table);

	figure('%-32s %7d rows of Flink %7d of clickstream %5d different', $table, $theirs, $ours, $different);
	cmp_ok($theirs, '>', 0, "$table: Flink has rows");
	is($different, 0, "$table: the rows are equal") or diag(differing_rows($table, @key));
}

# The pattern that lets other events lie between, beside our default funnel.
# They need not agree: of several product views Flink takes the first, we the
# last that can still convert.
sub report_relaxed
{
	my ($theirs, $ours, $equal, $purchase) = split /\|/, query(<<~'END');
		SELECT (SELECT count(*) FROM flink.checkout_funnel_relaxed), (SELECT count(*) FROM ours.checkout_funnel_relaxed),
			(SELECT count(*) FROM (SELECT * FROM flink.checkout_funnel_relaxed
				INTERSECT ALL SELECT * FROM ours.checkout_funnel_relaxed) r),
			(SELECT count(*) FROM (SELECT user_id, purchase_time FROM flink.checkout_funnel_relaxed
				INTERSECT ALL SELECT user_id, purchase_time FROM ours.checkout_funnel_relaxed) r)
		END
	figure('reported only: funnel with events between the steps');
	figure('  %7d conversions of Flink %7d of clickstream %7d equal %7d with the same user and purchase',
		$theirs, $ours, $equal, $purchase);
}

# ---- the comparison must be able to fail

# Runs our side again with a mistake in the code (src/core/mutant.h).
sub check_mutant
{
	my ($mutant, $table) = @_;

	query(<<~END);
		SELECT clickstream.reset('web', 'earliest');
		SET clickstream.mutant = '$mutant';
		CALL clickstream.finish('web');
		END
	my (undef, undef, $different) = counts($table);
	figure('with mutant %-16s %7d rows of %s differ', $mutant, $different, $table);
	cmp_ok($different, '>', 0, "$table differs with mutant $mutant");
}

# ---- in order

my ($flink_version) = map { m{flink-dist-(.*)\.jar$} } glob "$ENV{CLICKSTREAM_FLINK}/flink-dist-*.jar";
my ($kafka_version) = map { m{kafka_2\.13-(.*)\.jar$} } glob "$ENV{CLICKSTREAM_KAFKA_LIBS}/kafka_2.13-*.jar";

figure('Flink %s, Kafka %s, PostgreSQL %s', $flink_version, $kafka_version, query('SHOW server_version'));
figure('%-32s %d events, seed %d', 'topic', $events, $seed);
timed('loading', \&load_topics);
our_copy('seed.sql');
timed("clickstream's pipeline", \&run_ours);
psql_file('tables.sql');
check_topic();
timed('statements as published', \&check_surprises);
timed("Flink's job", \&run_job);
load_rows();

compare('user_sessions', qw(effective_user_id session_start));
compare('user_sessions_not_null', qw(effective_user_id session_start));
compare('page_views_per_minute', qw(window_start page_url page_title));
compare('page_views_rolling', qw(window_start page_url));
compare('traffic_by_source', qw(window_start utm_source utm_campaign device_type));
compare('funnel_step_counts', 'window_start');
compare('session_metrics', 'window_start');
compare('session_metrics_exact', 'window_start');
compare('checkout_funnel', qw(user_id purchase_time));
report_relaxed();

query(q{SELECT clickstream.stop('web')});
wait_until($node, q{SELECT state = 'stopped' FROM clickstream.stat_stream});
check_mutant('gap_exclusive', 'user_sessions');
check_mutant('unsorted_apply', 'checkout_funnel');

done_testing();
