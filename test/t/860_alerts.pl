# Alerts as a worker evaluates them: they begin, end, wait for hold_for, and fail without harm to the stream.
use strict;
use warnings;

use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main', "clickstream.commit_interval = '50ms'");

sub query { return $node->safe_psql('postgres', @_) }

sub produce_event
{
	my ($type, $time) = @_;
	$time //= 'clock_timestamp()';
	query("SELECT clickstream.produce('web', json_build_object('event_time', $time, 'event_type', '$type', 'user_id', 'u')::text)");
}

sub state_of { return query("SELECT state FROM clickstream.alert WHERE name = '$_[0]'") }

sub wait_state
{
	my ($name, $state) = @_;
	wait_until($node, "SELECT state = '$state' FROM clickstream.alert WHERE name = '$name'");
	pass("alert $name is $state");
}

query(<<~'END');
	SELECT clickstream.create_stream('web');
	SELECT clickstream.create_window('minutes', stream => 'web', size => '1 minute',
		measures => 'count(*) AS views, count(*) FILTER (WHERE event_type = ''purchase'') AS purchases', emit_interval => '0');
	SELECT clickstream.start('web');
	END

# ---- begins after a commit, ends after one, and is told

query(<<~'END');
	SELECT clickstream.create_alert('low conversion',
		'SELECT sum(purchases) AS purchases, sum(views) AS views FROM minutes HAVING sum(purchases) < 0.5 * sum(views)');
	END
produce_event('view');
wait_state('low conversion', 'on');
is(query(q(SELECT detail, since IS NOT NULL FROM clickstream.alert)), '{"views": 1, "purchases": 0}|t', 'the row that began it');
produce_event('purchase') for 1 .. 3;
wait_state('low conversion', 'off');
produce_event('view') for 1 .. 5;
wait_state('low conversion', 'on');
is(query(q(SELECT count(*), count(ended_at), bool_and(ended_at >= began_at) FROM clickstream.alert_history)), '2|1|t',
	'twice in the history, and once ended');

# ---- NOTIFY: what a client hears

my ($out, $err) = ('', '');
my $client = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \my $in, '>', \$out, '2>', \$err);
sub hears
{
	my ($channel, $pattern, $name) = @_;
	for (1 .. 1800)
	{
		$in .= "SELECT 1;\n";
		$client->pump_nb;
		last if $out =~ /notification "$channel" with payload "(.*$pattern.*)" received/;
		select undef, undef, undef, 0.1;
	}
	like($out, qr/notification "$channel" with payload ".*$pattern.*" received/, $name);
	my ($payload) = $out =~ /notification "$channel" with payload "(.*$pattern.*)" received/;
	return $payload ? decode_json($payload) : {};
}
$in = "LISTEN clickstream_alert;\nLISTEN other;\nSELECT 'listening';\n";
$client->pump until $out =~ /listening/;
produce_event('purchase') for 1 .. 30;
my $payload = hears('clickstream_alert', '"event" : "end"', 'NOTIFY as it ends');
is("$payload->{alert}|$payload->{stream}", 'low conversion|web', 'of which alert');
query(q(SELECT clickstream.alter_alert('low conversion', channel => 'other')));
produce_event('view') for 1 .. 60;
$payload = hears('other', '"event" : "begin"', 'NOTIFY as it begins, on another channel');
is($payload->{detail}{purchases}, 33, 'with the row');

# ---- result tables tell of their changes, once a batch

query(q(SELECT clickstream.notify_changes('minutes', 'changes')));
$in .= "LISTEN changes;\nSELECT 'ready';\n";
$client->pump until $out =~ /ready/;
produce_event('view');
$payload = hears('changes', '"table"', 'a batch tells that it wrote');
is("$payload->{table} $payload->{deleted}", 'public.minutes 0', 'into which table');
is($payload->{written} > 0, 1, 'how many rows');
is(query(q(SELECT clickstream.notify_changes('minutes', NULL))), '', 'it ends');

# ---- hold_for, and the clock: nothing is committed while it waits

