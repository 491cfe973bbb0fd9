# Twelve streams in three databases, with room for ten workers and little
# memory: who has no worker says so, and gets one when another stream is done; the ten
# share clickstream.state_memory fairly, and together take no more than that;
# the server crashes in the middle; and each table is what plain SQL makes of
# that stream's messages, which are different ones in each.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use ClickstreamTest;

my $seed = seed_of(462);

my $workers = 10;
my $memory = 16 * 1024 * 1024;
my $messages = 12_000;
my @databases = qw(north south west);
my @names = qw(one two three four);    # in each of them, so that numbers of streams are the same, too
my @streams = map { my $database = $_; map { [ $database, $_ ] } @names } @databases;
my $node = new_node('main',
	"clickstream.max_workers = $workers",
	"clickstream.state_memory = '16MB'",
	'clickstream.batch_messages = 500',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '10ms'",
	'max_worker_processes = 20',
	'restart_after_crash = on',
	'fsync = off');

sub query { return $node->safe_psql($_[0], $_[1]) }

# Asks each database until it answers; all their lines.
sub lines_of_all
{
	my ($sql) = @_;
	my @lines;

	for my $database (@databases)
	{
		my ($code, $out) = (-1, '');
		for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
		{
			($code, $out) = ask($node, $sql, $database);
			last if $code == 0;
			sleep 0.1;
		}
		die "$database does not answer: $sql" if $code != 0;
		push @lines, map { "$database|$_" } split /\n/, $out;
	}
	return @lines;
}

sub poll
{
	my ($what, $is_true) = @_;

	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	while (time < $end)
	{
		return if $is_true->();
		sleep 0.1;
	}
	diag join "\n", lines_of_all('SELECT row_to_json(s) FROM clickstream.stat_stream AS s'), lines_of_all('SELECT row_to_json(m) FROM clickstream.stat_memory AS m');
	die "timed out waiting for $what";
}

# ---- what there is

