# The state outlives the server.  It is stopped, and it crashes, between two
# events of the same session, the same window and the same chain of a funnel,
# once for each kind of measure: as if it had never stopped.  And the log that
# the state is recovered from is switched, copied forward and truncated while
# the stream runs, crashes, and is looked at by an old snapshot.
use strict;
use warnings;

use PostgreSQL::Test::BackgroundPsql;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;
use StateLog;

my $node = new_node('main', "clickstream.commit_interval = '10ms'");

sub query { return $node->safe_psql('postgres', $_[0]) }

# Events of table "event" from n on, before m, into a stream's local topic.
sub produce_events
{
	my ($stream, $from, $before) = @_;
	query(<<~END);
		SELECT count(clickstream.produce('$stream', json_build_object('user_id', user_id, 'event_type', event_type,
			'event_time', event_time, 'page_url', page_url, 'device_type', device_type,
			'event_properties', json_build_object('amount', amount))::text))
		FROM (SELECT * FROM event WHERE n >= $from AND n < $before ORDER BY n OFFSET 0) AS e
		END
}

# ---- each kind of measure, over a server that stops

query(<<~'END');
	CREATE FUNCTION spread_add(state numeric[], value numeric) RETURNS numeric[] IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		IF value IS NULL THEN
			RETURN state;
		END IF;
		RETURN ARRAY[least(state[1], value), greatest(state[2], value), coalesce(state[3], 0) + 1];
	END $$;
	CREATE FUNCTION spread_merge(a numeric[], b numeric[]) RETURNS numeric[] IMMUTABLE LANGUAGE sql AS
		'SELECT ARRAY[least(a[1], b[1]), greatest(a[2], b[2]), coalesce(a[3], 0) + coalesce(b[3], 0)]';
	CREATE FUNCTION spread_text(state numeric[]) RETURNS text IMMUTABLE LANGUAGE sql AS
		$$SELECT format('%s to %s, %s values', state[1], state[2], state[3])$$;
	CREATE AGGREGATE spread(numeric) (SFUNC = spread_add, STYPE = numeric[], COMBINEFUNC = spread_merge,
		FINALFUNC = spread_text, PARALLEL = SAFE);

	-- Three parts of 80 events, all within 40 minutes.  Four visitors; each has 20 more pages in each part.
	CREATE TABLE event AS
	SELECT n, 'u' || n % 4 AS user_id,
		CASE WHEN n % 80 < 4 AND n <> 163 THEN (ARRAY['view', 'cart', 'purchase'])[1 + n / 80] ELSE 'other' END AS event_type,
		'2025-03-01 12:00:00+00'::timestamptz + n * interval '10 seconds' AS event_time,
		'/page/' || n AS page_url,
		CASE n % 2 WHEN 0 THEN 'mobile' ELSE 'desktop' END AS device_type,
		round((n * 7919 % 1000) / 7.0, 2) AS amount,
		(n * 7919 % 1000) AS number
	FROM generate_series(0, 239) AS n;
	END

my $amount = "(event_properties->>'amount')::numeric";
# name => the measure; where plain SQL says it differently, that too
my %measures = (
	count => ['count(*)'],
	filtered => [q(count(*) FILTER (WHERE event_type = 'other'))],
	distinct_few => ['count(DISTINCT event_type)'],
	distinct => ['count(DISTINCT page_url)'],
	sum => ["sum((event_properties->>'amount')::numeric::int)", 'sum(amount::int)'],
	sum_numeric => [ "sum($amount)", 'sum(amount)' ],
	avg_numeric => [ "avg($amount)", 'avg(amount)' ],
	max_numeric => [ "max($amount)", 'max(amount)' ],
	min_text => ['min(page_url)'],
	max_text => ['max(page_url)'],
	first => [ 'first(page_url)', '(array_agg(page_url ORDER BY n))[1]' ],
	last => [ 'last(page_url)', '(array_agg(page_url ORDER BY n DESC))[1]' ],
	any => [q(bool_or(event_type = 'purchase'))],
	stddev => [ "stddev($amount)", 'stddev(amount)' ],
	user_defined => [ "public.spread($amount)", 'spread(amount)' ]);