query(<<~'END');
	SELECT clickstream.create_alert('silence', 'SELECT max(committed_at) AS last FROM clickstream.progress HAVING max(committed_at) < now() - interval ''2 seconds''',
		hold_for => '1 second', stream => 'web');
	END
wait_state('silence', 'on');
is(query(q(SELECT count(*) > 0 FROM clickstream.alert_history WHERE name = 'silence')), 't', 'of silence the clock alone tells');
produce_event('view');
# It is off for two seconds, then silence is again.
wait_until($node, q(SELECT count(ended_at) > 0 FROM clickstream.alert_history WHERE name = 'silence'));
pass('it ends with the next event');
query(q(SELECT clickstream.create_alert('patient', 'SELECT FROM minutes', hold_for => '1 hour')));
wait_state('patient', 'pending');
is(query(q(SELECT count(*) FROM clickstream.alert_history WHERE name = 'patient')), '0', 'pending is not told');
query(q(SELECT clickstream.alter_alert('patient', hold_for => '0')));
wait_state('patient', 'on');

# ---- a query that fails is disabled, with the reason, and harms nobody

my $errors = query(q(SELECT coalesce(last_error, '-') FROM clickstream.stat_stream));
query(<<~'END');
	CREATE TABLE goes (x int);
	SELECT clickstream.create_alert('broken', 'SELECT 1 / (count(*) - count(*)) AS x FROM minutes');
	SELECT clickstream.create_alert('gone', 'SELECT x FROM goes', stream => 'web');
	SELECT clickstream.create_alert('slow', 'SELECT pg_sleep(1000) FROM minutes');
	CREATE FUNCTION sneaky() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM minutes; RETURN 1; END $$;
	SELECT clickstream.create_alert('writes', 'SELECT sneaky() FROM minutes');
	DROP TABLE goes;
	END
