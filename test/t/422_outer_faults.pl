# What others do to a running stream: SIGKILL of another backend and of the
# postmaster, an immediate stop, a worker ended or cancelled, a trigger that
# raises, a deadlock with DDL, a full disk, a full lock table, time-outs that
# somebody set for the whole server, a lock held for long.
#
# The stream goes on by itself, or stops with the reason where the cause stays,
# and goes on when it is gone; the tables are byte for byte those of a
# server that was left in peace.  Where a process is ended the worker is held
# in the middle of a batch, so that there is uncommitted work to throw away; and where
# the server ends also before, between commit and publication, while the log is
# copied forward and while it is read.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;
use ClickstreamTwins;

my $seed = seed_of(422);
my $twins = ClickstreamTwins->new($seed,
	'clickstream.batch_messages = 200',
	"clickstream.commit_interval = '10ms'",
	"clickstream.state_log_size = '64kB'",    # so that its halves change all the time
	"clickstream.restart_delay = '10ms'",
	'max_connections = 10',                   # so that the lock table is small
	'max_locks_per_transaction = 10');
my $node = $twins->hurt;
my @in_a_batch = qw(decoded evaluated applied before_write before_log after_log before_commit);

srand $seed;

# The worker is held at the point, or somewhere in a batch; returns its process.
sub hold_worker
{
	my ($point) = @_;
	my $pass = $point ? 1 : 1 + int(rand 3);

	$point //= $in_a_batch[ rand @in_a_batch ];
	$twins->fault("$point:pause:$pass");
	if ($point eq 'mid_recovery')
	{
		$twins->query("SELECT clickstream.stop('web')");
		$twins->query("SELECT clickstream.start('web')");
	}
	$twins->feed(sub { $twins->fault_happened }) or die "nobody came by $point";
	note "held at $point";
	return $twins->query("SELECT pid FROM clickstream.stat_stream");
}

sub release_worker
{
	$twins->clear_fault;
	unlink $twins->fault_file($twins->{fault});
}

sub worker_is
{
	my ($state) = @_;
	$twins->poll("the stream being $state", sub { $twins->query('SELECT state FROM clickstream.stat_stream') eq $state });
	return $twins->query('SELECT last_error FROM clickstream.stat_stream');
}

# ---- processes that are ended

my %end_of_all = (
	'SIGKILL of another backend' => sub {
		my $other = background($node);

		kill 'KILL', $other->query_safe('SELECT pg_backend_pid()');
		release_worker();
		return sub { eval { $other->quit } };
	},
	'SIGKILL of the postmaster' => sub {
		$node->kill9;
		release_worker();
		$twins->start_hurt;
	},
	'an immediate stop' => sub {
		$node->stop('immediate');
		release_worker();
		$twins->start_hurt;
	});