sub make_tables
{
	my ($stream) = @_;
	query(join "\n", "SELECT clickstream.create_stream('$stream', idle_timeout => '1 hour');",
		map { <<~END } sort keys %measures);
			SELECT clickstream.create_session('${stream}_session_$_', stream => '$stream',
				measures => \$m\$$measures{$_}[0] AS value, count(*) AS event_count\$m\$);
			SELECT clickstream.create_window('${stream}_window_$_', stream => '$stream', size => '1 hour',
				group_by => 'device_type', measures => \$m\$$measures{$_}[0] AS value\$m\$);
			END
	query(<<~END);
		SELECT clickstream.create_funnel('${stream}_funnel', stream => '$stream', within => '1 day', key => 'user_id',
			steps => ARRAY[clickstream.step('view', \$\$event_type = 'view'\$\$),
				clickstream.step('cart', \$\$event_type = 'cart'\$\$),
				clickstream.step('purchase', \$\$event_type = 'purchase'\$\$)])
		END
}

# Counts of the open sessions' events, as every query about them says.
sub open_counts
{
	return query(<<~'END');
		SELECT string_agg(visitor || ' ' || event_count, ', ' ORDER BY visitor)
		FROM clickstream.open_sessions('stopped_session_count')
		END
}

make_tables($_) for qw(straight stopped);
produce_events('straight', 0, 240);
query("CALL clickstream.process('straight'); CALL clickstream.finish('straight')");

query("SELECT clickstream.start('stopped')");
produce_events('stopped', 0, 80);
wait_for($node, 'stopped');
is(open_counts(), 'u0 20, u1 20, u2 20, u3 20', 'sessions are open when the server stops');
$node->restart;
is(open_counts(), 'u0 20, u1 20, u2 20, u3 20', 'and when it has started again');
produce_events('stopped', 80, 160);
wait_for($node, 'stopped');
is(open_counts(), 'u0 40, u1 40, u2 40, u3 40', 'they go on');
$node->stop('immediate');
$node->start;
is(open_counts(), 'u0 40, u1 40, u2 40, u3 40', 'they are open after a crash');
produce_events('stopped', 160, 240);
wait_for($node, 'stopped');
query("CALL clickstream.finish('stopped')");

for my $kind (sort keys %measures)
{
	my $sql = $measures{$kind}[1] // $measures{$kind}[0];
	my $session = 'visitor, session_start, session_end, value, closed_reason, is_final';
	my $window = 'window_start, window_end, device_type, value, is_final, group_key';
	$session =~ s/visitor/effective_user_id/;

	is(digest($node, "stopped_session_$kind", $session), digest($node, "straight_session_$kind", $session),
		"$kind: sessions as if it had never stopped");
	is(digest($node, "stopped_window_$kind", $window), digest($node, "straight_window_$kind", $window),
		"$kind: windows as if it had never stopped");
	is(query("SELECT device_type, value FROM stopped_window_$kind ORDER BY 1"),
		query("SELECT device_type, $sql FROM event GROUP BY 1 ORDER BY 1"), "$kind: windows as plain SQL says");
	is(query("SELECT effective_user_id, value FROM stopped_session_$kind ORDER BY 1"),
		query("SELECT user_id, $sql FROM event GROUP BY 1 ORDER BY 1"), "$kind: sessions as plain SQL says");
}
is(query('SELECT user_id, level, is_conversion, view_time, cart_time, purchase_time FROM stopped_funnel ORDER BY 1'),
	query('SELECT user_id, level, is_conversion, view_time, cart_time, purchase_time FROM straight_funnel ORDER BY 1'),
	'the funnel as if it had never stopped');
is(query(q(SELECT string_agg(user_id || ' ' || level, ', ' ORDER BY user_id) FROM stopped_funnel)),
	'u0 3, u1 3, u2 3, u3 2', 'chains reached over both stops');
