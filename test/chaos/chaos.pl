# A stream through everything that can happen to it, for CHAOS_MINUTES: what
# core/fault.h can inject, kills of each kind of process, stops, a full disk,
# full lock table, locks, deadlocks, triggers that raise, long snapshots, a
# broker that answers with errors, late or not at all, users' DDL on and beside
# its tables.  run.sh starts it.
#
# Round after round events are produced and up to three of these happen while
# the stream works on them; then each result table is byte for byte that of a
# server that reads the same topic from another broker and is left in peace, and
# the ledger is balanced.  After some rounds the stream is finished, all
# of it is compared, and the next topic begins.
#
# What happens follows from the seed (CLICKSTREAM_SEED); when it happens does
# from the machine, too.  So it is looked at whether it did: an injected fault
# counts if the stream came by its point, SQL if it did not fail, a kill or a stop
# if it threw away a transaction.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use ClickstreamTest;
use ClickstreamTwins;

my $minutes = $ENV{CHAOS_MINUTES} // 1;
my $seed = $ENV{CLICKSTREAM_SEED} // int(rand 1_000_000);
my $rounds_of_topic = 15;
my $end = time + 60 * $minutes;

my $twins = ClickstreamTwins->servers(
	'clickstream.batch_messages = 500',
	"clickstream.commit_interval = '20ms'",
	"clickstream.state_log_size = '64kB'",
	"clickstream.restart_delay = '10ms'",
	'clickstream.force_spill = 100',
	'max_connections = 15',
	'max_locks_per_transaction = 10');
my $node = $twins->hurt;
my $broker;
my %happened;        # kind => how often
my %in_vain;         # the same of what nothing came of
my $failed;          # the last SQL that might
my $may_fail = 0;    # the stream may have stopped for good: start it again

# ---- tools

my @points = slurp_file("$ClickstreamTest::top/src/core/fault.h") =~ /^\tF\([A-Z_]+, "(\w+)"\)/mg;
my @tables = map { "t_$_" } qw(sessions pages rolling funnel metrics steps slow_sessions slow_metrics slow_pages slow_funnel log);

