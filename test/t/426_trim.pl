# Nothing that a snapshot could still see is truncated.  The older half of the
# state log goes by TRUNCATE, which is not MVCC-safe, so the worker asks for the
# half's lock first and then looks whether a snapshot is older than the copy.
#
# A reader and a pg_dump take their snapshots while entries are copied from one
# half to the other, so they need both.  The copying ends, many commits follow,
# and they come for the half when the worker has its lock and has not yet looked:
# they wait for it, between snapshot and lock.  What they get is compared with
# what was open at the snapshot's commit, to the byte: the reader's answer out of
# the log, and what is open in a database made of the dump.  The same once more
# with mutant 'trim_early', which does not look: then both must be wrong.  And a
# pg_dump whose snapshot is newer than the copy, which waits while the half is
# truncated, needs nothing of it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use IPC::Run ();
use Test::More;
use Time::HiRes qw(sleep time);
use ClickstreamTest;

my $node = new_node('main',
	"clickstream.commit_interval = '10ms'",
	'clickstream.batch_messages = 20',
	"clickstream.state_log_size = '64kB'");
my $produced = 0;

sub query { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

sub poll_for
{
	my ($what, $is_true) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	while (time < $end)
	{
		return if $is_true->();
		sleep 0.02;
	}
	die "timed out waiting for $what";
}

# 20 events are a commit.  40 visitors stay, one event in seven is of a visitor who comes once; a session's entry has
# some 8 kB, so that all that is open is copied forward in some commits, not in one.
query(<<~'END');
	CREATE TABLE gate ();    -- of a lower oid than the log has: pg_dump locks it first
	SELECT clickstream.create_stream('log', idle_timeout => '1 hour');
	SELECT clickstream.create_session('sessions', stream => 'log', gap => '1 minute',
		measures => 'count(*) AS event_count, max(repeat(page_url, 800)) AS long, count(DISTINCT page_url) AS pages');
	SELECT clickstream.create_window('days', stream => 'log', size => '1 day', group_by => 'device_type',
		measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, sum(length(page_url)) AS length');
	SELECT clickstream.create_funnel('funnel', stream => 'log', within => '1 hour', key => 'user_id', steps => ARRAY[
		clickstream.step('view', $$event_type = 'view'$$), clickstream.step('buy', $$event_type = 'buy'$$)]);
	CREATE FUNCTION produce_events(first int, before int) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(clickstream.produce('log', json_build_object('event_type', CASE n % 50 WHEN 0 THEN 'buy' ELSE 'view' END,
			'user_id', CASE n % 7 WHEN 0 THEN 'once' || n ELSE 'u' || n % 40 END, 'device_type', 'd' || n % 3,
			'event_time', '2025-03-01 12:00:00+00'::timestamptz + n * interval '0.2 seconds', 'page_url', '/page/' || n)::text))
		FROM generate_series(first, before - 1) AS n $$;
	END
my $id = query('SELECT stream_id FROM clickstream.stream');
my @halves = map { "clickstream.state_log_${id}_$_" } qw(a b);

# ---- traffic, and where the log stands

my $stands = <<~END;
	SELECT log_half, log_copied, log_copied_xid IS NOT NULL, pg_relation_filenode('$halves[0]'), pg_relation_filenode('$halves[1]')
	FROM clickstream.progress
	END

sub log_now
{
	my %log;

	@log{qw(half copied waits file0 file1)} = split /\|/, (split /\n/, query("$_[0]; $stands"))[-1];
	return \%log;
}

sub more
{
	my ($events) = @_;
	my $from = $produced;

	$produced += $events;
	return "SELECT produce_events($from, $produced)";
}

# Traffic, so many events at a time, until something is true of the log.
sub go_on_until
{
	my ($events, $is_true) = @_;
	my $log;

	do
	{
		$log = log_now(more($events) . "; CALL clickstream.wait_for('log', '$PostgreSQL::Test::Utils::timeout_default seconds')");
	} until $is_true->($log);
	return $log;
}

# ---- what is open

# Each with all its values; when a commit has changed an entry is not part of it: a copy is a change to the log only.
my $all_open = 'SELECT count(*) || $$ $$ || md5(string_agg(line, E\'\n\' ORDER BY line COLLATE "C")) FROM ('
  . join(' UNION ALL ', map { "SELECT '$_->[1] ' || (to_jsonb(o) - 'commit_number')::text AS line FROM clickstream.$_->[0]('$_->[1]') AS o" }
	  ([ open_sessions => 'sessions' ], [ open_windows => 'days' ], [ open_funnels => 'funnel' ]))
  . ') AS l';

# ---- who is caught

# Makes the worker wait at the point, which it comes by with the next commit.
sub hold_worker
{
	my ($point) = @_;
	my $file = $node->data_dir . "/clickstream_fault.$point";

	query("ALTER SYSTEM SET clickstream.fault = '$point:pause'; SELECT pg_reload_conf()");
	poll_for("the worker at $point", sub {
		query(more(20)) unless -e $file;
		return -e $file;
	});
	return $file;
}

# Lets it go on; returns when it has.
sub release_worker
{
	my ($file) = @_;

	query('ALTER SYSTEM RESET clickstream.fault; SELECT pg_reload_conf()');
	unlink $file or die "could not remove $file: $!";
	wait_for($node, 'log');
}

# Does a session wait for a lock on the relation, without having any on it?
sub waits_for
{
	my ($who, $relation) = @_;
	return query(<<~END) eq 't';
		SELECT coalesce(bool_or(NOT granted) AND NOT bool_or(granted), false)
		FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE application_name = '$who' AND wait_event_type = 'Lock' AND relation = '$relation'::regclass
		END
}

sub start_dump
{
	my ($file) = @_;
	my %dump = (file => $file, out => '', err => '');

	$dump{run} = IPC::Run::start([ 'pg_dump', '-d', $node->connstr('postgres') . ' application_name=dump', '-f', $file ],
		'<', \undef, '>', \$dump{out}, '2>', \$dump{err});
	return \%dump;
}

# What is open in a database made of the dump.
my $restored = 0;

sub open_in
{
	my ($dump) = @_;
	my $database = 'restored' . ++$restored;

	$dump->{run}->finish or return "pg_dump: $dump->{err}";
	query("CREATE DATABASE $database");
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $database, '-f', $dump->{file} ], 'the dump can be restored');
	my ($code, $out, $err) = $node->psql($database, $all_open);
	return $code ? "error: $err" : $out;
}

