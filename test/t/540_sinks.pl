# Sinks against a real Kafka: what a read_committed reader finds in the topic is what
# the outbox had, each row once, in order, whatever is killed and whenever; and
# a sink that cannot be sure of that stops, with the reason.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use ClickstreamTest;

my $kafka = start_kafka(out => 2, loose => 1, parts => 4, theirs => 4);
my $address = $kafka->address;
my $node = new_node('main',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '20ms'",
	'fsync = off',
	'restart_after_crash = on');
my $sent = 0;
seed_of(540);

sub query { return $node->safe_psql('postgres', $_[0]) }

# So many events, each of a minute of its own: rows of the window, again and again.
sub event_call
{
	my ($n) = @_;

	return <<~END;
		SELECT count(clickstream.produce('web', format('{"event_time": "2024-06-01T10:%s:00Z", "user_id": "u", "page_url": "/%s"}',
			lpad((i % 60)::text, 2, '0'), i % 17))) FROM generate_series(1, $n) AS i
		END
}

sub send_events
{
	my ($n) = @_;

	query(event_call($n));
	$sent += $n;
	return;
}

# What a reader of committed messages finds: [id, key, value], in the order of each partition.
sub messages
{
	my ($topic) = @_;
	my ($out, $err);

	IPC::Run::run([ 'kcat', '-C', '-q', '-e', '-b', $address, '-t', $topic, '-o', 'beginning', '-Z',
		'-X', 'isolation.level=read_committed', '-f', '%p\t%h\t%k\t%s\n' ], '<', '/dev/null', '>', \$out, '2>', \$err)
	  or die "kcat: $err";
	return map { my ($p, $headers, $key, $value) = split /\t/; { p => $p, id => ($headers =~ m{/(\d+)$} ? $1 : 0), key => $key, value => $value } } split /\n/, $out;
}

sub drained
{
	my ($sink) = @_;

	wait_for($node, 'web');
	wait_until($node, "SELECT state = 'running' AND waiting = 0 FROM clickstream.stat_sink WHERE sink = '$sink'");
	return;
}

sub table_rows
{
	return query(q(SET timezone = 'UTC'; SELECT r FROM (SELECT row_to_json(p)::text AS r FROM pages p) AS t ORDER BY r COLLATE "C"));
}

