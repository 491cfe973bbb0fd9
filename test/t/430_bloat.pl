# Nothing bloats.  Steady load, and in it twice a REPEATABLE READ snapshot that
# lasts, in the first one a pg_dump, too; every table of ours, and the result
# tables, before, during and after.
#
# What a snapshot makes unavoidable: rows that have been updated or deleted
# stay as long as it is there.  The state log is truncated after it, and is as
# small as before two cycles of its halves later.  The other tables that a
# stream writes with each commit keep the room; but they use it again, so the
# second snapshot of equal length adds nothing.  No other table grows at all,
# and a row of a result table takes no more than before.
#
# In make check it lasts as long as the log's halves take to change some times;
# "make soak" runs it with snapshots of half SOAK_MINUTES each (1.2 times
# SOAK_MINUTES in all).  That the log keeps what a snapshot needs is in
# 426_trim.pl.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use IPC::Run ();
use List::Util qw(max);
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
	'autovacuum_naptime = 1s');
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

# One slice, and the stream has read it.
sub load_slice
{
	my $begun = time;

	@events = @{ site_events_from($produced, 20_000, $seed) } unless @events;
	produce_site($broker, 'web', [ splice @events, 0, $slice ], by_key => 1);
	$produced += $slice;
	poll_for('the slice', sub { query('SELECT sum(next_offset) FROM clickstream.partition') eq $produced });
	my $rest = $begun + $tick - time;
	sleep $rest if $rest > 0;
}

# ---- sizes

# Bytes of each of our tables, with indexes and all; a stream's own are called by what they are.
sub sizes
{
	my %size = map { split /\|/ } split /\n/, query(<<~'END');
		SELECT CASE WHEN c.oid IN (SELECT unnest(log_relations) FROM clickstream.stream) THEN 'state log'
				WHEN c.oid IN (SELECT spill_relation FROM clickstream.stream) THEN 'spill table'
				ELSE c.relname END, sum(pg_total_relation_size(c.oid))
		FROM pg_class c
		WHERE c.relkind IN ('r', 'p', 'm') AND c.relnamespace = 'clickstream'::regnamespace
		GROUP BY 1
		END
	return \%size;
}

# Those that keep what they are told: a row takes so many bytes.
my @kept = qw(t_sessions t_pages t_rolling t_funnel t_metrics clickstream.dead_letter_data);

sub bytes_a_row
{
	return map { $_ => query("SELECT pg_total_relation_size('$_') / greatest(count(*), 1) FROM $_") } @kept;
}

sub half { return query('SELECT log_half FROM clickstream.progress') }
sub commits { return query('SELECT commit_number FROM clickstream.progress') }

my @phases;
my %greatest;    # phase => table => bytes
my %row;         # phase => table => bytes of a row at its end
my %commits;     # phase => how many

