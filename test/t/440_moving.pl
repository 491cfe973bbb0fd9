# A server that moves in mid-stream: stopped and started, crashed, its standby
# promoted, restored to a moment in the past.  Each of the four servers that
# come of it goes on by itself, reads the rest of the topic, and ends with the
# tables of a run that nothing happened to.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;
use ClickstreamSite;

my $seed = seed_of(440);

my $quarter = 4_000;
my $broker = start_broker(web => 4);
my $address = $broker->address;
my @events = @{ site_events(4 * $quarter, $seed) };

my $main = PostgreSQL::Test::Cluster->new('main');
$main->init(has_archiving => 1, allows_streaming => 1);
$main->append_conf('postgresql.conf', <<~'END');
	shared_preload_libraries = 'clickstream'
	max_worker_processes = 16
	log_min_messages = info
	clickstream.commit_interval = '20ms'
	clickstream.restart_delay = '50ms'
	clickstream.batch_messages = 200
	clickstream.state_log_size = '256kB'
	clickstream.force_spill = 300
	END
$main->start;
$main->safe_psql('postgres', 'CREATE EXTENSION clickstream');

# The next quarter of the events into the topic.
sub produce_quarter
{
	produce_site($broker, 'web', [ splice @events, 0, $quarter ]);
}

sub committed
{
	my ($node) = @_;
	return $node->safe_psql('postgres', "SELECT sum(next_offset) FROM clickstream.stat_partition WHERE stream = 'moved'");
}

sub open_sessions
{
	my ($node) = @_;
	return digest($node, "clickstream.open_sessions('m_sessions')", 'visitor, session_start, last_event, event_count');
}

# Runs to the end of the topic and closes all.
sub run_out
{
	my ($node) = @_;
	wait_for($node, 'moved');
	$node->safe_psql('postgres', "CALL clickstream.finish('moved')");
}

my $ledger = 'sum(consumed), sum(used), sum(filtered), sum(dead), sum(late + duplicate + empty + skipped), bool_and(balanced)';

sub is_as_never_moved
{
	my ($node, $name) = @_;
	our ($expected_tables, $expected_ledger);

	is(ClickstreamSite::site_tables($node, 'm'), $expected_tables, "$name: the tables are as if nothing had happened");
	is($node->safe_psql('postgres', "SELECT $ledger FROM clickstream.audit('moved')"), $expected_ledger, "$name: so is the ledger");
	is($node->safe_psql('postgres', "SELECT count(*) FROM clickstream.audit('moved') WHERE NOT balanced"), '0', "$name: balanced");
}

# ---- a standby follows while the stream runs

create_site($main, 'moved', 'm', "brokers => '$address', topic => 'web', start_from => 'earliest'");
# Before it starts: a partition that never had a message holds back no other.
produce_quarter();
$main->safe_psql('postgres', "SELECT clickstream.start('moved')");
wait_for($main, 'moved');
$main->backup('early');    # what the point-in-time recovery begins from

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($main, 'early', has_streaming => 1);
$standby->start;
$main->restart;
produce_quarter();
wait_for($main, 'moved');
is(committed($main), 2 * $quarter, 'after a restart the stream goes on by itself');
my $segment = $main->safe_psql('postgres', "SELECT pg_walfile_name(pg_create_restore_point('middle'))");
$main->safe_psql('postgres', 'SELECT pg_switch_wal()');
wait_until($main, "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver");
# Nothing more is committed when all that the watermark has passed is closed.
wait_until($main, 'SELECT closed = watermark FROM clickstream.progress');
$main->wait_for_catchup('standby', 'replay', $main->lsn('insert'));

isnt(open_sessions($main), '0 -', 'sessions are open');
is(open_sessions($standby), open_sessions($main), 'open_sessions() on the standby shows the same');
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'clickstream%'"),
	'0', 'nothing runs there');
is($standby->safe_psql('postgres', "SELECT state FROM clickstream.stat_stream WHERE stream = 'moved'"), 'stopped', 'and its view says so');
like(($standby->psql('postgres', "SELECT clickstream.start('moved')"))[2], qr/read-only/, 'start() is refused there');
like(($standby->psql('postgres', "CALL clickstream.process('moved')"))[2], qr/read-only|recovery/, 'so is process()');

# ---- it is promoted in mid-stream, when the main server has crashed

produce_quarter();
wait_until($main, "SELECT sum(next_offset) > " . 2 * $quarter . " FROM clickstream.stat_partition WHERE stream = 'moved'");
$main->stop('immediate');
$standby->promote;
wait_for($standby, 'moved');
is(committed($standby), 3 * $quarter, 'after promotion the stream goes on by itself');
$main->start;
produce_quarter();
run_out($_) for $standby, $main;

# ---- a server restored to a moment in mid-stream reads the rest again

my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($main, 'early', has_restoring => 1, standby => 0);
$restored->append_conf('postgresql.conf', <<~'END');
	recovery_target_name = 'middle'
	recovery_target_action = 'pause'
	END
$restored->start;
wait_until($restored, "SELECT pg_get_wal_replay_pause_state() = 'paused'");
is(committed($restored), 2 * $quarter, 'restored to the middle');
$restored->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
wait_until($restored, 'SELECT NOT pg_is_in_recovery()');
run_out($restored);

# ---- what nothing happened to

create_site($main, 'calm', 'calm', "brokers => '$address', topic => 'web', start_from => 'earliest'");
$main->safe_psql('postgres', "SELECT clickstream.start('calm')");
wait_for($main, 'calm');
$main->safe_psql('postgres', "CALL clickstream.finish('calm')");
our $expected_tables = ClickstreamSite::site_tables($main, 'calm');
our $expected_ledger = $main->safe_psql('postgres', "SELECT $ledger FROM clickstream.audit('calm')");
like($expected_ledger, qr/^${\(4 * $quarter)}\|/, 'the run that nothing happened to has read all');

is_as_never_moved($main, 'restarted, crashed');
is_as_never_moved($standby, 'promoted');
is_as_never_moved($restored, 'restored to the middle');

$_->stop for $restored, $standby, $main;
done_testing();
