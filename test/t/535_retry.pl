# retry_dead_letters() on a server that is killed in the middle of it, twice at
# once, and of a stream that runs or does not: each letter is brought back once.
# And a stream that stops at a bad message says so at once.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '20ms'",
	'fsync = off',
	'restart_after_crash = on');
my $retry = q{SELECT count(*) FILTER (WHERE outcome = 'used'), count(*) FROM clickstream.retry_dead_letters('web', fix => $$replace(message, '"ts"', '"event_time"')$$)};

sub query { return $node->safe_psql('postgres', $_[0]) }

# So many messages, each tenth with its time under another name.
sub send_messages
{
	query(<<~END);
		SELECT count(clickstream.produce('web', format('{"%s": "2024-06-01T10:00:%s", "user_id": "u%s", "page_url": "/%s"}',
			CASE WHEN i % 10 = 0 THEN 'ts' ELSE 'event_time' END, lpad((i % 60)::text, 2, '0'), i % 7, i % 3), partition => i % 2))
		FROM generate_series(1, $_[0]) AS i
		END
	return;
}

sub sums
{
	return query(q{SELECT (SELECT sum(n) FROM pages), (SELECT count(*) FROM log), (SELECT sum(used) || ' ' || sum(dead) || ' ' || bool_and(balanced) FROM clickstream.audit('web'))});
}

query(<<~'END');
	SELECT clickstream.create_stream('web', idle_timeout => '1 day');
	SELECT clickstream.create_window('pages', stream => 'web', size => '1 hour', group_by => 'page_url', measures => 'count(*) AS n', emit => 'changes', emit_interval => '0');
	SELECT clickstream.create_session('visits', stream => 'web', gap => '1 hour', emit => 'changes', emit_interval => '0', measures => 'count(*) AS n');
	SELECT clickstream.create_event_log('log', stream => 'web');
	SELECT clickstream.start('web');
	END
my $sent = 0;
for my $fault (qw(evaluated applied before_write before_log after_log at_commit))
{
	my $offset;

	send_messages(100);
	$sent += 100;
	wait_for($node, 'web');
	is(sums(), ($sent - 10) . '|' . ($sent - 10) . '|' . ($sent - 10) . ' 10 true', 'a tenth of the messages is dead');
	$offset = -s $node->logfile;
	ask($node, "SET clickstream.fault = '$fault:kill'; $retry");
	$node->wait_for_log(qr/database system is ready to accept connections/, $offset);
	ok(unlink($node->data_dir . "/clickstream_fault.$fault"), "killed at $fault");
	wait_until($node, q(SELECT state = 'running' FROM clickstream.stat_stream WHERE stream = 'web'));
	is(sums(), ($sent - 10) . '|' . ($sent - 10) . '|' . ($sent - 10) . ' 10 true', 'nothing has happened');
	is(query($retry), '10|10', 'they are brought back');
	is(query($retry), '0|0', 'once');
	wait_for($node, 'web');
	is(sums(), "$sent|$sent|$sent 0 true", 'and counted once');
}

# Two at once: the second waits, and finds what the first has left.
send_messages(100);
$sent += 100;
wait_for($node, 'web');
my $first = background($node, on_error_stop => 1);
is($first->query_safe("BEGIN; $retry"), '10|10', 'one brings some back');
my $answer;
my $second = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SET application_name = 'second'; $retry" ], '>', \$answer);
wait_until($node, q(SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'second' AND wait_event_type = 'Lock'));
$first->query_safe('COMMIT');
$first->quit;
$second->finish;
is($answer, "0|0\n", 'the other one waits for it, and finds none');
wait_for($node, 'web');
is(sums(), "$sent|$sent|$sent 0 true", 'each is counted once');

# A stream that is stopped, and stays so.
send_messages(100);
$sent += 100;
wait_for($node, 'web');
query(q(SELECT clickstream.stop('web')));
wait_until($node, q(SELECT pid IS NULL FROM clickstream.stat_stream WHERE stream = 'web'));
is(query($retry), '10|10', 'a stopped stream takes them');
is(query(q(SELECT pid IS NULL FROM clickstream.stat_stream WHERE stream = 'web')), 't', 'and stays stopped');
is(sums(), "$sent|$sent|$sent 0 true", 'each is counted once');
query(q(SELECT clickstream.start('web')));
send_messages(9);
$sent += 9;
wait_for($node, 'web');
is(sums(), "$sent|$sent|$sent 0 true", 'and goes on from there');
is(query('SELECT sum(n) FROM visits'), $sent, 'sessions have them, too');
is(query(q(SELECT count(*) FROM clickstream.verify('visits'))), '0', 'as they should');

# Stopping at a bad message is no error to try again.
my $from = -s $node->logfile;
query(q(SELECT clickstream.alter_stream('web', on_error => 'stop'); SELECT clickstream.produce('web', 'no JSON')));
wait_until($node, q(SELECT state = 'failed' AND last_error LIKE 'message web/0/% cannot be used:%' FROM clickstream.stat_stream WHERE stream = 'web'));
my $errors = () = slurp_file($node->logfile, $from) =~ /ERROR:  message .* cannot be used/g;
is($errors, 1, 'a stream that is to stop at a bad message has failed at once');
query(q(SELECT clickstream.alter_stream('web', on_error => 'dead_letter'); SELECT clickstream.start('web')));
wait_for($node, 'web');
is(sums(), "$sent|$sent|$sent 1 true", 'and goes on when it is to');
done_testing();