for my $what (sort keys %end_of_all)
{
	for my $point (undef, qw(before_begin after_commit mid_copy mid_recovery))
	{
		hold_worker($point);
		my $after = $end_of_all{$what}->();
		$twins->are_same("$what, " . ($point // 'in a batch'));
		$after->() if ref $after eq 'CODE';
	}
}

my $worker = hold_worker();
is($twins->query("SELECT pg_terminate_backend($worker)"), 't', 'the worker is told to end');
$twins->poll('the end of the worker', sub { !kill 0, $worker });
release_worker();
$twins->are_same('pg_terminate_backend() of the worker');

$worker = hold_worker();
is($twins->query("SELECT pg_cancel_backend($worker)"), 't', 'the batch is cancelled');
$twins->poll('the cancellation', sub { $twins->query("SELECT last_error_sqlstate = '57014' FROM clickstream.stat_stream") eq 't' });
release_worker();
$twins->are_same('pg_cancel_backend() of the worker');

# ---- a trigger that raises

$twins->query(<<~'END');
	CREATE FUNCTION no_more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no more of these'; END $$;
	CREATE TRIGGER no_more BEFORE INSERT ON t_sessions FOR EACH ROW EXECUTE FUNCTION no_more();
	END
$twins->feed(sub { $twins->query('SELECT state FROM clickstream.stat_stream') eq 'failed' });
is(worker_is('failed'), 'no more of these', 'a trigger that raises stops the stream, with its words');
$twins->query('DROP TRIGGER no_more ON t_sessions');
$twins->query("SELECT clickstream.start('web')");
$twins->are_same('the trigger was dropped, and the stream started');

# ---- a deadlock with DDL

$worker = $twins->query('SELECT pid FROM clickstream.stat_stream');
# The user holds what the worker takes last, and wants what it has; the worker is the one to see it.
$twins->fault('before_commit:pause');
$twins->feed(sub { $twins->fault_happened }) or die 'nobody came by';
release_worker();
# A batch in which no session closes has no lock on their table.
my $has_lock = '';
for (1 .. 50)
{
	$twins->fault('before_log:pause');
	$twins->feed(sub { $twins->fault_happened }) or die 'nobody came by';
	$has_lock = $twins->query("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $worker AND relation = 't_sessions'::regclass)");
	last if $has_lock eq 't';
	release_worker();
}
is($has_lock, 't', 'the worker is held while it has the table');
my $user = background($node);
$user->query_safe("SET deadlock_timeout = '1h'; BEGIN; SELECT * FROM clickstream.partition FOR UPDATE");
my $user_pid = $user->query_safe('SELECT pg_backend_pid()');
$user->query_until(qr/altering/, "\\echo altering\nALTER TABLE t_sessions ADD COLUMN note text DEFAULT 'added'; COMMIT;\n");
$twins->poll('the user to wait', sub { $twins->query("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $user_pid") eq 't' });
release_worker();
$twins->poll('a deadlock', sub { slurp_file($node->logfile) =~ /\[$worker\] ERROR:  deadlock detected/ });
$twins->are_same('a deadlock with ALTER TABLE: the worker gives way and comes again');
$user->quit;
is($twins->query("SELECT count(*) FROM pg_attribute WHERE attrelid = 't_sessions'::regclass AND attname = 'note'"), '1',
	'and the user has the column');

# ---- a lock held for longer than the worker waits

$user = background($node);
$user->query_safe('BEGIN; LOCK TABLE t_pages IN ACCESS EXCLUSIVE MODE');
my $waited = '';
$twins->feed(sub {
	$waited = $twins->query("SELECT last_error_sqlstate || ' ' || last_error FROM clickstream.stat_stream");
	$waited =~ /^55P03/;
});
is($waited, '55P03 canceling statement due to lock timeout', 'a lock held for long: the worker does not wait for ever');
$user->query_safe('COMMIT');
$user->quit;
$twins->are_same('the lock is gone');

# ---- no room for locks

$user = background($node);
$user->query_safe(<<~'END');
	BEGIN;
	DO $$
	BEGIN
		FOR i IN 1 .. 1000000 LOOP
			BEGIN
				PERFORM pg_advisory_xact_lock(i);
			EXCEPTION WHEN out_of_memory THEN
				EXIT;
			END;
		END LOOP;
	END $$;
	END
my $met = qr/\[$worker\] ERROR:  out of shared memory/;
ok($twins->feed(sub { slurp_file($node->logfile) =~ $met }), 'the worker finds the lock table full');
$user->query('ROLLBACK');
$user->quit;
$twins->are_same('the lock table was full');

# ---- a full disk

$twins->fill_disk;
my $said = '';
$twins->feed(sub {
	$said = $twins->query("SELECT last_error_sqlstate || ' ' || last_error FROM clickstream.stat_stream");
	$said =~ /^53100 could not extend file/;
});
like($said, qr/^53100 could not extend file .*No space left on device/, 'the disk is full, and the stream says so');
$twins->empty_disk;
$twins->are_same('there is room again');

# ---- time-outs for everybody

{
	# But for this test's own sessions: even a SET would take longer, now and then.
	local $ENV{PGOPTIONS} = '-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0';

	my $log_before = -s $node->logfile;
	$twins->query("ALTER SYSTEM SET statement_timeout = '1ms'");
	$twins->query("ALTER SYSTEM SET lock_timeout = '1ms'");
	$twins->query("ALTER SYSTEM SET idle_in_transaction_session_timeout = '1ms'");
	$twins->query('SELECT pg_reload_conf()');
	$twins->produce_slice for 1 .. 5;
	$twins->are_same('time-outs of the server are not for the worker');
	# Nor do they cancel what it then does again: it waits for a lock, and nobody complains.
	my $canceled = qr/ERROR|FATAL|canceling/;
	$worker = worker_of($node, 'web');
	$user = background($node);
	$user->query_safe('BEGIN; LOCK TABLE t_pages IN ACCESS EXCLUSIVE MODE');
	$twins->feed(sub {
		$twins->query("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $worker AND NOT granted)") eq 't'
		  || slurp_file($node->logfile, $log_before) =~ $canceled;
	});
	$user->query_safe('COMMIT');
	$user->quit;
	$twins->are_same('not even while it waits for a lock');
	unlike(slurp_file($node->logfile, $log_before), $canceled, 'and no time-out made it begin anything again');
	is(worker_of($node, 'web'), $worker, 'it is still the same process');
	$twins->query('ALTER SYSTEM RESET ALL');
	$twins->query('SELECT pg_reload_conf()');
	$twins->poll('the old settings', sub {
		local $ENV{PGOPTIONS} = '';
		return ((ask($node, 'SHOW statement_timeout'))[1] // '') eq '0';
	});
}

$twins->finish;
$twins->stop;
done_testing();
