# Sinks of every kind of definition over a long run in which whatever can be
# killed is: their processes, the stream's worker, the server, the broker, and
# the broker's patience with a transaction.  At the end each topic is the table,
# and each row that was ever to be sent is in it once, in order.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use ClickstreamTest;
use ClickstreamSite;

my $rounds = $ENV{CLICKSTREAM_ROUNDS} // 24;
my $part = 2_000;
my $outage = 75;    # seconds: more than transaction.timeout.ms of a producer
my $seed = seed_of(540);

my @tables = qw(s_sessions s_pages s_rolling s_funnel s_metrics s_visits);
my %sinks = ((map { $_ => $_ } @tables), final => 's_visits');
my $kafka = start_kafka(web => 4, map { $_ => 3 } keys %sinks, 'goes');
my $address = $kafka->address;
my $node = new_node('main',
	"clickstream.commit_interval = '20ms'", "clickstream.restart_delay = '20ms'", 'clickstream.batch_messages = 500',
	'clickstream.max_workers = 12', 'max_worker_processes = 30', 'fsync = off', 'restart_after_crash = on', "timezone = 'UTC'");
my @events = @{ site_events(($rounds + 1) * $part, $seed) };

sub query { return $node->safe_psql('postgres', $_[0]) }

# One message of each sink that a reader of committed messages finds, in the order of each partition: [partition, position, key, value].
sub messages
{
	my ($topic) = @_;
	my ($out, $err);

	IPC::Run::run([ 'kcat', '-C', '-q', '-e', '-b', $address, '-t', $topic, '-o', 'beginning', '-Z',
		'-X', 'isolation.level=read_committed', '-f', '%p\t%h\t%k\t%s\n' ], '<', '/dev/null', '>', \$out, '2>', \$err)
	  or die "kcat: $err";
	return map { my ($p, $headers, $key, $value) = split /\t/; [ $p, $headers =~ m{/(\d+)$} ? $1 : 0, $key, $value ] } split /\n/, $out;
}

sub is_exact
{
	my ($sink, $table) = @_;
	my (%times, %last, %row, $disorder);
	my $sent = query("SELECT sent FROM clickstream.stat_sink WHERE sink = '$sink'");
	my $tombstones = 0;

	for (messages($sink))
	{
		my ($p, $position, $key, $value) = @$_;
		$times{$position}++;
		$disorder++ if $position <= ($last{$p} // 0);
		$last{$p} = $position;
		$row{$key} = $value;
		delete $row{$key}, $tombstones++ if $value eq 'NULL';
	}
	note "$sink: $sent rows, $tombstones tombstones";
	is(join(',', grep { ($times{$_} // 0) != 1 } 1 .. $sent), '', "$sink: each of $sent rows is there once");
	is(scalar(keys %times), $sent, "$sink: and no other");
	ok(!$disorder, "$sink: in order");
	is(join("\n", sort values %row), query(<<~END), "$sink: the topic is the table");
		SELECT r FROM (SELECT row_to_json(p)::text AS r FROM $table p @{[ $sink eq 'final' ? 'WHERE is_final' : '' ]}) AS t ORDER BY r COLLATE "C"
		END
	return;
}

# The process of a sink or of the stream, when there is one; the server runs again after it.
sub kill_process
{
	my ($query) = @_;
	my ($code, $pid) = ask($node, $query);
	my $offset = -s $node->logfile;

	return if $code != 0 || $pid eq '' || !kill('KILL', $pid);
	$node->wait_for_log(qr/database system is ready to accept connections/, $offset);
	return;
}

sub fence_off
{
	my ($sink) = @_;
	my ($code, $id) = ask($node, "SELECT producer_id FROM clickstream.sink WHERE name = '$sink'");

	system_or_bail('kcat', '-P', '-q', '-b', $address, '-t', $sink, '-X', "transactional.id=clickstream-sink-$id", '-l', '/dev/null') if $code == 0;
	return;
}

# A broker that neither answers nor closes its connections.
sub freeze
{
	my ($seconds) = @_;
	chomp(my $pid = slurp_file("$kafka->{directory}/kafka.pid"));

	kill('STOP', $pid) or die "could not stop the broker: $!";
	sleep $seconds;
	kill('CONT', $pid) or die "could not continue the broker: $!";
	return;
}

my @sinks = sort keys %sinks;
my @mishaps = (
	(sub { kill_process("SELECT pid FROM clickstream.stat_sink WHERE sink = '$sinks[rand @sinks]'") }) x 4,
	sub { kill_process('SELECT pid FROM clickstream.stat_stream') },
	sub { $node->stop('immediate'); $node->start },
	sub { $node->restart },
	sub { fence_off($sinks[rand @sinks]) },
	sub { $kafka->stop('KILL'); $kafka->start },
	sub { $kafka->stop; $kafka->start },
	sub { freeze(5) },
	sub { my $sink = $sinks[rand @sinks]; ask($node, "SELECT clickstream.stop_sink('$sink')"); sleep rand(0.5); ask($node, "SELECT clickstream.start_sink('$sink')") });

create_site($node, 'web', 's', "brokers => '$address', topic => 'web', start_from => 'earliest'");
query(<<~END);
	SELECT clickstream.create_session('s_visits', stream => 'web', gap => '10 seconds', emit => 'changes', emit_interval => '0');
	SELECT clickstream.create_sink(name, name::regclass, name) FROM unnest('{@{[ join ',', @tables ]}}'::text[]) AS name;
	SELECT clickstream.create_sink('final', 's_visits', 'final', emit => 'final');
	SELECT clickstream.start('web');
	END
for my $round (1 .. $rounds)
{
	produce_site($kafka, 'web', [ splice @events, 0, $part ]);
	sleep rand(1);
	$round == int($rounds / 2) ? freeze($outage) : $mishaps[rand @mishaps]->();
}

# ---- a topic goes

query(q(SELECT clickstream.create_sink('goes', 's_pages', 'goes', backfill => true)));
wait_until($node, q(SELECT state = 'running' AND waiting = 0 FROM clickstream.stat_sink WHERE sink = 'goes'));
$kafka->delete_topic('goes');
produce_site($kafka, 'web', \@events);
wait_until($node, q(SELECT problem LIKE '%does not know topic goes%' FROM clickstream.stat_sink WHERE sink = 'goes'));
wait_until($node, q(SELECT state = 'failed' FROM clickstream.stat_sink WHERE sink = 'goes'));
like(query(q(SELECT last_error FROM clickstream.stat_sink WHERE sink = 'goes')), qr/topic "goes"/, 'a sink whose topic is deleted says so, and stops');
query(q(SELECT clickstream.drop_sink('goes')));

# ---- the end

wait_until($node, q(SELECT state = 'running' AND lag = 0 FROM clickstream.stat_stream));
wait_for($node, 'web');
query(q(CALL clickstream.finish('web')));
wait_until($node, q(SELECT bool_and(state = 'running' AND waiting = 0) FROM clickstream.stat_sink));
is_exact($_, $sinks{$_}) for @sinks;
is(query(q(SELECT bool_and(balanced) FROM clickstream.audit('web'))), 't', 'and each event was counted once');

$node->stop;
done_testing();