sub one_of { return $_[ rand @_ ] }
sub a_while { sleep(rand($_[0] // 1)) }

# SQL that may fail: others happen at the same time.
sub try
{
	my ($sql) = @_;
	my ($code, $out) = ask($node, $sql);
	$failed = $code != 0;
	return $failed ? '' : $out;
}

# Another session does something that lasts.
sub meanwhile
{
	my ($sql, $wait) = @_;
	my $session = eval { background($node, on_error_stop => 0) } or return;

	eval { $session->query($sql); a_while($wait); $session->quit };
	eval { $session->{run}->kill_kill } if $@;
}

sub kill_pid
{
	my ($signal, $pid) = @_;
	kill $signal, $pid if $pid =~ /^\d+$/;
}

# Strikes in the middle of a transaction: the stream is held up in it.
sub in_transaction
{
	my ($strike) = @_;
	my $point = one_of(qw(decoded evaluated applied before_write before_log after_log before_commit));
	my $did;

	$twins->fault("$point:pause:" . (1 + int(rand 4)));
	$twins->produce_slice;
	for (1 .. 100)
	{
		$did = $twins->fault_happened and last;
		sleep 0.02;
	}
	$twins->clear_fault;    # whoever starts from now on is not held up
	$strike->(try("SELECT pid FROM clickstream.stat_stream WHERE stream = 'web'"));
	$twins->end_pause;
	$failed = !$did;
}

# ---- what can happen

my %injections = map { $_ => 1 } qw(error refuse disk memory fatal kill);

my %events = (
	'injected fault' => sub {
		my $action = one_of(sort keys %injections);
		my $fault = one_of(@points) . ":$action:" . (1 + int(rand 4));

		$twins->fault($fault);
		$may_fail = 1 if $action eq 'refuse';
		try("SELECT clickstream.stop('web')"), try("SELECT clickstream.start('web')") if $fault =~ /recover/;
		return sub { my $did = $twins->fault_happened; $twins->clear_fault; return $did };
	},
	'worker killed' => sub { in_transaction(sub { kill_pid('KILL', $_[0]) }) },
	'backend killed' => sub {
		my $session = eval { background($node) } or return;
		kill_pid('KILL', eval { $session->query('SELECT pg_backend_pid()') } // '');
		eval { $session->quit };
	},
	'postmaster killed' => sub { in_transaction(sub { $node->kill9; $twins->start_hurt }) },
	'immediate stop' => sub { in_transaction(sub { $node->stop('immediate', fail_ok => 1); $twins->start_hurt }) },
	'restart' => sub { in_transaction(sub { $node->stop('fast', fail_ok => 1); $twins->start_hurt }) },
	'worker terminated' => sub { in_transaction(sub { try('SELECT pg_terminate_backend(' . ($_[0] || 0) . ')') }) },
	'batch cancelled' => sub { in_transaction(sub { try('SELECT pg_cancel_backend(' . ($_[0] || 0) . ')') }) },
	'stop and start' => sub { try("SELECT clickstream.stop('web')"); a_while; try("SELECT clickstream.start('web')") },
	'trigger that raises' => sub {
		my $table = one_of(@tables);
		$may_fail = 1;
		try("CREATE TRIGGER no_more BEFORE INSERT OR UPDATE ON $table FOR EACH ROW EXECUTE FUNCTION no_more()");
		return sub { $twins->query("DROP TRIGGER IF EXISTS no_more ON $table"); 1 };
	},
	'full disk' => sub { $twins->fill_disk; return sub { $twins->empty_disk; $twins->revive_hurt; 1 } },
	'full lock table' => sub {
		meanwhile(<<~'END');
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
	},
	'table locked' => sub { meanwhile('BEGIN; LOCK TABLE ' . one_of(@tables) . ' IN ACCESS EXCLUSIVE MODE', 3) },
	'deadlock' => sub {
		my ($first, $second) = sort { rand() <=> 0.5 } @tables;
		meanwhile("SET lock_timeout = '5s'; BEGIN; LOCK TABLE $first IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.2);"
			  . "ALTER TABLE $second ADD COLUMN IF NOT EXISTS locked int");
	},
	'long snapshot' => sub {
		meanwhile("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t_sessions; SELECT count(*) FROM clickstream.open_sessions('t_sessions')", 5);
	},
	'time-outs' => sub {
		my $settings = sub { $node->safe_psql('postgres', $_) for @_ };
		$twins->query("SET statement_timeout = 0; SELECT 1");
		try("ALTER SYSTEM SET statement_timeout = '1s'");
		try("ALTER SYSTEM SET lock_timeout = '1ms'");
		try('SELECT pg_reload_conf()');
		return sub { $twins->query("ALTER SYSTEM RESET ALL"); $twins->query('SELECT pg_reload_conf()'); 1 };
	},

	# the broker
	'broker: errors of Fetch' => sub { $broker->command('errors 1 ' . (1 + int rand 20) . ' ' . one_of(5, 6, 7, 9, 13, -195)) },
	'broker: errors of Metadata' => sub { $broker->command('errors 3 ' . (1 + int rand 5) . ' ' . one_of(5, 7, 13, -195)) },
	'broker: errors of ListOffsets' => sub { $broker->command('errors 2 ' . (1 + int rand 5) . ' ' . one_of(5, 6, 7, -195)) },
	'broker: down' => sub { my $one = one_of('', ' 1', ' 2', ' 3'); $broker->command("down$one"); a_while(2); $broker->command("up$one") },
	'broker: slow' => sub { $broker->command('rtt ' . int(rand 500)); return sub { $broker->command('rtt 0'); 1 } },
	'broker: another leader' => sub { $broker->command("leader web $_ " . (1 + int rand 3)) for 0 .. 3 },

	# what users do to tables
	'column added' => sub { try('ALTER TABLE ' . one_of(@tables) . " ADD COLUMN IF NOT EXISTS extra text DEFAULT 'x'") },
	'column dropped' => sub { try('ALTER TABLE ' . one_of(@tables) . ' DROP COLUMN IF EXISTS extra') },
	'index made' => sub { my $t = one_of(@tables); try("CREATE INDEX IF NOT EXISTS ${t}_extra ON $t (is_final)") },
	'index dropped' => sub { try('DROP INDEX IF EXISTS ' . one_of(@tables) . '_extra') },
	'VACUUM FULL' => sub { try('VACUUM FULL ' . one_of(@tables)) },
	'VACUUM FULL of everything' => sub { try('VACUUM FULL') },
	'REINDEX' => sub { try('REINDEX TABLE ' . one_of(@tables)) },
	'ANALYZE' => sub { try('ANALYZE') },
	'checkpoint' => sub { try('CHECKPOINT') },
	'definition made' => sub {
		try("SELECT clickstream.create_window('extra_' || floor(random() * 3), stream => 'web', size => '1 minute', "
		  . "filter => \$\$event_type <> 'beacon'\$\$, measures => 'count(*) AS n')");
	},
	'definition dropped' => sub { try("SELECT clickstream.drop_window('extra_' || floor(random() * 3))") },
	'decode workers' => sub { try("SELECT clickstream.alter_stream('web', decode_workers => " . int(rand 3) . ')') },
	'alter_stream' => sub { try("SELECT clickstream.alter_stream('web', retention => '" . (1 + int rand 9) . " days')") },
	'log size' => sub {
		try("ALTER SYSTEM SET clickstream.state_log_size = '" . one_of('64kB', '256kB', '1MB') . "'");
		try('SELECT pg_reload_conf()');
	},
	'spill' => sub {
		try('ALTER SYSTEM SET clickstream.force_spill = ' . one_of(-1, 0, 10, 500));
		try('SELECT pg_reload_conf()');
	});

# Rare where they take long.
my %weight = (
	'injected fault' => 40,
	'worker killed' => 6,
	'postmaster killed' => 2,
	'immediate stop' => 2,
	'restart' => 2,
	'VACUUM FULL of everything' => 1,
	'table locked' => 1,
	'deadlock' => 3);
my @draw = map { ($_) x ($weight{$_} // 3) } sort keys %events;

# ---- a round

# Waits until all is read; starts a stream again that had a reason to stop for good: it may have read all
# before, and stopped over rows that it was to show.
sub settle
{
	$twins->poll('the end of the topic', sub {
		if (try("SELECT state FROM clickstream.stat_stream WHERE stream = 'web'") eq 'failed')
		{
			die 'the stream failed without a reason: ' . try('SELECT last_error FROM clickstream.stat_stream') unless $may_fail;
			try("SELECT clickstream.start('web')");
			return 0;
		}
		return $twins->all_is_read($node);
	});
}

sub round
{
	my @now = map { one_of(@draw) } 1 .. 1 + int(rand 3);
	my @done;

	$may_fail = 0;
	for my $what (@now)
	{
		my $is_first = $what ne 'injected fault' && rand() < 0.8;    # the events, and then it happens to the stream that reads them

		$twins->{slice} = 1000 + int(rand 4000);
		$twins->produce_slice if $is_first;
		$failed = 0;
		my $result = $events{$what}->();
		$twins->produce_slice unless $is_first;
		a_while(0.3);
		push @done, { what => $what, did => !$failed, ref $result eq 'CODE' ? (undo => $result) : () };
	}
	a_while;
	$_->{did} = $_->{undo}->() for grep { $_->{undo} } @done;
	$_->{did} ? $happened{ $_->{what} }++ : $in_vain{ $_->{what} }++ for @done;
	settle();
	return $twins->are_same(join ', ', @now);
}

sub topic
{
	my ($number) = @_;
	my @broker = map { start_broker(web => 4, '--brokers' => 3) } 1 .. 2;

	$broker = $broker[1];
	srand $seed + $number;
	my @seeds = map { int rand 1_000_000_000 } 0 .. $rounds_of_topic;    # making events draws, too
	$twins->begin($seed + $number, @broker);
	for my $round (1 .. $rounds_of_topic)
	{
		last if time > $end;
		$twins->{events} = ClickstreamSite::site_events_from($twins->{produced}, 15_000, $seeds[$round], unruly => 1);
		srand $seeds[$round] + 1;
		round() or return 0;
	}
	$twins->query("SELECT clickstream.drop_window(table_oid::regclass::text) FROM clickstream.definition WHERE table_oid::regclass::text LIKE 'extra%'");
	$may_fail = 1;
	$twins->finish;
	$_->safe_psql('postgres', "SELECT clickstream.drop_stream('web')") for $twins->calm, $node;
	$_->stop for @broker;
	return Test::More->builder->is_passing;
}

# ---- all of it

$twins->query(q{CREATE FUNCTION no_more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no more of these'; END $$});
my $begun = time;
my $total = 0;
my $rounds = 0;
my $topics = 0;
while (time < $end)
{
	my $is_good = topic($topics++);

	$total += $twins->{produced};
	$rounds += $twins->{rounds};
	last unless $is_good;
}
my $faults = 0;
$faults += $_ for values %happened;
my $vain = 0;
$vain += $_ for values %in_vain;
note "figure: $_: $happened{$_}" for sort keys %happened;
note sprintf 'figure: seed %d: %d faults (and %d that struck nothing), %d events in %d topics, %d comparisons, differences %d, %.1f minutes', $seed,
  $faults, $vain, $total, $topics, $rounds, scalar(grep { !$_->{ok} } Test::More->builder->details), (time - $begun) / 60;
$twins->stop;
done_testing();