is(query("SELECT sum(consumed), bool_and(balanced) FROM clickstream.audit('stopped')"), '240|t', 'each event was counted once');
query("SELECT clickstream.drop_stream('stopped'); SELECT clickstream.drop_stream('straight')");

# ---- the state log: switched, copied forward, truncated

# 20 events a commit; 40 visitors stay, whose sessions have some 16 kB each, of
# which an event changes little; one event in seven is of a visitor who comes
# once.  One set grows all the time.
query(<<~'END');
	TRUNCATE event;
	INSERT INTO event
	SELECT n, CASE n % 7 WHEN 0 THEN 'once' || n ELSE 'u' || n % 40 END, 'view',
		'2025-03-01 12:00:00+00'::timestamptz + n * interval '0.2 seconds', '/page/' || n, 'mobile', n, n
	FROM generate_series(0, 39999) AS n;
	CREATE INDEX ON event (n);
	ALTER SYSTEM SET clickstream.batch_messages = 20;
	ALTER SYSTEM SET clickstream.state_log_size = '256kB';
	END
$node->reload;
for my $stream (qw(log whole))
{
	query(<<~END);
		SELECT clickstream.create_stream('$stream', idle_timeout => '1 hour');
		SELECT clickstream.create_session('${stream}_sessions', stream => '$stream', gap => '1 minute',
			measures => 'count(*) AS event_count, max(repeat(page_url, 1500)) AS long, first(page_url) AS first_page,
				count(DISTINCT page_url) AS pages');
		SELECT clickstream.create_window('${stream}_days', stream => '$stream', size => '1 day',
			measures => 'count(*) AS events, count(DISTINCT page_url) AS pages, sum(length(page_url)) AS length');
		END
}
my $id = query("SELECT stream_id FROM clickstream.stream WHERE name = 'log'");
my $sessions = "clickstream.open_sessions('log_sessions')";
my $produced = 0;

# 60 more events, three commits, or as many as are named; then where the log stands.
sub go_on
{
	my $events = $_[0] // 60;

	die 'all events are used up' if $produced >= 40_000;
	produce_events('log', $produced, $produced + $events);
	$produced += $events;
	wait_for($node, 'log');
	return log_now();
}

sub log_now
{
	my %log;

	@log{qw(half copied waits file0 file1 size0 size1)} = split /\|/, query(<<~END);
		SELECT log_half, log_copied, log_copied_xid IS NOT NULL, pg_relation_filenode('clickstream.state_log_${id}_a'),
			pg_relation_filenode('clickstream.state_log_${id}_b'), pg_relation_size('clickstream.state_log_${id}_a'),
			pg_relation_size('clickstream.state_log_${id}_b')
		FROM clickstream.progress WHERE stream_id = $id
		END
	return \%log;
}

# Goes on until something is true of the log.
sub go_on_until
{
	my ($is_true, $events) = @_;
	my $log;

	do { $log = go_on($events) } until $is_true->($log);
	return $log;
}

# Records of each kind in the half that is written, or in the other one.
sub half_counts
{
	my ($half) = @_;
	return log_counts($node, "clickstream.state_log_${id}_" . qw(a b)[$half]);
}

# The open sessions of the events until now, without the engine.
sub is_open_state
{
	my ($name) = @_;
	my $before = $produced - 1;

	is(digest($node, $sessions, "visitor, session_start, last_event, event_count, measures->>'pages'"),
		query(<<~END), $name);
		SELECT count(*) || ' ' || md5(string_agg(s::text, E'\\n' ORDER BY s::text COLLATE "C"))
		FROM (
			SELECT user_id, min(event_time), max(event_time), count(*), count(DISTINCT page_url)::text
			FROM event WHERE n <= $before
			GROUP BY user_id
			HAVING max(event_time) + interval '1 minute' - interval '1 millisecond'
				> (SELECT event_time - interval '10 seconds' FROM event WHERE n = $before)) AS s
		END
}

query("SELECT clickstream.start('log')");
# Small at first: then copying would be over at once.
my $begin = go_on_until(sub { $produced >= 900 && $_[0]{copied} eq 't' && $_[0]{waits} eq 'f' });
my $log = go_on_until(sub { $_[0]{copied} eq 'f' }, 20);    # copying takes some commits: look after each
is($log->{half}, 1 - $begin->{half}, 'the log has changed to its other half, and copies');
my $counts = half_counts($begin->{half});
cmp_ok($counts->{delta}, '>', $counts->{image}, 'mostly changes of entries were written');
is_open_state('while it copies, readers fold both halves');
$node->stop('immediate');
$node->start;
is_open_state('also after a crash in the middle of copying');
$log = go_on_until(sub { $_[0]{copied} eq 't' && $_[0]{waits} eq 'f' });
isnt($log->{"file$begin->{half}"}, $begin->{"file$begin->{half}"}, 'when all is copied the older half is truncated');
is($log->{"size$begin->{half}"}, '0', 'and empty');
is_open_state('the newer half alone has the whole state');
$counts = half_counts(1 - $begin->{half});
cmp_ok($counts->{image}, '>', 40, 'copied forward are whole entries');
cmp_ok($counts->{delta}, '>', 0, 'and changes follow them');
$node->stop('immediate');
$node->start;
is_open_state('also after a crash');
$log = go_on_until(sub { $_[0]{half} == $begin->{half} && $_[0]{copied} eq 't' && $_[0]{waits} eq 'f' });
is($log->{'size' . (1 - $begin->{half})}, '0', 'and back again');
$node->restart;
is_open_state('after a restart the state is whole');

# An old snapshot that has not yet touched the log.
my $reader = background($node, on_error_stop => 1);
my $state_then = digest($node, $sessions);
my $half_then = $log->{half};
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$reader->query_safe('SELECT txid_current_snapshot()');
$log = go_on_until(sub { $_[0]{half} != $half_then && $_[0]{copied} eq 't' && $_[0]{waits} eq 't' });
cmp_ok(half_counts($half_then)->{delta}, '>', 0, 'an old snapshot needs the older half, which holds changes of entries');
my $waiting = go_on_until(sub { $_[0]{"size" . (1 - $half_then)} >= 1.5 * $log->{"size" . (1 - $half_then)} });
is($waiting->{"file$half_then"}, $log->{"file$half_then"}, 'the older half is not truncated while an old snapshot may need it');
cmp_ok($waiting->{"size$half_then"}, '>', 0, 'and holds what it held');
is($reader->query_safe(<<~END), $state_then, 'open_sessions() under the old snapshot shows the old state');
	SELECT count(*) || ' ' || md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE "C")) FROM $sessions AS t
	END