# What the reader said, and of which commit's log; undef: it was not read.
sub answer_of
{
	my ($reader, $from) = @_;
	my $answer = eval { $reader->query_safe('SELECT 1') } // "error: $@";
	my ($commit) = slurp_file($node->logfile, $from) =~ /open state of commit (\d+) read from its log/;

	return ($answer =~ /^(\d+ [0-9a-f]{32})$/m ? $1 : 'no answer', $commit);
}

# Reader and dump between their snapshots and their locks; what was open at the snapshot, what each of them saw, and
# the log as it was and is.
sub catch_both
{
	my ($mutant) = @_;
	my %seen = (before => go_on_until(20, sub { $_[0]{copied} eq 'f' }));    # entries of both halves are needed

	$seen{commit} = query('SELECT commit_number FROM clickstream.progress');
	$seen{open} = query($all_open);
	my $gate = background($node);
	$gate->query_safe('BEGIN; LOCK TABLE gate IN ACCESS EXCLUSIVE MODE');
	my $dump = start_dump(PostgreSQL::Test::Utils::tempdir() . "/dump$restored");
	my $reader = background($node, on_error_stop => 0);
	$reader->query_safe("SET application_name = 'reader'; SET log_min_messages = debug1; BEGIN ISOLATION LEVEL REPEATABLE READ");
	$reader->query_safe('SELECT pg_current_snapshot()');
	poll_for('pg_dump at the gate', sub { waits_for('dump', 'gate') });
	is(query('SELECT commit_number FROM clickstream.progress'), $seen{commit}, 'both have the snapshot of one commit');
	is(query('SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL'), '0', 'and nothing else holds anything back');

	# The copy ends, and so many commits follow that shared memory does not have any more what was open.
	my $commits = 80;
	my $half = $seen{before}{half};
	$seen{copied} = go_on_until(100, sub { ($commits -= 5) < 0 && $_[0]{copied} eq 't' && $_[0]{waits} eq 't' });
	query("ALTER SYSTEM SET clickstream.mutant = '$mutant'");

	my $paused = hold_worker('trim_locked');
	my $from = -s $node->logfile;
	$reader->query_until(qr/reading/, "\\echo reading\n$all_open;\n");
	$gate->query_safe('ROLLBACK');
	$gate->quit;
	my $older = $halves[1 - $half];
	poll_for('the reader, between snapshot and lock', sub { waits_for('reader', $older) });
	poll_for('pg_dump, between snapshot and lock', sub { waits_for('dump', $older) });
	release_worker($paused);
	$seen{after} = log_now('');
	@seen{qw(reader log_of)} = answer_of($reader, $from);
	$seen{dump} = open_in($dump);
	$reader->query('ROLLBACK');
	$reader->quit;
	query('ALTER SYSTEM RESET clickstream.mutant; SELECT pg_reload_conf()');
	return \%seen;
}

query(more(900));    # small at first: then copying would be over at once
query("SELECT clickstream.start('log')");
wait_for($node, 'log');

my $seen = catch_both('');
my $older = 1 - $seen->{before}{half};
is($seen->{copied}{half}, $seen->{before}{half}, 'all that was open is copied');
is($seen->{after}{"file$older"}, $seen->{before}{"file$older"}, 'the half that the snapshots need is not truncated');
is($seen->{log_of}, $seen->{commit}, "the reader reads the log, as of its snapshot's commit");
is($seen->{reader}, $seen->{open}, 'and has all that was open then');
is($seen->{dump}, $seen->{open}, 'so has the dump');
isnt(query($all_open), $seen->{open}, '(which has become something else)');
my $log = go_on_until(20, sub { $_[0]{waits} eq 'f' });
isnt($log->{"file$older"}, $seen->{before}{"file$older"}, 'when they are gone it is truncated');

# ---- a snapshot that is newer than the copy

$log = go_on_until(100, sub { $_[0]{copied} eq 'f' });
my $paused = hold_worker('mid_trim');
my $open = query($all_open);
my $dump = start_dump(PostgreSQL::Test::Utils::tempdir() . '/newer');
poll_for('pg_dump, between snapshot and lock', sub { waits_for('dump', $halves[1 - $log->{half}]) });
release_worker($paused);
isnt(log_now('')->{"file" . (1 - $log->{half})}, $log->{"file" . (1 - $log->{half})}, 'the half is truncated while pg_dump waits for it');
is(open_in($dump), $open, 'whose dump has all without it');

# ---- would it be noticed?

$seen = catch_both('trim_early');
isnt($seen->{reader}, $seen->{open}, "mutant 'trim_early': the reader's answer is wrong");
isnt($seen->{dump}, $seen->{open}, "mutant 'trim_early': so is the dump");

$node->stop;
done_testing();