# Each position once, in order within its partition; and the newest value of each key is the table's row.
sub is_exact
{
	my ($name) = @_;
	my @messages = messages('out');
	my (%seen, %last, %row, $disorder);

	for my $m (@messages)
	{
		$seen{$m->{id}}++;
		$disorder++ if $m->{id} <= ($last{$m->{p}} // 0);
		$last{$m->{p}} = $m->{id};
		$row{$m->{key}} = $m->{value};
		delete $row{$m->{key}} if $m->{value} eq 'NULL' || $m->{value} eq '';
	}
	is(join(',', grep { $seen{$_} != 1 } sort keys %seen), '', "$name: none is there twice");
	is(scalar(keys %seen), query(q(SELECT sent FROM clickstream.stat_sink WHERE sink = 'out')), "$name: all are there");
	ok(!$disorder, "$name: in order");
	is(join("\n", sort values %row), table_rows(), "$name: the topic is the table");
	return;
}

# What a sink's process waits for with its producer made, and nothing sent yet: whoever has locked the outbox.
sub hold_outbox
{
	my $holder = background($node, on_error_stop => 1);
	$holder->query_safe('BEGIN; LOCK TABLE clickstream.outbox IN ACCESS EXCLUSIVE MODE');
	return $holder;
}

sub wait_held
{
	my ($sink, $n) = @_;
	wait_until($node, <<~END);
		SELECT count(*) = @{[ $n // 1 ]} FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE NOT l.granted AND l.relation = 'clickstream.outbox'::regclass AND a.application_name = 'clickstream sink: $sink'
		END
	return;
}

# Another producer with the sink's transactional.id; it sends nothing.
sub fence_off
{
	my ($sink) = @_;
	my $id = query("SELECT producer_id FROM clickstream.sink WHERE name = '$sink'");

	system_or_bail('kcat', '-P', '-q', '-b', $address, '-t', 'out', '-X', "transactional.id=clickstream-sink-$id", '-l', '/dev/null');
	return;
}

sub wait_ended
{
	my ($sink) = @_;
	wait_until($node, "SELECT pid IS NULL FROM clickstream.stat_sink WHERE sink = '$sink'");
	return;
}

sub kill_sink
{
	my ($sink) = @_;
	my $offset = -s $node->logfile;
	my $killed = 0;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($code, $pid) = ask($node, "SELECT pid FROM clickstream.stat_sink WHERE sink = '$sink'");
		$killed = $code == 0 && $pid ne '' && kill('KILL', $pid) and last;
		sleep 0.1;
	}
	ok($killed, "sink $sink is killed");
	$node->wait_for_log(qr/database system is ready to accept connections/, $offset);
	wait_until($node, q(SELECT count(*) = 1 FROM clickstream.stat_stream WHERE state = 'running'));
	return;
}

query(<<~'END');
	SET timezone = 'UTC';
	SELECT clickstream.create_stream('web', idle_timeout => '1 day');
	SELECT clickstream.create_window('pages', stream => 'web', size => '1 hour', group_by => 'page_url', measures => 'count(*) AS n', emit => 'changes', emit_interval => '0');
	SELECT clickstream.start('web');
	END

# ---- what cannot be made

my ($code, $out, $err) = $node->psql('postgres', "SELECT clickstream.create_sink('out', 'pages', 'no-such-topic', brokers => '$address')");
like($err, qr/topic "no-such-topic" does not exist/, 'a topic that is not there is refused');
is(query('SELECT count(*) FROM clickstream.sink'), '0', 'nothing is made');

# ---- exactly once

query("SELECT clickstream.create_sink('out', 'pages', 'out', brokers => '$address')");
send_events(200);
drained('out');
is_exact('plain');

# Killed between Kafka's commit and ours: a lock keeps ours from happening.
my $lock = background($node, on_error_stop => 1);
$lock->query_safe('BEGIN; LOCK TABLE clickstream.sink_sent IN EXCLUSIVE MODE');
send_events(20);
wait_until($node, q(SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE application_name = 'clickstream sink: out'));
kill_sink('out');
drained('out');
is_exact('killed between the commits');

# Killed at any moment while rows come.
for my $round (1 .. 3)
{
	send_events(150) for 1 .. 2;
	sleep rand(0.3);
	kill_sink('out');
}
drained('out');
is_exact('killed at any moment');

# ---- another producer has taken the topic, or the broker has given the transaction up: the position says whether to go on

# A worker that is to send, held up until the outbox is let go, and fenced off meanwhile; returns who holds it.
sub fence_off_held
{
	query(q(SELECT clickstream.stop_sink('out')));
	wait_ended('out');
	send_events(50);
	wait_for($node, 'web');
	my $holder = hold_outbox();
	query(q(SELECT clickstream.start_sink('out')));
	wait_held('out');
	fence_off('out');
	return $holder;
}

# A worker waits no longer than 10 s for a lock and then makes a fresh producer: on a slow machine it may not be fenced off, so again.
my $fenced = qr/takes nothing more from this producer/;
my ($holder, $error);
for (1 .. 10)
{
	$holder = fence_off_held();
	$holder->query_safe('COMMIT');
	$holder->quit;
	drained('out');
	$error = query(q(SELECT last_error FROM clickstream.stat_sink WHERE sink = 'out'));
	last if $error =~ $fenced;
	note "not fenced off: $error";
}
is_exact('fenced off once');
like($error, $fenced, 'and it was');
$holder = fence_off_held();
my $next = background($node, on_error_stop => 1);
$next->query_until(qr/asks/, "\\echo asks\nBEGIN; LOCK TABLE clickstream.outbox IN ACCESS EXCLUSIVE MODE;\n");
wait_until($node, q(SELECT count(*) = 2 FROM pg_locks WHERE NOT granted AND relation = 'clickstream.outbox'::regclass));
$holder->query_safe('COMMIT');
$holder->quit;
wait_held('out');
fence_off('out');
$next->query_safe('COMMIT');
$next->quit;
drained('out');
is_exact('fenced off twice in a row');

# ---- the broker goes away in the midst of a transaction, with nothing left but the position: the process can be stopped

query(q(SELECT clickstream.stop_sink('out')));
wait_ended('out');
$holder = hold_outbox();
query(q(SELECT clickstream.start_sink('out')));
wait_held('out');
$kafka->stop;
$holder->query_safe('COMMIT');
$holder->quit;
wait_until($node, q(SELECT state = 'waiting for broker' AND problem <> '' FROM clickstream.stat_sink WHERE sink = 'out'));
query(q(SELECT clickstream.stop_sink('out')));
wait_ended('out');
query(q(SELECT clickstream.start_sink('out')));

# ---- the broker is away: the stream goes on, rows wait

send_events(50);
wait_for($node, 'web');
is(query('SELECT sum(n) FROM pages'), $sent, 'without a broker the stream goes on');
wait_until($node, q(SELECT waiting > 0 AND waiting_since IS NOT NULL AND problem <> '' FROM clickstream.stat_sink WHERE sink = 'out'));
$kafka->start;
drained('out');
is_exact('the broker is back');

# ---- restored from a backup: the broker is ahead

query(q(SELECT clickstream.stop_sink('out')));
wait_until($node, q(SELECT pid IS NULL FROM clickstream.stat_sink WHERE sink = 'out'));
query('CREATE TABLE backup_end AS TABLE clickstream.sink_end; CREATE TABLE backup_sent AS TABLE clickstream.sink_sent');
query(q(SELECT clickstream.start_sink('out')));
send_events(20);
drained('out');
query(q(SELECT clickstream.stop_sink('out')));
wait_until($node, q(SELECT pid IS NULL FROM clickstream.stat_sink WHERE sink = 'out'));
query(<<~'END');
	UPDATE clickstream.sink_end e SET next_position = b.next_position FROM backup_end b WHERE b.sink_id = e.sink_id;
	UPDATE clickstream.sink_sent s SET position = b.position, token = b.token FROM backup_sent b WHERE b.sink_id = s.sink_id;
	SELECT clickstream.start_sink('out');
	END
wait_until($node, q(SELECT state = 'failed' FROM clickstream.stat_sink WHERE sink = 'out'));
like(query(q(SELECT last_error, last_hint FROM clickstream.stat_sink WHERE sink = 'out')),
	qr/has rows of sink "out" up to position \d+, the outbox ends at \d+.*reset_sink/, 'a sink whose topic is ahead stops, and says why');
# also when the outbox has grown past the broker's position since
for (1 .. 3)
{
	send_events(20);
	wait_for($node, 'web');
}
wait_until($node, q(SELECT waiting > 34 FROM clickstream.stat_sink WHERE sink = 'out'));
query(q(SELECT clickstream.start_sink('out')));
wait_until($node, q(SELECT state = 'failed' AND last_error LIKE '%other rows%' FROM clickstream.stat_sink WHERE sink = 'out'));
pass('also when the outbox has grown since');
query(q(SELECT clickstream.reset_sink('out')));
drained('out');
my %row = map { $_->{key} => $_->{value} } messages('out');
is(join("\n", sort values %row), table_rows(),
	'reset_sink() begins anew with all rows');

# ---- a copy of the database: does not run by itself; where both run, one stops, and nothing is in the topic twice

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
my $position = query('SELECT sent FROM clickstream.stat_sink');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('postgres') ], 'a dump');
query('CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $dump ], 'is restored');
is($node->safe_psql('copy', q(SELECT state, pid, problem FROM clickstream.stat_sink WHERE sink = 'out')),
	'stopped||The sink came here with a copied or restored database. Run clickstream.start() for its stream when it shall run here, too.',
	'the sink of a copy does not run, and says why');
$node->safe_psql('copy', q(SELECT clickstream.start('web')));
$node->safe_psql('copy', event_call(20));
wait_until($node, "SELECT state = 'running' AND waiting = 0 AND sent > $position FROM clickstream.stat_sink", 'copy');
send_events(20);
wait_until($node, q(SELECT state = 'failed' AND last_error ~ 'has (rows of sink "out" up to|other rows of sink "out" than)' FROM clickstream.stat_sink));
wait_until($node, "SELECT waiting > 0 AND sent = $position FROM clickstream.stat_sink");
$node->safe_psql('copy', event_call(20));
wait_for($node, 'web', 'copy');
wait_until($node, q(SELECT state = 'running' AND waiting = 0 FROM clickstream.stat_sink), 'copy');
my %times;
$times{$_->{id}}++ for messages('out');
is(join(',', grep { $times{$_} != 1 } sort keys %times), '', 'the source stops, the copy goes on, and no row is there twice');
is(scalar(grep { $_ > $position } keys %times), $node->safe_psql('copy', 'SELECT sent FROM clickstream.stat_sink') - $position, 'nor is one left out');
$node->safe_psql('copy', q(SELECT clickstream.drop_stream('web')));
alone($node, 'DROP DATABASE copy');
query(q(SELECT clickstream.reset_sink('out')));
drained('out');

# ---- at least once

query("SELECT clickstream.create_sink('loose', 'pages', 'loose', brokers => '$address', transactional => false, backfill => true)");
send_events(50);
drained('loose');
my %seen = map { $_->{id} => 1 } messages('loose');
is(scalar(keys %seen), query(q(SELECT sent FROM clickstream.stat_sink WHERE sink = 'loose')), 'without transactions all are there, too');

# ---- options of a producer

query("SELECT clickstream.create_sink('parts', 'pages', 'parts', brokers => '$address', backfill => true,"
	. q{options => '{"compression.type": "zstd", "partitioner": "consistent", "linger.ms": 0}')});
