# Topics that come, go, and come again under the same name.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

# Topics come into being with their first message: each made by Kafka's own tool would cost a start of Java.
my $kafka = start_kafka('--properties' => [ 'auto.create.topics.enable=true', 'num.partitions=1' ]);
my $node = new_node('main', "clickstream.commit_interval = '50ms'", "clickstream.restart_delay = '50ms'",
	"clickstream.metadata_refresh_interval = '200ms'", 'clickstream.max_workers = 16', 'max_worker_processes = 30');

sub query { return $node->safe_psql('postgres', $_[0]) }

sub lines
{
	my ($n, $what) = @_;
	return [ map { qq(k$_\t{"event_type": "$what", "user_id": "k$_", "event_time": "2025-06-01T12:00:00Z"}) } 1 .. $n ];
}

sub make_stream
{
	my ($stream, $topic, %option) = @_;
	my $address = $kafka->address;
	my %given = (start_from => 'earliest', %option);
	my $more = join ', ', map { "$_ => '$given{$_}'" } sort keys %given;

	query(<<~END);
		SELECT clickstream.create_stream('$stream', brokers => '$address', topic => '$topic', $more);
		SELECT clickstream.create_window('${stream}_hours', stream => '$stream', size => '1 hour', group_by => 'topic, partition, event_type',
			measures => 'count(*) AS n');
		SELECT clickstream.start('$stream');
		END
}

# What the stream's rows hold when all is read, "topic/partition:type:n ...", and does the ledger agree?
sub counted
{
	my ($stream) = @_;

	wait_for($node, $stream);
	query("CALL clickstream.finish('$stream')");
	return query(<<~END);
		SELECT coalesce((SELECT string_agg(format('%s/%s:%s:%s', topic, partition, event_type, n), ' ' ORDER BY topic, partition, event_type)
			FROM ${stream}_hours), '') || ' ' || (SELECT bool_and(balanced)::text FROM clickstream.audit('$stream'))
		END
}

sub last_error
{
	my ($stream) = @_;

	wait_until($node, "SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = '$stream'");
	return query("SELECT last_error || ' | ' || last_hint FROM clickstream.stat_stream WHERE stream = '$stream'");
}

sub stop_stream
{
	my ($stream) = @_;

	query("SELECT clickstream.stop('$stream')");
	wait_until($node, "SELECT state = 'stopped' FROM clickstream.stat_stream WHERE stream = '$stream'");
}

# ---- made anew: longer than what was read of the old one, as long, one shorter; and one whose stream runs meanwhile

my %anew = (longer => 25, same => 10, shorter => 9, alive => 25, behind => 10);

# A message whose time is known: the same one can be made again.
sub produce_same
{
	my ($topic) = @_;
	$kafka->tool('org.apache.kafka.tools.VerifiableProducer', '--topic', $topic, '--max-messages', 1, '--message-create-time', 1748779200000);
}

# It shows what it waits for half a minute, and fails then; who did not look in time has it wait again.
sub wait_until_behind
{
	my $waits = q(problem LIKE 'topic anew.behind, partition 0, ends at offset 10 at the moment, before what was read of it%');

	for (1 .. 10)
	{
		wait_until($node, "SELECT state = 'failed' OR $waits FROM clickstream.stat_stream WHERE stream = 'behind'");
		return if query("SELECT $waits FROM clickstream.stat_stream WHERE stream = 'behind'") eq 't';
		query("SELECT clickstream.start('behind')");
	}
	die 'the stream does not wait for the message that it read last';
}

for my $topic (sort keys %anew)
{
	produce($kafka, "anew.$topic", lines(10, 'old'));
	make_stream($topic, "anew.$topic");
}
produce_same('anew.behind');
wait_for($node, $_) for sort keys %anew;
stop_stream($_) for qw(longer same shorter behind);
# A stream that only pauses goes on: its last message is still there, also when nothing has come since.
query("SELECT clickstream.start('longer')");
wait_until($node, "SELECT state = 'running' FROM clickstream.stat_stream WHERE stream = 'longer'");
produce($kafka, 'anew.longer', lines(1, 'old'));
wait_for($node, 'longer');
stop_stream('longer');
is(query("SELECT consumed, balanced FROM clickstream.audit('longer')"), '11|t', 'a topic that is still the same is read on');

$kafka->delete_topic('anew[.].*');
produce($kafka, "anew.$_", lines($anew{$_}, 'new')) for sort keys %anew;
query("SELECT clickstream.start('$_')") for qw(longer same shorter behind);
# As with a new leader that does not show what came last yet, and then does.
wait_until_behind();
produce_same('anew.behind');
query("SELECT clickstream.start('behind')");    # where that took longer than a stream is patient
produce($kafka, 'anew.behind', lines(2, 'old'));
is(counted('behind'), 'anew.behind/0:old:12 true', 'one that ends before the message read last, which then comes, is read on');
is_soon($node, "SELECT state, problem IS NULL FROM clickstream.stat_stream WHERE stream = 'behind'", 'running|t', 'and no problem is left');
like(last_error('longer'),
	qr/^topic "anew.longer", partition 0, was made anew: at offset 10 is another message than was read there, 11 offsets before 11 were never read \| clickstream\.reset\(\) .* clickstream\.seek\('longer', 0, 11, 'anew.longer'\)/,
	'longer than what was read of the old one');
