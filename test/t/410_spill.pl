# Ten times more state than there is memory for: the same tables as with
# plenty, after kills and a restart too; the worker's memory is bounded; and
# the spill table is small again when all is closed.
#
# Visitors come, are seen again an hour later, and are gone for good: between,
# some 4 kB of each wait in the spill table, beside large distinct sets.  An old
# snapshot and a pg_dump see throughout what they saw first.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use ClickstreamTest;

my $visitors = 42_000;
my $seed = seed_of(410);

my $node = new_node('main',
	'restart_after_crash = on',
	'clickstream.state_memory = 1GB',
	'clickstream.batch_messages = 1000',
	"clickstream.commit_interval = '10ms'",
	"clickstream.state_log_size = '1MB'",
	"clickstream.restart_delay = '10ms'");

sub query { return $node->safe_psql('postgres', $_[0]) }

# ---- the events: each visitor at one moment and an hour and a half later; some say something between

query(<<~END);
	SELECT setseed($seed / 1000000.0);
	CREATE TABLE event AS
	SELECT v, '2025-03-01 00:00:00+00'::timestamptz + (v * 0.15 + 5400 * again + CASE WHEN again = 1 THEN 3600 * (r - 1) ELSE 0 END) * interval '1 second'
		AS event_time, '/page/' || trunc(random() * 5000)::int AS page_url
	FROM (SELECT v, random() AS r FROM generate_series(1, $visitors) v) visitors, generate_series(0, 2) again
	WHERE again <> 1 OR r < 0.2;
	CREATE TABLE message AS
	SELECT row_number() OVER (ORDER BY event_time, v) AS n, json_build_object('user_id', 'u' || v, 'event_type', 'view',
		'event_time', event_time, 'page_url', page_url, 'device_type', 'd' || v % 50)::text AS payload, event_time
	FROM event;
	CREATE INDEX ON message (n);
	ANALYZE message;
	END
my $messages = query('SELECT max(n) FROM message');