sub note_sizes
{
	my ($name) = @_;
	my $size = sizes();

	for my $table (keys %$size)
	{
		$greatest{$name}{$table} = $size->{$table} if $size->{$table} > ($greatest{$name}{$table} // 0);
	}
}

# Load for so long, for so many slices and so many changes of the log's halves at least; how many slices it was.
# What else is to happen meanwhile happens after a third of the slices.
sub phase
{
	my ($name, $time, $slices, $changes, $meanwhile) = @_;
	my $end = time + $time;
	my $half = half();
	my $begin = $produced;
	my $commit = commits();
	my $third = $slices * 2 / 3;

	push @phases, $name;
	while (time < $end || $slices > 0 || $changes > 0)
	{
		load_slice();
		$slices--;
		my $now = half();
		$changes-- if $now != $half;
		$half = $now;
		note_sizes($name);
		if ($meanwhile && $slices <= $third && time >= $end - $time * 2 / 3)
		{
			$meanwhile->($name);
			undef $meanwhile;
		}
	}
	$row{$name} = { bytes_a_row() };
	$commits{$name} = commits() - $commit;
	note sprintf 'figure: %s: %d events, %d commits', $name, $produced - $begin, $commits{$name};
	return ($produced - $begin) / $slice;
}

# ---- what a snapshot sees

# All that is open.
my $open_rows = <<~'END';
	SELECT count(*) || ' ' || md5(string_agg(line, E'\n' ORDER BY line COLLATE "C"))
	FROM (SELECT (to_jsonb(s) - 'commit_number')::text AS line FROM clickstream.open_sessions('t_sessions') s) l
	END

# Asks for it; says of which commit's log it is.
sub read_open
{
	my ($reader) = @_;
	my $from = -s $node->logfile;
	my $answer = $reader->query_safe($open_rows);
	my ($commit) = slurp_file($node->logfile, $from) =~ /open state of commit (\d+) read from its log/;

	return ($answer, $commit // 'none');
}

# A snapshot, and what is open then, which others say; nothing is produced meanwhile.
sub begin_snapshot
{
	my %snapshot = (reader => background($node));

	$snapshot{reader}->query_safe('SET log_min_messages = debug1');
	while (1)
	{
		$snapshot{commit} = commits();
		$snapshot{reader}->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_snapshot()');
		$snapshot{open} = query($open_rows);
		return \%snapshot if $snapshot{commit} == commits();
		$snapshot{reader}->query_safe('ROLLBACK');    # something closed just then
	}
}

sub end_snapshot
{
	my ($snapshot, $name) = @_;
	my $reader = $snapshot->{reader};
	my ($open, $commit) = read_open($reader);

	is($commit, $snapshot->{commit}, "$name: too old for shared memory, so the log is read");
	is($open, $snapshot->{open}, "$name: what was open is there to the byte");
	$reader->query_safe('COMMIT');
	isnt($reader->query_safe($open_rows), $snapshot->{open}, '(which has become something else)');
	$reader->quit;
}

# A pg_dump, and the load goes on.
sub dump_under_load
{
	my ($name) = @_;
	my ($out, $err) = ('', '');
	my $dump = IPC::Run::start([ 'pg_dump', '-f', PostgreSQL::Test::Utils::tempdir() . '/dump', $node->connstr('postgres') ],
		'<', \undef, '>', \$out, '2>', \$err);
	my $begin = $produced;

	do
	{
		load_slice();
		note_sizes($name);
		$dump->pump_nb if $dump->pumpable;
	} while ($dump->pumpable);
	ok($dump->finish, 'pg_dump') or diag $err;
	note 'figure: ' . ($produced - $begin) . ' events during pg_dump';
}

# ---- before, during, after, during, after

create_site($node, 'web', 't', "brokers => '" . $broker->address . "', topic => 'web', start_from => 'earliest'",
	within => '1 minute', rolling => '2 minutes');
@events = @{ site_events_from(0, 20_000, $seed) };
produce_site($broker, 'web', [ splice @events, 0, $slice ], by_key => 1);
$produced = $slice;
query("SELECT clickstream.start('web')");

phase('warming up', $seconds / 20, 0, 2);
my $slices = phase('before', $seconds / 20, 0, 4);
$slices = 70 if $slices < 70;    # commits: the worker keeps for readers what has gone in its last 60
my ($first, $second) = ('first snapshot', 'second snapshot');

my $snapshot = begin_snapshot();
$slices = phase($first, $seconds / 2, $slices, 0, \&dump_under_load);
end_snapshot($snapshot, $first);
phase('two cycles', 0, 0, 4);
phase('between', $seconds / 20, 0, 2);

$snapshot = begin_snapshot();
phase($second, 0, $slices, 0);
end_snapshot($snapshot, $second);
phase('two more cycles', 0, 0, 4);
phase('after', $seconds / 20, 0, 2);

# ---- the figures

my %written = map { $_ => 1 } 'state log', 'spill table', qw(partition progress dead_letter_data);
my @ours = sort keys %{ $greatest{after} };
my @others = grep { !$written{$_} } @ours;

note sprintf 'figure: %-44s%s', 'kB at most', join '', map { sprintf '%17s', $_ } @phases;
for my $table (sort keys %written)
{
	note sprintf 'figure: %-44s%s', $table, join '', map { sprintf '%17d', $greatest{$_}{$table} / 1024 } @phases;
}
for my $table (@kept)
{
	note sprintf 'figure: %-44s%s', "bytes a row of $table", join '', map { sprintf '%17d', $row{$_}{$table} } @phases;
}

cmp_ok($greatest{$first}{'state log'}, '>', 1.5 * $greatest{before}{'state log'}, 'a snapshot keeps the log from being truncated');
cmp_ok($greatest{$_}{'state log'}, '<', 1.5 * $greatest{before}{'state log'}, "$_: it has its steady size") for qw(between after);

# With a snapshot and until its dead rows are gone.  More commits within as many slices are more versions of rows.
sub most { my $table = shift; return max(map { $greatest{$_}{$table} } @_) }
my $more = max(1, $commits{$second} / $commits{$first});

for my $table (grep { $_ ne 'dead_letter_data' } sort keys %written)
{
	cmp_ok(most($table, $second, 'two more cycles'), '<=', 1.4 * $more * most($table, $first, 'two cycles') + 64 * 1024,
		"the second snapshot uses the room of the first one's dead rows: $table");
}
is(join(', ', grep { $greatest{after}{$_} > $greatest{before}{$_} } @others), '', 'no other table of ours has grown: ' . join ', ', @others);
for my $table (@kept)
{
	cmp_ok($row{after}{$table}, '<=', 1.2 * $row{$_}{$table} + 10, "a row takes no more than $_: $table") for qw(before between);
}

# Who minds the room can have it back while the stream runs.
query("VACUUM FULL clickstream.$_") for qw(partition progress);
load_slice();
note_sizes('rewritten');
cmp_ok($greatest{rewritten}{$_}, '<=', $greatest{before}{$_}, "VACUUM FULL makes it as small as before: $_") for qw(partition progress);

query("CALL clickstream.finish('web')");
is(query("SELECT bool_and(balanced), sum(consumed) FROM clickstream.audit('web')"), "t|$produced", 'the ledger is balanced');
is(query("SELECT count(*) FROM clickstream.open_sessions('t_sessions')"), '0', 'and nothing is open');

$node->stop;
done_testing();