like(last_error('same'), qr/^topic "anew.same", partition 0, was made anew: at offset 9 .* 10 offsets before 10 were never read/, 'exactly as long');
like(last_error('shorter'), qr/^offset 10 of topic "anew.shorter", partition 0, is not on the broker: it ends at 9, 1 offsets are missing/,
	'one message shorter');
like(last_error('alive'), qr/topic/, 'while the stream runs: stopped with a reason');
note(last_error('alive'));
is(query("SELECT string_agg(DISTINCT event_type, ',') FROM alive_hours"), 'old', 'and nothing of the new one was counted');

query("SELECT clickstream.reset('longer', 'earliest'); SELECT clickstream.start('longer')");
is(counted('longer'), 'anew.longer/0:new:25 true', 'after a reset the new one is read');
query("SELECT clickstream.seek('same', 0, 10, 'anew.same'); SELECT clickstream.start('same')");
produce($kafka, 'anew.same', lines(2, 'new'));
is(counted('same'), 'anew.same/0:new:2 anew.same/0:old:10 true', 'or taken for a continuation, by hand');

# ---- a pattern: what matches, now and later

produce($kafka, $_, lines(3, 'seen')) for qw(web.m web.t other xweb.m);
make_stream('web', '^web\.[a-z]+$', start_from => 'latest');
make_stream('later', '^later\.', start_from => 'latest');
wait_for($node, 'web');
produce($kafka, $_, lines(4, 'seen')) for qw(web.m web.t other xweb.m);
wait_until($node, "SELECT problem = 'no topic of the broker matches the pattern' FROM clickstream.stat_stream WHERE stream = 'later'");
pass('a pattern that matches nothing says so');
query(<<~'END');
	SELECT clickstream.create_session('web_sessions', stream => 'web', gap => '1 hour');
	END
# All at one time: the order of topics by name decides, not that in which they were found.
produce($kafka, $_, lines(5, 'new')) for qw(web.a web.p later.x web.1 web.z);
wait_for($node, 'web');
is(query("SELECT string_agg(topic || ':' || used, ' ' ORDER BY topic) FROM clickstream.stat_partition WHERE stream = 'web'"),
	'web.a:5 web.m:4 web.p:5 web.t:4 web.z:5', 'topics that match, old ones from where the stream begins, new ones from their beginning');
wait_for($node, 'later');
is(query("SELECT topic || ':' || used FROM clickstream.stat_partition WHERE stream = 'later'"), 'later.x:5',
	'where none matched at first all that come are new');
$node->stop('immediate');
$node->start;
produce($kafka, 'web.z', lines(1, 'last'));
wait_for($node, 'web');
is(query("SELECT session_id FROM clickstream.open_sessions('web_sessions') WHERE visitor = 'k1'"), 'web.a/0/0', 'the first event of a session by place: before and after a crash');
is(counted('web'), 'web.a/0:new:5 web.m/0:seen:4 web.p/0:new:5 web.t/0:seen:4 web.z/0:last:1 web.z/0:new:5 true', 'each is counted once');
is(query("SELECT string_agg(session_id, ' ' ORDER BY session_id) FROM web_sessions"), join(' ', map { "web.a/0/$_" } 0 .. 4), 'and sessions begin where they should');
query("SELECT clickstream.reset('web', 'offsets', start_offsets => '{\"web.a/0\": 3, \"*\": -1}'); SELECT clickstream.start('web')");
is(counted('web'), 'web.a/0:new:2 web.m/0:seen:1 web.p/0:new:1 web.t/0:seen:1 web.z/0:last:1 true', 'after a reset all are there at once, and begin where it says');
my $address = $kafka->address;
my ($code, undef, $err) = $node->psql('postgres', "SELECT clickstream.create_stream('none', brokers => '$address', topic => '^nowhere')");
is($code, 0, 'a pattern that matches nothing yet may be made');
like($err, qr/NOTICE:  no topic of the broker matches the pattern "\^nowhere" yet/, 'and says so');

# ---- a broker that is further away than a stream that reads waits for it at first

my $far = start_broker('far.a' => 1);
query(<<~END);
	SELECT clickstream.create_stream('far', brokers => '${\$far->address}', topic => '^far\\.', start_from => 'earliest');
	SELECT clickstream.create_window('far_hours', stream => 'far', size => '1 hour', group_by => 'topic', measures => 'count(*) AS n');
	SELECT clickstream.start('far');
	END
produce($far, 'far.a', lines(3, 'near'));
wait_for($node, 'far');
$far->command('rtt 400');
$far->command('topic far.b:1');
produce($far, 'far.b', lines(2, 'far'));
wait_until($node, "SELECT used = 2 FROM clickstream.stat_partition WHERE stream = 'far' AND topic = 'far.b'");
pass('new topics of a broker that is far away are found');

$node->stop;
done_testing();