for my $d (0 .. $#databases)
{
	query('postgres', "CREATE DATABASE $databases[$d]");
	query($databases[$d], <<~END);
		CREATE EXTENSION clickstream;
		SELECT setseed($seed / 1000000.0);
		CREATE TABLE message AS
		SELECT i AS n, s AS stream, 'v' || (random() * 6000)::int AS visitor, 'd' || (random() * 9)::int AS device,
			'/' || repeat('x', (random() * 300)::int) || (random() * 1000)::int AS page, '2026-01-01+00'::timestamptz + i * interval '1 second' AS at
		FROM generate_series(1, $messages) AS i, unnest('{@{[join ',', @names]}}'::text[]) AS s
		WHERE (i + $d) % 7 > 0;
		END
	for my $name (@names)
	{
		query($databases[$d], <<~END);
			SELECT clickstream.create_stream('$name', watermark_delay => '1 second', idle_timeout => '1 day', max_future => NULL);
			SELECT clickstream.create_session('${name}_visits', stream => '$name', gap => '1 day',
				measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, max(page_url) AS greatest');
			SELECT clickstream.create_window('${name}_hours', stream => '$name', size => '1 hour', group_by => 'device_type',
				measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors');
			END
	}
}

sub produce_where
{
	my ($condition) = @_;

	lines_of_all(<<~END);
		SELECT count(clickstream.produce(stream, json_build_object('user_id', visitor, 'event_type', 'page_view', 'device_type', device,
			'page_url', page, 'event_time', at)::text)) FROM (SELECT * FROM message WHERE $condition ORDER BY n) AS m
		END
}

# Streams in this state that have so much to read.
sub streams_that
{
	my ($state, $lag) = @_;
	return lines_of_all("SELECT stream FROM clickstream.stat_stream WHERE state = '$state' AND lag $lag");
}

# ---- more streams than workers

produce_where("n <= $messages / 2");
query($_->[0], "SELECT clickstream.start('$_->[1]')") for @streams;
sub ten_run
{
	my ($when) = @_;

	poll("ten to run, and two to wait, $when", sub {
		my @states = lines_of_all('SELECT state FROM clickstream.stat_stream');
		return $workers == grep({ /running$/ } @states) && 2 == grep { /no worker slot$/ } @states;
	});
	pass("ten run, and two have no worker slot, $when");
	poll('the reason', sub { 2 == lines_of_all(q(SELECT stream FROM clickstream.stat_stream WHERE state = 'no worker slot' AND problem ~ 'clickstream\.max_workers')) });
	pass("which say which limit that is, $when");
}
ten_run('at first');

# ---- one memory

poll('half of it', sub { $workers == streams_that('running', '= 0') });
# All is read and nothing comes any more: whoever has too much gives it back all the same, as others lack theirs.
my ($least, $most, $sum, $own);
my $is_fair = 0;
my $end = time + 30;
while (!$is_fair && time < $end)
{
	my @held = map { [ split /\|/ ] } lines_of_all('SELECT shared_bytes, own_bytes FROM clickstream.stat_memory WHERE shared_bytes IS NOT NULL');
	($sum, $own) = (0, 0);
	$sum += $_->[1], $own += $_->[2] for @held;
	($least, $most) = (sort { $a <=> $b } map { $_->[1] } @held)[ 0, -1 ];
	# What is shown in three databases is not of one moment.
	$is_fair = @held == $workers && $sum <= $memory && $own < 0.15 * $memory && $least > 0.6 * $memory / $workers && $most < 1.3 * $memory / $workers;
	sleep 0.1;
}
ok($is_fair, 'each has its share of the memory, and all together no more than there is');
note "figure: $workers streams hold $least to $most bytes of " . ($memory / $workers) . ", $sum of $memory in all, $own beside it";
is(scalar(lines_of_all('SELECT stream FROM clickstream.stat_memory WHERE spilled_keys > 0')), $workers, 'which is less than they need');

# ---- a crash in the middle

query('postgres', "ALTER SYSTEM SET clickstream.fault = 'before_commit:kill:5'");
query('postgres', 'SELECT pg_reload_conf()');
lines_of_all('SELECT clickstream.stop(stream) FROM clickstream.stat_stream');    # those that wait, too: else they would run now
poll('all to stop', sub { !grep { !/\|$/ } lines_of_all('SELECT pid FROM clickstream.stat_stream') });
produce_where("n > $messages / 2");
for my $stream (@streams)
{
	ask($node, "SELECT clickstream.start('$stream->[1]')", $stream->[0]);    # the server may be down by now
}
poll('the crash', sub { -e $node->data_dir . '/clickstream_fault.before_commit' });
lines_of_all('SELECT 1');
query('postgres', 'ALTER SYSTEM RESET clickstream.fault');
query('postgres', 'SELECT pg_reload_conf()');
for my $stream (@streams)
{
	poll('the server', sub { (ask($node, "SELECT clickstream.start('$stream->[1]')", $stream->[0]))[0] == 0 });
}
ten_run('after the crash');
cmp_ok(scalar(lines_of_all('SELECT stream FROM clickstream.stat_stream WHERE lag > 0')), '>=', 2, 'which was in the middle');

# ---- who is done makes room

my %stopped;
poll('all to be done', sub {
	for my $line (streams_that('running', '= 0'))
	{
		my ($database, $stream) = split /\|/, $line;
		query($database, "SELECT clickstream.stop('$stream')") unless $stopped{$line}++;
	}
	return @streams == lines_of_all('SELECT stream FROM clickstream.stat_stream WHERE lag = 0 AND pid IS NULL');
});
pass('those that waited have run, too');

# ---- all of it

for my $database (@databases)
{
	my @wrong;

	for my $stream (@names)
	{
		query($database, "CALL clickstream.finish('$stream')");
		my $wrong = query($database, <<~END);
			WITH message AS (SELECT * FROM message WHERE stream = '$stream'),
			visits AS (SELECT visitor, count(*), count(DISTINCT page), max(page) FROM message GROUP BY 1),
			got_visits AS (SELECT effective_user_id, events, pages, greatest FROM ${stream}_visits WHERE is_final),
			hours AS (SELECT date_bin('1 hour', at, '2026-01-01+00'), device, count(*), count(DISTINCT visitor) FROM message GROUP BY 1, 2),
			got_hours AS (SELECT window_start, device_type, events, visitors FROM ${stream}_hours WHERE is_final)
			SELECT (SELECT count(*) FROM (TABLE visits EXCEPT ALL TABLE got_visits) AS d) + (SELECT count(*) FROM (TABLE got_visits EXCEPT ALL TABLE visits) AS d)
				+ (SELECT count(*) FROM (TABLE hours EXCEPT ALL TABLE got_hours) AS d) + (SELECT count(*) FROM (TABLE got_hours EXCEPT ALL TABLE hours) AS d)
			END
		my $books = query($database, "SELECT bool_and(balanced), sum(used) = (SELECT count(*) FROM message WHERE stream = '$stream') FROM clickstream.audit('$stream')");
		push @wrong, "$stream: $wrong, $books" if $wrong ne '0' || $books ne 't|t';
	}
	is(join('; ', @wrong), '', "$database: tables and ledgers of four streams are those of their messages");
}
$node->stop;
done_testing();