sub produce_messages
{
	my ($stream, $from, $to) = @_;
	query("SELECT count(clickstream.produce('$stream', payload, message_timestamp => event_time))
		FROM (SELECT * FROM message WHERE n > $from AND n <= $to ORDER BY n) m");
}

my @tables = qw(sessions funnel days hours metrics);

sub create
{
	my ($stream) = @_;
	query(<<~END);
		SELECT clickstream.create_stream('$stream', idle_timeout => '1 day', max_future => NULL, dedupe_by => 'user_id || page_url', dedupe_horizon => '2 hours');
		SELECT clickstream.create_session('${stream}_sessions', stream => '$stream', gap => '2 hours',
			measures => 'count(*) AS event_count, length(max(repeat(page_url, 370))) AS long, count(DISTINCT page_url) AS pages');
		SELECT clickstream.create_funnel('${stream}_funnel', stream => '$stream', within => '2 hours', emit => 'closed', steps => ARRAY[
			clickstream.step('first', \$\$page_url ~ '[0-4]\$'\$\$), clickstream.step('second', \$\$page_url ~ '[5-9]\$'\$\$)]);
		SELECT clickstream.create_window('${stream}_days', stream => '$stream', size => '1 day', group_by => 'device_type', emit => 'closed',
			measures => 'count(*) AS events, count(DISTINCT user_id) AS visitors');
		SELECT clickstream.create_window('${stream}_hours', stream => '$stream', size => '1 hour', group_by => 'page_url', emit_interval => '1 second',
			measures => 'count(*) AS events, last(user_id) AS last_one');
		SELECT clickstream.create_rollup('${stream}_metrics', source => '${stream}_sessions', size => '10 minutes',
			measures => 'count(*) AS sessions, sum(event_count) AS events');
		END
	return query("SELECT stream_id FROM clickstream.stream WHERE name = '$stream'");
}

# What a table holds but for what may depend on batches and on the stream's name.
sub content
{
	my ($stream, $table) = @_;
	return query(<<~END);
		SELECT count(*) || ' ' || md5(string_agg(line, E'\\n' ORDER BY line))
		FROM (SELECT (to_jsonb(t) - ARRAY['revision', 'session_id', 'attempt_id'])::text AS line FROM ${stream}_$table t) l
		END
}

# MB of a process: of its own memory; what it holds of the shared one comes to that.
sub memory_of
{
	my ($pid, $what) = @_;
	return 0 unless open my $status, '<', "/proc/$pid/status";
	my ($kb) = map { /^$what:\s+(\d+)/ ? $1 : () } <$status>;
	return ($kb // 0) / 1024;
}

my ($most_memory, $most_bytes) = (0, 0);

sub note_memory
{
	my ($stream) = @_;
	my ($pid, $bytes, $held) = split /\|/, query("SELECT coalesce(pid, 0), coalesce(state_bytes, 0), coalesce(used, 0)
		FROM clickstream.stat_stream LEFT JOIN clickstream.stat_memory USING (stream) WHERE stream = '$stream'");
	my $memory = memory_of($pid, 'RssAnon') + $held / 1048576;
	$most_memory = $memory if $memory > $most_memory;
	$most_bytes = $bytes / 1048576 if $bytes / 1048576 > $most_bytes;
}

sub run
{
	my ($stream, $trouble) = @_;
	my $done = 0;

	($most_memory, $most_bytes) = (0, 0);
	query("SELECT clickstream.start('$stream')");
	for my $part (1 .. 20)
	{
		my $to = int($messages * $part / 20);
		produce_messages($stream, $done, $to);
		$done = $to;
		$trouble->($part) if $trouble;
		wait_for($node, $stream);
		note_memory($stream);
	}
	return ($most_memory, $most_bytes);
}

# ---- plenty

create('plenty');
my ($plenty_memory, $plenty_bytes) = run('plenty');
query("CALL clickstream.finish('plenty'); SELECT clickstream.stop('plenty')");
wait_until($node, "SELECT state = 'stopped' FROM clickstream.stat_stream WHERE stream = 'plenty'");
my %expected = map { $_ => content('plenty', $_) } @tables;
isnt($expected{$_}, undef, "plenty: $_ has rows") for @tables;
cmp_ok($plenty_bytes, '>', 160, 'with plenty of memory the state takes ten times what it will have');

# ---- little, with kills, a restart, an old snapshot and a dump

$node->append_conf('postgresql.conf', "clickstream.state_memory = '16MB'\nclickstream.batch_memory = '16MB'");
$node->restart;
my $id = create('little');
my $spill = "clickstream.state_spill_$id";
my ($reader, $seen, $dump, $before);
# Which sessions: the values may be newer, as long as they are read in shared memory (430 compares all of them, in the log).
my $open = "SELECT count(*) || ' ' || md5(string_agg(s::text, E'\\n' ORDER BY s::text COLLATE \"C\")) FROM (SELECT session_id, visitor, session_start FROM clickstream.open_sessions('little_sessions')) AS s";

my $trouble = sub {
	my ($part) = @_;

	if ($part == 4 || $part == 9 || $part == 14)
	{
		my $pid = worker_of($node, 'little');
		kill 'KILL', $pid;
		wait_until($node, "SELECT coalesce(pid, 0) NOT IN (0, $pid) FROM clickstream.stat_stream WHERE stream = 'little'");
	}
	elsif ($part == 6)
	{
		wait_for($node, 'little');
		$reader = background($node, on_error_stop => 1);
		$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
		$seen = $reader->query_safe($open);
	}
	elsif ($part == 7)
	{
		$dump = $node->basedir . '/dump.sql';
		$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres'), '-n', 'clickstream' ], 'pg_dump while it runs');
	}
	elsif ($part == 8)
	{
		is($reader->query_safe($open), $seen, 'the old snapshot still shows the sessions that it showed');
		$reader->query_safe('COMMIT');
		$reader->quit;
	}
	elsif ($part == 11)
	{
		$node->stop('immediate');
		$node->start;
	}
	elsif ($part == 16)
	{
		$node->restart;
	}
};
my ($memory, $bytes) = run('little', $trouble);
like($seen, qr/^[1-9]\d{3,} /, 'it saw thousands');
my ($entries, $rows) = (query("SELECT state_entries FROM clickstream.stat_stream WHERE stream = 'little'"), query("SELECT count(*) FROM $spill"));
cmp_ok($rows, '>', 20_000, 'most of the state lies in the spill table');
is(query(<<~END), '0', 'and what lies there is not in the log');
	SELECT count(*) FROM (SELECT definition, bucket, who FROM $spill WHERE definition >= 0 GROUP BY 1, 2, 3 HAVING count(*) <> min(pieces)) r
	END
SKIP:
{
	skip 'sanitizers take memory of their own', 1 if ($ENV{CLICKSTREAM_INSTRUMENT} // '') eq 'sanitizers';
	cmp_ok($memory, '<', $plenty_memory / 2, "the worker's memory is bounded");
}
note sprintf 'figure: memory of the worker, MB: %.0f with plenty, %.0f with 16 MB for state; state %.0f MB, of %d entries %d in the table',
  $plenty_memory, $memory, $plenty_bytes, $entries, $rows;

query("CALL clickstream.finish('little')");
is(content('little', $_), $expected{$_}, "$_: as with plenty") for @tables;
is(query("SELECT bool_and(balanced) FROM clickstream.audit('little')"), 't', 'the ledger is balanced');
is(query("SELECT count(*) FROM $spill"), '0', 'when all is closed nothing is in the spill table');
my $large = query("SELECT pg_table_size('$spill')");
# Whoever analyzes some other table at this moment has a snapshot, and what it sees stays until it ends.
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	query("VACUUM $spill");
	last if query("SELECT pg_table_size('$spill')") < 1_000_000;
	sleep 0.1;
}
cmp_ok(query("SELECT pg_table_size('$spill')"), '<', 1_000_000, 'and it is small again');
note sprintf 'figure: spill table %.0f MB, after VACUUM %.1f MB', $large / 1048576, query("SELECT pg_table_size('$spill')") / 1048576;

# ---- the log is trimmed: no snapshot is open any more

my $after = 0;
for my $more (1 .. 400)
{
	query("SELECT count(clickstream.produce('little', json_build_object('user_id', 'late' || g, 'event_type', 'view', 'event_time',
		'2025-03-03 00:00+00'::timestamptz, 'page_url', '/')::text)) FROM generate_series(1, 100) g");
	wait_for($node, 'little');
	$after = query("SELECT pg_table_size('clickstream.state_log_${id}_a') + pg_table_size('clickstream.state_log_${id}_b')");
	last if $after < 8 * 1048576;
}
cmp_ok($after, '<', 8 * 1048576, 'the log is small, too');

$node->stop;
done_testing();