drained('parts');
my %place = map { $_->{key} => $_->{p} } messages('parts');
produce($address, 'theirs', [ map { "$_\tx" } sort keys %place ], kcat => [ '-X', 'topic.partitioner=consistent' ]);
is_deeply(\%place, { map { $_->{key} => $_->{p} } messages('theirs') }, 'the partitioner that the sink was given');
my ($segment) = grep { -s } glob("$kafka->{directory}/data/parts-*/*.log");
is(unpack('x22 C', PostgreSQL::Test::Utils::slurp_file($segment)) & 7, 4, 'and the compression');
query(q(SELECT clickstream.drop_sink('parts')));

# ---- a broker that is far away

my $far = start_broker(far => 1);
my $far_address = $far->address;
$far->command('rtt 3000');
query("SELECT clickstream.create_sink('far', 'pages', 'far', brokers => '$far_address', backfill => true, check_broker => false)");
wait_until($node, q(SELECT state = 'waiting for broker' AND problem <> '' FROM clickstream.stat_sink WHERE sink = 'far'));
$far->command('rtt 600');
drained('far');
pass('rows come to a broker that is far away');
query(q(SELECT clickstream.drop_sink('far')));
$far->stop;

# ---- large rows: the topic's limit decides, of the message as it is compressed

$kafka->create_topic('gone', 1, 'max.message.bytes=1000000');
query(q(ALTER TABLE pages ADD COLUMN pad text));
query(q(UPDATE pages SET pad = repeat('x', 3000000) WHERE ctid = (SELECT min(ctid) FROM pages)));
query("SELECT clickstream.create_sink('gone', 'pages', 'gone', brokers => '$address', backfill => true)");
drained('gone');
is(scalar(grep { length $_->{value} > 3000000 } messages('gone')), 1, 'a row that compresses well is sent');
query(q(UPDATE pages SET pad = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 100000) AS i) WHERE pad IS NOT NULL));
query(q(SELECT clickstream.reset_sink('gone')));
wait_until($node, q(SELECT state = 'failed' FROM clickstream.stat_sink WHERE sink = 'gone'));
like(query(q(SELECT last_error FROM clickstream.stat_sink WHERE sink = 'gone')), qr/could not send row \d+ to topic "gone".*too large/i, 'one that the topic does not take is not');
like(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/DETAIL:  Its key is \{"window_start".*\}, its value has 3\d{6} bytes/, 'and which it is can be seen');
query(q(UPDATE pages SET pad = NULL; SELECT clickstream.reset_sink('gone')));
drained('gone');

# ---- the end

query(q(SELECT clickstream.drop_sink('loose'); SELECT clickstream.drop_sink('gone')));
is(query('SELECT count(*) FROM clickstream.sink'), '1', 'sinks are dropped while they run');
query(q(SELECT clickstream.drop_stream('web')));
is(query('SELECT (SELECT count(*) FROM clickstream.sink) + (SELECT count(*) FROM clickstream.outbox)'), '0', 'and with their stream');
wait_until($node, q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'clickstream s%'));
$node->stop;
done_testing();
