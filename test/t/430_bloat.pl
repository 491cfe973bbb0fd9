# Nothing bloats.  Steady load, and in the middle of it a REPEATABLE READ
# snapshot that lasts half of the time and a pg_dump: the tables of ours before,
# during and after.  The state log may grow by what is written while the snapshot
# is there; two cycles of its halves later it is as small as before.  And nothing
# that a snapshot could still see is truncated: a reader and a pg_dump that come
# between the worker's look at the snapshots and its lock are shown all.
#
# In make check it lasts as long as the log's halves take to change some times;
# "make soak" runs it for SOAK_MINUTES.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use IPC::Run ();
use Test::More;
use Time::HiRes qw(sleep time);
use ClickstreamTest;
use ClickstreamSite;

my $seconds = 60 * ($ENV{SOAK_MINUTES} // 0);
my $seed = seed_of(430);
my $tick = 0.1;      # s between slices, at least
my $slice = 2000;    # events

my $node = new_node('main',
	"clickstream.commit_interval = '50ms'",
	"clickstream.state_log_size = '128kB'",
	'clickstream.force_spill = 100',
	'autovacuum_naptime = 1s',
	"include_if_exists = 'fault.conf'");
my $broker = start_broker(web => 4);
my $produced = 0;
my @events;

sub query { return $node->safe_psql('postgres', $_[0]) }

sub poll_for
{
	my ($what, $is_true) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	while (time < $end)
	{
		return 1 if $is_true->();
		sleep 0.02;
	}
	die "timed out waiting for $what";
}

# One slice, and the stream has read it (unless it is held, and somebody else says what is to be waited for).
sub load_slice
{
	my ($until) = @_;
	my $begun = time;

	@events = @{ site_events_from($produced, 20_000, $seed) } unless @events;
	produce_site($broker, 'web', [ splice @events, 0, $slice ], by_key => 1);
	$produced += $slice;
	poll_for('the slice', sub { ($until && $until->()) || query('SELECT sum(next_offset) FROM clickstream.partition') eq $produced });
	my $rest = $begun + $tick - time;
	sleep $rest if $rest > 0;
}

# ---- sizes

# Bytes of each of our tables; a stream's own are called by what they are.
sub sizes
{
	my %size = map { split /\|/ } split /\n/, query(<<~'END');
		SELECT CASE WHEN c.oid IN (SELECT unnest(log_relations) FROM clickstream.stream) THEN 'state log'
				WHEN c.oid IN (SELECT spill_relation FROM clickstream.stream) THEN 'spill table'
				ELSE c.relname END, sum(pg_total_relation_size(c.oid))
		FROM pg_class c
		WHERE c.relkind = 'r' AND c.relnamespace = 'clickstream'::regnamespace
		GROUP BY 1
		END
	return \%size;
}

sub half { return query('SELECT log_half FROM clickstream.progress') }

my %greatest;    # phase => table => bytes

# Load for so long, for so many slices and so many changes of the log's halves at least; how many slices it was.
sub phase
{
	my ($name, $time, $slices, $changes) = @_;
	my $end = time + $time;
	my $half = half();
	my $begin = $produced;

	while (time < $end || $slices > 0 || $changes > 0)
	{
		load_slice();
		$slices--;
		my $now = half();
		$changes-- if $now != $half;
		$half = $now;
		my $size = sizes();
		for my $table (keys %$size)
		{
			$greatest{$name}{$table} = $size->{$table} if $size->{$table} > ($greatest{$name}{$table} // 0);
		}
	}
	note "figure: $name: " . ($produced - $begin) . ' events, ' . join ', ',
	  map { sprintf '%s %d kB', $_, $greatest{$name}{$_} / 1024 } sort keys %{ $greatest{$name} };
	return ($produced - $begin) / $slice;
}

# Whose sessions are open, as text to compare: what a snapshot sees; their values may be newer.
my $open_state = <<~'END';
	SELECT count(*) || ' ' || md5(string_agg(s::text, E'\n' ORDER BY s::text COLLATE "C"))
	FROM (SELECT DISTINCT visitor FROM clickstream.open_sessions('t_sessions')) s
	END

# All that is open, values too.  A read from the log shows what was at the snapshot's commit, to the byte.
my $open_rows = $open_state =~ s/DISTINCT visitor/*/r;

# Asks for it; says whether the log was read.
sub read_all_open
{
	my ($reader) = @_;
	my $from = -s $node->logfile;
	my $answer = $reader->query_safe($open_rows);
	my $log = slurp_file($node->logfile, $from);

	return ($answer, $log =~ /open state of commit \d+ read from its log/);
}

create_site($node, 'web', 't', "brokers => '" . $broker->address . "', topic => 'web', start_from => 'earliest'",
	within => '1 minute', rolling => '2 minutes');
@events = @{ site_events_from(0, 20_000, $seed) };
produce_site($broker, 'web', [ splice @events, 0, $slice ], by_key => 1);
$produced = $slice;
query("SELECT clickstream.start('web')");

# ---- before, during, after

phase('warming up', $seconds / 8, 0, 2);
my $cycles = phase('before', $seconds / 8, 0, 4);

my $reader = background($node);
$reader->query_safe('SET log_min_messages = debug1; BEGIN ISOLATION LEVEL REPEATABLE READ');
my $seen = $reader->query_safe($open_state);
phase('snapshot', $seconds / 4, $cycles, 0);
my ($seen_all, $was_log);
for (1 .. 200)    # the worker keeps for readers what has gone in its last 60 commits
{
	($seen_all, $was_log) = read_all_open($reader);
	last if $was_log;
	load_slice();
}
ok($was_log, 'the snapshot is too old for shared memory');
my $file = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-f', $file, 'postgres' ], 'pg_dump');
phase('snapshot', $seconds / 4, $cycles, 0);
is($reader->query_safe($open_state), $seen, 'the snapshot still sees what it saw at first');
my ($all, $from_log) = read_all_open($reader);
ok($from_log, 'in the log');
is($all, $seen_all, 'the very same rows as before');
$reader->query_safe('COMMIT');
isnt($reader->query_safe($open_state), $seen, '(which has become something else)');
$reader->quit;

phase('two cycles', 0, 0, 4);
phase('after', $seconds / 4, 0, 4);
cmp_ok($greatest{snapshot}{'state log'}, '>', 1.5 * $greatest{before}{'state log'}, 'the snapshot kept the log from being truncated');
cmp_ok($greatest{after}{'state log'}, '<', 1.5 * $greatest{before}{'state log'}, 'and two cycles later it has its steady size');
for my $table (grep { !/^(?:state log|dead_letter_data)$/ } sort keys %{ $greatest{after} })
{
	my $limit = 1.2 * ($greatest{snapshot}{$table} // 0) + 128 * 1024;
	cmp_ok($greatest{after}{$table}, '<=', $limit, "$table does not grow any more");
}

# ---- caught between snapshot and lock

sub set_fault
{
	my ($fault) = @_;
	my $conf = $node->data_dir . '/fault.conf';

	open my $out, '>', "$conf.new" or die "could not write $conf: $!";
	print $out "clickstream.fault = '$fault'\n";
	close $out;
	rename "$conf.new", $conf or die "could not write $conf: $!";
	$node->reload;
}

for my $point (qw(before_trim mid_trim))
{
	my $paused = $node->data_dir . "/clickstream_fault.$point";

	set_fault("$point:pause");
	load_slice(sub { -e $paused }) until -e $paused;

	# The half is truncated under the eyes of a snapshot that may have seen it, and of a dump that waits for it.
	my $caught = background($node);
	$caught->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$caught->query_safe('SELECT count(*) FROM t_pages');
	$caught->query_until(qr/reading/, "\\echo reading\n$open_state;\n");
	my ($out, $err) = ('', '');
	my $dump = IPC::Run::start([ 'pg_dump', '-d', $node->connstr('postgres') . ' application_name=caught', '-f', $file ],
		'<', \undef, '>', \$out, '2>', \$err);
	poll_for('pg_dump, or its end', sub {
		$dump->pump_nb if $dump->pumpable;
		return !$dump->pumpable || query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'caught'") > 0;
	});
	set_fault('');
	unlink $paused;
	poll_for('the end of the topic', sub { query('SELECT sum(next_offset) FROM clickstream.partition') eq $produced });
	my $answer = $caught->query_safe('SELECT 1');
	like($answer, qr/^\d+ [0-9a-f]{32}$/m, "a reader caught at $point has an answer");
	my ($first) = $answer =~ /^(\d+ [0-9a-f]{32})$/m;
	is($caught->query_safe($open_state), $first, 'and the same one after the truncation');
	$caught->query_safe('COMMIT');
	$caught->quit;
	ok($dump->finish, "a pg_dump caught at $point goes through") or diag $err;
}

query("CALL clickstream.finish('web')");
is(query("SELECT bool_and(balanced), sum(consumed) FROM clickstream.audit('web')"), "t|$produced", 'the ledger is balanced');
is(query($open_state), '', 'and nothing is open');

$node->stop;
done_testing();
