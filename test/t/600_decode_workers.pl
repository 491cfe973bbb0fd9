# Decode workers: the same topic makes the same tables, ledger and dead letters
# with none of them, with one and with more, whatever it is keyed by; while they
# come and go, are ended or killed; and a stream goes on without those for which
# there is no room, and says so.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;
use ClickstreamSite;

my $seed = seed_of(600);

my $node = new_node('main',
	"clickstream.commit_interval = '20ms'",
	"clickstream.restart_delay = '50ms'",
	"max_worker_processes = 24",
	"restart_after_crash = on");
my $broker = start_broker(site => 4, keyed => 4, odd => 3, apart => 3, short => 3, stops => 2);
my $address = $broker->address;

sub query { return $node->safe_psql('postgres', $_[0]) }

sub source
{
	my ($topic, $workers, @more) = @_;
	return join ', ', "brokers => '$address', topic => '$topic', start_from => 'earliest', decode_workers => $workers", @more;
}

sub workers_run
{
	my ($stream, $n) = @_;
	wait_until($node, "SELECT decode_workers = $n AND decode_problem IS NULL FROM clickstream.stat_stream WHERE stream = '$stream'");
}

sub finish_stream
{
	my ($stream) = @_;
	wait_for($node, $stream);
	query("CALL clickstream.finish('$stream')");
	query("SELECT clickstream.stop('$stream')");
}

# What became of each offset, and the dead letters.
sub books
{
	my ($stream) = @_;
	return query(<<~END);
		SELECT partition, consumed, used, late, filtered, duplicate, dead, empty, skipped, balanced
		FROM clickstream.audit('$stream') ORDER BY topic, partition;
		SELECT count(*), md5(string_agg(d::text, E'\\n' ORDER BY d::text COLLATE "C")) FROM (
			SELECT topic, partition, message_offset, message_timestamp, message_key, payload, headers, CASE WHEN definition IS NULL THEN 1 END AS whole, cause, error, sqlstate
			FROM clickstream.dead_letter WHERE stream = '$stream') AS d
		END
}

# ---- the same tables, by partitions that know their visitors and by any others

my $events = site_events(8000, $seed);
produce_site($broker, 'site', $events);
$_->[0] = int(rand 4) for @$events;    # a visitor is in all partitions
produce_site($broker, 'keyed', $events);
load_site($node, $events);
for my $topic (qw(site keyed))
{
	for my $n (0, 1, 2, 3)
	{
		create_site($node, "$topic$n", "$topic$n", source($topic, $n));
		query("SELECT clickstream.start('$topic$n')");
	}
	for my $n (0, 1, 2, 3)
	{
		workers_run("$topic$n", $n);
		finish_stream("$topic$n");
		next if $n == 0;
		same_site($node, "$topic$n", "${topic}0", "$topic: the same tables with $n decode workers");
		is(books("$topic$n"), books("${topic}0"), "$topic: the same ledger and dead letters with $n");
	}
}
is_as_in_sql($node, 'keyed2', 'windows are what plain SQL makes of the events');

# ---- everything that a message can have: columns of several types, words, headers, duplicates, what nothing can be made of

sub odd_line
{
	my ($i, $partition) = @_;
	my $kind = rand;
	my $ms = 1_750_000_000_000 + $i * 40 - int(rand 3000);
	my $number = $kind < 0.03 ? '"no number"' : $kind < 0.1 ? 'null' : int(rand 1000);
	my $more = $kind < 0.3 ? ', "tags": {"a": [1, 2.50, {"b": "\u00e4"}], "a": "' . int(rand 5) . '", "n": 1e2}' : $kind < 0.4 ? ', "tags": {}' : '';
	my $key = $kind < 0.5 ? 'k' . int(rand 9) : '';

	return "$key\t" if $kind > 0.99;
	return "$key\t" . substr('{"event_time": "nonsense"', 0, int(rand 24)) if $kind > 0.97;
	return "$key\t" . sprintf '{"event_id": "e%d/%d", "user_id": "u%d", "event_type": "%s", "event_time": %d, "page_url": "/%s", "amount": %s, "seen": "2025-06-01T00:00:%02dZ"%s}',
	  $partition, $i - ($kind > 0.9 ? int(rand 20) : 0), int(rand 50), $kind < 0.2 ? 'ping' : 'page_view', $ms, 'x' x int(rand 300), $number,
	  int(rand 60), $more;
}

sub lines_of
{
	my ($partition) = @_;
	return map { odd_line($_, $partition) } 0 .. 1999;
}