produce_event('view');
wait_state($_, 'disabled') for qw(broken gone writes);
wait_state('slow', 'disabled');
is(query(q(SELECT name, last_error, last_error_sqlstate FROM clickstream.alert WHERE state = 'disabled' ORDER BY name)), <<~'END' =~ s/\n\z//r, 'why');
	broken|division by zero|22012
	gone|relation "goes" does not exist|42P01
	slow|the query takes longer than 1000 ms|57014
	writes|cannot execute DELETE in a read-only transaction|25006
	END
produce_event('view');
wait_for($node, 'web');
is_soon($node, q(SELECT state, coalesce(last_error, '-') FROM clickstream.stat_stream), "running|$errors", 'the stream knows nothing of it');
is(query('SELECT sum(views) = (SELECT used FROM clickstream.ledger) FROM minutes'), 't', 'and has lost nothing');
query(q(SELECT clickstream.alter_alert('broken', query => 'SELECT views FROM minutes', enabled => true)));
wait_state('broken', 'on');
is(query(q(SELECT last_error IS NULL FROM clickstream.alert WHERE name = 'broken')), 't', 'mended');

# ---- what is on stays on over a restart, and is told once

my $history = query(q(SELECT count(*), count(ended_at) FROM clickstream.alert_history WHERE name = 'patient'));
$node->restart;
produce_event('view');
wait_for($node, 'web');
is(state_of('patient'), 'on', 'after a restart it is on');
is(query(q(SELECT count(*), count(ended_at) FROM clickstream.alert_history WHERE name = 'patient')), $history, 'as before');

# ---- a stream that does not run: its alerts are looked after nevertheless

sub begun { return query("SELECT count(*) FROM clickstream.alert_history WHERE name = '$_[0]'") }

query(<<~'END');
	SELECT clickstream.create_alert('no events', stream => 'web', query => $$
		SELECT max(silent_since) AS last FROM clickstream.stat_partition WHERE stream = 'web'
		HAVING max(silent_since) < clock_timestamp() - interval '3 seconds'$$);
	SELECT clickstream.create_alert('not running', stream => 'web', query => $$
		SELECT state, last_error FROM clickstream.stat_stream WHERE stream = 'web' AND state NOT IN ('running', 'starting', 'stopping')$$);
	SELECT clickstream.stop('web');
	END
wait_state($_, 'on') for 'not running', 'no events';
is(query(q(SELECT detail->>'state' FROM clickstream.alert WHERE name = 'not running')), 'stopped', 'a view of the state says it');
query(q(SELECT clickstream.start('web')));
produce_event('view');
wait_for($node, 'web');
wait_state('not running', 'off');
wait_until($node, q(SELECT count(ended_at) > 0 FROM clickstream.alert_history WHERE name = 'no events'));
pass('the worker ends what the watcher has begun');

# One that has failed, with alerts made after that; one that never ran; a server that is started with both.
query(<<~'END');
	SELECT clickstream.create_stream('broken', on_error => 'stop');
	SELECT clickstream.create_window('broken_minutes', stream => 'broken', size => '1 minute', measures => 'count(*) AS n');
	SELECT clickstream.produce('broken', 'no JSON');
	SELECT clickstream.start('broken');
	SELECT clickstream.create_stream('lost');
	SELECT clickstream.create_stream('never');
	SELECT clickstream.create_alert('never started', 'SELECT enabled FROM clickstream.stream WHERE name = ''never'' AND NOT enabled', stream => 'never');
	END
wait_state('never started', 'on');
wait_until($node, q(SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = 'broken'));
query(<<~'END');
	SELECT clickstream.create_alert('failed', stream => 'broken', query => $$
		SELECT last_error FROM clickstream.stat_stream WHERE stream = 'broken' AND state = 'failed'$$);
	END
wait_state('failed', 'on');
$node->restart;
query(q(SELECT clickstream.alter_alert('never started', query => 'SELECT 1 AS one WHERE false')));
wait_state('never started', 'off');
is(begun('never started'), '1', 'each began once');

# One that cannot even be loaded is no reason to leave out those behind it.
query(<<~'END');
	SELECT clickstream.create_alert('lost', 'SELECT 1 AS one', stream => 'lost');
	UPDATE clickstream.stream SET event_relation = 1 WHERE name = 'lost';
	SELECT clickstream.create_alert('behind it', 'SELECT 1 AS one', stream => 'never');
	END
wait_state('behind it', 'on');

# Each watcher is another process, and yet what always takes too long is given up.
query(q(SELECT clickstream.create_alert('sleepy', 'SELECT pg_sleep(1000)', stream => 'never')));
wait_until($node, q(SELECT failures > 0 FROM clickstream.alert_definition WHERE name = 'sleepy'));
query(q(UPDATE clickstream.alert_definition SET failures = 2 WHERE name = 'sleepy' AND enabled)); # without waiting for the second
wait_state('sleepy', 'disabled');
query(q(SELECT clickstream.alter_alert('sleepy', query => 'SELECT 1 AS one', enabled => true)));
is(query(q(SELECT failures FROM clickstream.alert_definition WHERE name = 'sleepy')), '0', 'mended it has failed never');
wait_state('sleepy', 'on');
query(q(SELECT clickstream.drop_stream(name) FROM unnest('{broken,never,lost}'::text[]) AS name));

# Nobody is left who would look after nothing.
query(q(SELECT clickstream.drop_alert(name) FROM clickstream.alert WHERE name IN ('no events', 'not running')));

# One that is dropped, or disabled by hand, ends.
query(q(SELECT clickstream.alter_alert('patient', enabled => false)));
is(query(q(SELECT count(ended_at) FROM clickstream.alert_history WHERE name = 'patient')), '1', 'disabled by hand it ends');
# The history does not grow for ever.  (Of silence the clock tells, at any moment.)
query(q(SELECT clickstream.drop_alert('silence')));
query(q(SELECT clickstream.set_alert_retention('web', '0')));
my $on = query('SELECT count(*) FROM clickstream.alert_history WHERE ended_at IS NULL');
query('CALL clickstream.maintain()');
is(query('SELECT count(*) FROM clickstream.alert_history'), $on, 'maintain() deletes what has ended of the history');
query(q(SELECT clickstream.drop_alert(name) FROM clickstream.alert));
is(query('SELECT count(*) FROM clickstream.alert_history'), '0', 'dropped with its history');

$client->kill_kill;
$node->stop;
done_testing();