is_open_state('and the new state without it');

# To the worker it is of no use any more.
query("SELECT clickstream.stop('log')");
query("DELETE FROM clickstream.state_log_${id}_" . qw(a b)[$half_then] . ' WHERE commit_number % 2 = 0');
query("SELECT clickstream.start('log')");
go_on();
is_open_state('which a start does not read');
$reader->query_safe('COMMIT');
$reader->quit;
$log = go_on_until(sub { $_[0]{half} != $half_then && $_[0]{waits} eq 'f' });
is($log->{"size$half_then"}, '0', 'when the snapshot is gone it is truncated');
is_open_state('and the state is whole');

# All of it was as it is without any of this.
query("CALL clickstream.finish('log')");
produce_events('whole', 0, $produced);
query('SET clickstream.batch_messages = 1000000; ' . "CALL clickstream.process('whole'); CALL clickstream.finish('whole')");
for my $columns (
	[ sessions => 'effective_user_id, session_start, session_end, event_count, long, first_page, pages, closed_reason, is_final' ],
	[ days => 'window_start, window_end, events, pages, length, is_final' ])
{
	is(digest($node, "log_$columns->[0]", $columns->[1]), digest($node, "whole_$columns->[0]", $columns->[1]),
		"$columns->[0]: as in one go");
}
is(query('SELECT events, pages FROM log_days'), "$produced|$produced", 'each event was counted once');
note "$produced events";

$node->stop;
done_testing();