sub make_odd
{
	my ($stream, $n) = @_;
	my $source = source('odd', $n);

	query(<<~END);
		SELECT clickstream.create_stream('$stream', $source, filter => \$\$event_type <> 'ping'\$\$, dedupe_by => 'event_id',
			extra_columns => 'event_id text, amount integer, seen timestamptz, tags jsonb', visitor => 'lower(user_id)',
			idle_timeout => '1 hour', max_future => NULL, mapping => '{"event_id": "/event_id", "amount": "/amount", "seen": "/seen", "tags": "/tags"}');
		SELECT clickstream.create_event_log('${stream}_log', stream => '$stream');
		SELECT clickstream.create_session('${stream}_sessions', stream => '$stream', gap => '20 seconds',
			measures => 'count(*) AS n, sum(100 / (amount - 7)) AS total, max(seen) AS seen');
		SELECT clickstream.create_window('${stream}_tags', stream => '$stream', size => '1 minute', filter => \$\$tags->>'a' = '1' OR amount > 500\$\$,
			group_by => \$\$tags->>'n' AS tag, tags->'a' AS a, message_headers->>'tenant' AS tenant, message_key\$\$,
			measures => 'count(*) AS n, sum(amount) AS amount, min(page_url) AS page');
		SELECT clickstream.create_lookup('person', stream => '$stream', key => 'id', event_key => '(100 / nullif(amount, 11))::bigint % 7', columns => 'plan');
		SELECT clickstream.create_window('${stream}_plans', stream => '$stream', size => '1 minute', group_by => 'person_plan', measures => 'count(*) AS n');
		SELECT clickstream.start('$stream');
		END
}

query(q(CREATE TABLE person (id bigint PRIMARY KEY, plan text); INSERT INTO person SELECT i, 'plan ' || i % 3 FROM generate_series(0, 5) i));
produce($broker, 'odd', [ lines_of($_) ], partition => $_, kcat => $_ ? [ '-Z', '-H', "tenant=t$_" ] : ['-Z']) for 0 .. 2;
make_odd("odd$_", $_) for 0, 1, 2;
for my $n (0, 1, 2)
{
	workers_run("odd$n", $n);
	finish_stream("odd$n");
	next if $n == 0;
	is(books("odd$n"), books('odd0'), "messages of all kinds: the same ledger and dead letters with $n");
	my $log = 'topic, partition, message_offset, user_id, event_time, page_url, event_id, amount, seen, tags::text, effective_user_id, class, message_key, message_headers';
	is(digest($node, "odd${n}_log", $log), digest($node, 'odd0_log', $log), "the same event log with $n");
	my $sessions = 'session_id, effective_user_id, session_start, session_end, n, total, seen';
	is(digest($node, "odd${n}_sessions", $sessions), digest($node, 'odd0_sessions', $sessions), "the same sessions with $n");
	is(digest($node, "odd${n}_plans", 'window_start, person_plan, n'), digest($node, 'odd0_plans', 'window_start, person_plan, n'), "the same columns of a lookup with $n");
	my $tags = 'window_start, tag, a, tenant, message_key, n, amount, page';
	is(digest($node, "odd${n}_tags", $tags), digest($node, 'odd0_tags', $tags), "the same windows with $n");
}
cmp_ok(query(q(SELECT count(*) FROM clickstream.dead_letter WHERE stream = 'odd2' AND definition IS NOT NULL)), '>', 0,
	'some are dead for a definition only');

# ---- they come and go, and are ended, while messages arrive

my $n = 8000;
my @streams = ([ 'calm', 0 ], [ 'ended', 2 ], [ 'altered', 1 ]);
create_site($node, $_->[0], $_->[0], source('site', $_->[1])) for @streams;
query("SELECT clickstream.start('$_->[0]')") for @streams;
for my $round (0 .. 5)
{
	my $more = site_events_from($n, 2000, $seed);
	my $workers = int(rand 4);
	my $order = $round % 2 ? 'DESC' : 'ASC';
	my $victims = 1 + $round % 3;

	produce_site($broker, 'site', $more);
	$n += 2000;
	# A worker more or less, or another change, at any moment.
	query("SELECT clickstream.alter_stream('altered', decode_workers => $workers, idle_timeout => '1 hour')");
	query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'clickstream decode'
		AND application_name LIKE '%ended%' ORDER BY application_name $order LIMIT $victims");
}
for (@streams)
{
	workers_run('ended', 2) if $_->[0] eq 'ended';
	finish_stream($_->[0]);
}
same_site($node, 'ended', 'calm', 'decode workers were ended: nothing is lost or doubled');
is(books('ended'), books('calm'), 'and the ledger is the same');
same_site($node, 'altered', 'calm', 'their number was changed on the way: nothing is lost or doubled');
is(books('altered'), books('calm'), 'and the ledger is the same');

# ---- one is killed: the server starts anew, and the stream goes on

create_site($node, 'killed', 'killed', source('site', 2));
query("SELECT clickstream.start('killed')");
workers_run('killed', 2);
my $pid = query(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'clickstream decode' AND application_name LIKE '%killed%' ORDER BY application_name LIMIT 1));
kill 'KILL', $pid;
wait_until($node, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)");
workers_run('killed', 2);
finish_stream('killed');
same_site($node, 'killed', 'calm', 'a decode worker was killed: nothing is lost or doubled');
is(books('killed'), books('calm'), 'and the ledger is the same');

# ---- partitions that are days apart: those that are ahead wait

sub run_apart
{
	my ($stream, $topic, $n, $drift, $idle) = @_;
	my $source = source($topic, $n, "max_drift => $drift", "idle_timeout => '$idle'");

	query(<<~END);
		SELECT clickstream.create_stream('$stream', $source);
		SELECT clickstream.create_window('${stream}_hours', stream => '$stream', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n');
		SELECT clickstream.start('$stream');
		END
	finish_stream($stream);
}

sub apart_lines
{
	my ($n, $step) = @_;
	return [ map { sprintf qq(k\t{"user_id": "u%d", "event_time": %d}), $_ % 20, 1_750_000_000_000 + $_ * $step * 1000 } 0 .. $n - 1 ];
}

produce($broker, 'apart', apart_lines(2000, 120), partition => 0);
produce($broker, 'apart', apart_lines(10_000, 24), partition => 1);
produce($broker, 'apart', apart_lines(67, 3600), partition => 2);
run_apart('loose', 'apart', 0, 'NULL', '3 seconds');
run_apart('aligned', 'apart', 2, "'2 hours'", '3 seconds');
is(books('aligned'), books('loose'), 'partitions that wait: nothing is lost or doubled');
is(digest($node, 'aligned_hours', 'window_start, user_id, n'), digest($node, 'loose_hours', 'window_start, user_id, n'), 'and the tables are the same');

# Who goes on after a pause must not make those of the same decode worker seem to have more: it would be paused for them, and so on.
produce($broker, 'short', apart_lines(2000, 120), partition => 0);
produce($broker, 'short', apart_lines(10_000, 24), partition => 1);
produce($broker, 'short', apart_lines(10, 60), partition => 2);
run_apart('short', 'short', 2, "'2 hours'", '1 hour');
is(query(q(SELECT sum(used), sum(late), bool_and(balanced) FROM clickstream.audit('short'))), '12010|0|t',
	'partitions that wait, and one that has ended: all is read, at once');
is(query('SELECT sum(n) FROM short_hours'), '12010', 'and counted');

# ---- a message that ends the stream

sub plain { return map { qq(k\t{"event_time": "2024-06-01T10:00:00Z", "page_url": "/$_"}) } 1 .. $_[0] }

produce($broker, 'stops', [ plain(700) ], partition => 1);
produce($broker, 'stops', [ plain(500), "k\tno JSON", plain(700) ], partition => 0);
my $stops = source('stops', 2, "on_error => 'stop'");
query(<<~END);
	SELECT clickstream.create_stream('stops', $stops);
	SELECT clickstream.create_window('days', stream => 'stops', size => '1 day', measures => 'count(*) AS events');
	SELECT clickstream.start('stops');
	END
wait_until($node, q(SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = 'stops'));
like(query(q(SELECT last_error FROM clickstream.stat_stream WHERE stream = 'stops')), qr{message stops/0/500 cannot be used}, 'it says where it stopped');
query(q(SELECT clickstream.skip_message('stops', 0, 500); SELECT clickstream.start('stops')));
finish_stream('stops');
is(query('SELECT sum(events) FROM days'), '1900', 'it goes on behind the message');

# ---- no more of them than partitions, none for a local topic

query("SELECT clickstream.alter_stream('stops', decode_workers => 5); SELECT clickstream.start('stops')");
wait_until($node, q(SELECT decode_workers = 2 AND decode_problem = 'There are fewer partitions than decode workers.' FROM clickstream.stat_stream WHERE stream = 'stops'));
pass('it says that there are fewer partitions');
query("SELECT clickstream.drop_stream('stops')");
wait_until($node, q(SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'clickstream decode')));
pass('they end with their streams');
my (undef, undef, $error) = $node->psql('postgres', "SELECT clickstream.create_stream('local', decode_workers => 1)");
like($error, qr/decode_workers needs brokers/, 'a local topic has none');
(undef, undef, $error) = $node->psql('postgres', "SELECT clickstream.alter_stream('calm', decode_workers => 17)");
like($error, qr/decode_workers must be between 0 and 16/, 'there is a limit');

# ---- a database goes with them

query('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION clickstream; ' . "SELECT clickstream.create_stream('web', " . source('site', 2) . "); SELECT clickstream.start('web')");
wait_until($node, q(SELECT decode_workers = 2 FROM clickstream.stat_stream WHERE stream = 'web'), 'other');
query('DROP DATABASE other');
wait_until($node, q(SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'clickstream decode')));
pass('a database whose stream has decode workers can be dropped');

# ---- no room for them

$node->append_conf('postgresql.conf', 'max_worker_processes = 4');    # the launcher, logical replication's, the stream's, one more
$node->restart;
query("SELECT clickstream.create_stream('narrow', " . source('site', 3) . ')');
query("SELECT clickstream.create_window('narrow_days', stream => 'narrow', size => '1 day', measures => 'count(*) AS n'); SELECT clickstream.start('narrow')");
wait_until($node, q(SELECT decode_workers = 1 AND decode_problem LIKE 'Every background worker slot%' FROM clickstream.stat_stream WHERE stream = 'narrow'));
finish_stream('narrow');
is(query(q(SELECT sum(consumed), bool_and(balanced) FROM clickstream.audit('narrow'))), "$n|t", 'without room for all of them the stream goes on');
$node->stop;
done_testing();
