# Rows of what is open, written again in parts by a worker: while messages come, with
# an emit_interval of zero, each transaction writes a bounded number of them, every
# row is right in the end, and then the worker rests; what changes while it goes on
# waits for the next time; killed in the middle of
# it, a server goes on with those that had not had their turn.  State is spilled
# all the time in the second half.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $part = 60;
my $users = 300;
my $rounds = 9;
my $node = new_node('main',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '10ms'",
	"clickstream.force_closings = $part",
	'restart_after_crash = on');

sub query { return $node->safe_psql('postgres', $_[0]) }

my @tables = qw(tumbling hopping cumulative visits buys visits_of_user);

query(<<~SQL);
	CREATE TABLE event AS
	SELECT i / $users AS round, '2024-06-01 10:00+00'::timestamptz + i * interval '0.5 seconds' AS event_time, 'u' || i * 7 % $users AS user_id,
		(ARRAY['look', 'pay', 'like'])[i / $users % 3 + 1] AS event_type, i % 13 AS amount FROM generate_series(0, $users * $rounds - 1) AS i;
	CREATE TABLE written (stream name, name name, key text, xid xid8 DEFAULT pg_current_xact_id());
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS \$\$
	BEGIN
		INSERT INTO public.written VALUES (TG_TABLE_SCHEMA, TG_TABLE_NAME, COALESCE(to_jsonb(NEW) ->> 'session_id', to_jsonb(NEW) ->> 'attempt_id'));
		RETURN NULL;
	END
	\$\$;
	-- who rewrites a row after so many others waits for whoever has the lock
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS \$\$
	BEGIN
		IF (SELECT count(*) > 70 FROM public.written WHERE stream = TG_TABLE_SCHEMA AND name = TG_TABLE_NAME) THEN
			PERFORM pg_advisory_xact_lock_shared(1);
		END IF;
		RETURN NULL;
	END
	\$\$;
	SQL

sub define
{
	my ($stream, $interval) = @_;

	$interval //= '0 seconds';
	query(<<~END);
		CREATE SCHEMA $stream;
		SELECT clickstream.create_stream('$stream', extra_columns => 'amount int', watermark_delay => '0 seconds', idle_timeout => '1 day', max_future => NULL);
		SELECT clickstream.create_window('$stream.tumbling', stream => '$stream', size => '1 hour', emit_interval => '$interval',
			group_by => 'user_id', measures => 'count(*) AS n, sum(amount) AS amount');
		SELECT clickstream.create_window('$stream.hopping', stream => '$stream', size => '1 hour', slide => '30 minutes', emit => 'changes', emit_interval => '$interval',
			group_by => 'user_id', measures => 'count(*) AS n, sum(amount) AS amount');
		SELECT clickstream.create_window('$stream.cumulative', stream => '$stream', size => '1 hour', step => '10 minutes', emit => 'changes', emit_interval => '$interval',
			group_by => 'user_id', measures => 'count(*) AS n, sum(amount) AS amount');
		SELECT clickstream.create_session('$stream.visits', stream => '$stream', gap => '5 minutes', emit => 'changes', emit_interval => '$interval');
		SELECT clickstream.create_session('$stream.hits', stream => '$stream', gap => '1 minute', key => 'user_id', emit => 'closed');
		SELECT clickstream.create_rollup('$stream.visits_of_user', source => '$stream.hits', size => '1 hour', group_by => 'user_id', emit_interval => '$interval',
			measures => 'count(*) AS n');
		SELECT clickstream.create_funnel('$stream.buys', stream => '$stream', within => '1 hour', emit => 'changes', emit_interval => '$interval', steps => ARRAY[
			clickstream.step('look', \$c\$event_type = 'look'\$c\$), clickstream.step('pay', \$c\$event_type = 'pay'\$c\$),
			clickstream.step('like', \$c\$event_type = 'like'\$c\$), clickstream.step('leave', \$c\$event_type = 'leave'\$c\$)]);
		END
	return;
}

sub say
{
	my ($stream, $from, $to) = @_;

	query(<<~END) for $from .. $to;
		SELECT count(clickstream.produce('$stream', (to_jsonb(e) - 'round')::text)) FROM (SELECT * FROM event WHERE round = $_ ORDER BY event_time) AS e
		END
	return;
}

# Rows that differ from those of a stream that wrote all of them at once.
sub differing
{
	my ($stream) = @_;

	return join ' ', map { query(<<~END) } @tables;
		WITH ours AS (SELECT to_jsonb(t) - '{session_id,attempt_id}'::text[] FROM $stream.$_ AS t),
			theirs AS (SELECT to_jsonb(t) - '{session_id,attempt_id}'::text[] FROM whole.$_ AS t)
		SELECT count(*) FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) AS d
		END
}

# And windows and groups whose row is not what plain SQL says.
sub wrong
{
	my ($stream) = @_;
	my %windows = (
		tumbling => q(SELECT '2024-06-01 10:00+00'::timestamptz AS window_start, '2024-06-01 11:00+00'::timestamptz AS window_end, e.* FROM event AS e),
		hopping => q(SELECT s AS window_start, s + interval '1 hour' AS window_end, e.* FROM event AS e,
			generate_series('2024-06-01 09:30+00'::timestamptz, '2024-06-01 10:30+00', '30 minutes') AS s WHERE event_time >= s AND event_time < s + interval '1 hour'),
		cumulative => q(SELECT '2024-06-01 10:00+00'::timestamptz AS window_start, w AS window_end, e.* FROM event AS e,
			generate_series('2024-06-01 10:10+00'::timestamptz, '2024-06-01 10:30+00', '10 minutes') AS w WHERE event_time < w));

	return join ' ', map { query(<<~END) } qw(tumbling hopping cumulative);
		WITH plain AS (SELECT window_start, window_end, user_id, count(*), sum(amount) FROM ($windows{$_}) AS w GROUP BY 1, 2, 3),
			ours AS (SELECT window_start, window_end, user_id, n, amount FROM $stream.$_)
		SELECT count(*) FROM ((TABLE plain EXCEPT ALL TABLE ours) UNION ALL (TABLE ours EXCEPT ALL TABLE plain)) AS d
		END
}

sub commits
{
	my ($stream) = @_;

	return query("SELECT commit_number FROM clickstream.progress JOIN clickstream.stream USING (stream_id) WHERE name = '$stream'");
}

# All is read and shown, and it is right.
sub is_right
{
	my ($stream) = @_;

	query("CALL clickstream.wait_for('$stream', '3 minutes')");
	is(differing($stream), '0 0 0 0 0 0', "$stream: every row is as if all had been written at once");
	is(wrong($stream), '0 0 0', "$stream: and as plain SQL has it");
	is(query("SELECT bool_and(balanced) FROM clickstream.audit('$stream')"), 't', "$stream: the ledger is balanced");
	return;
}

# ---- all at once, to compare with

define('whole');
say('whole', 0, $rounds - 1);
query("SET clickstream.force_closings = 0; CALL clickstream.process('whole')");
is(wrong('whole'), '0 0 0', 'written at once: as plain SQL has it');

# ---- while messages come

define('busy');
query("CREATE TRIGGER note AFTER UPDATE ON busy.$_ FOR EACH ROW EXECUTE FUNCTION note()") for @tables;
say('busy', 0, 0);
query("SELECT clickstream.start('busy')");
for (1 .. 2)
{
	query("CALL clickstream.wait_for('busy', '3 minutes')");
	say('busy', $_, $_);
}
say('busy', 3, $rounds - 1);
is_right('busy');

# a part is about what a batch may close; an operator writes as many for what is due, and as many of what has waited
is(query("SELECT name FROM (SELECT name, count(*) AS n FROM written WHERE stream = 'busy' GROUP BY name, xid) AS t GROUP BY 1 HAVING max(n) > 2 * $part + 20"), '',
	'busy: no transaction has written more rows again than it should');
is(query("SELECT string_agg(name, ' ' ORDER BY name) FROM (SELECT name FROM written WHERE stream = 'busy' GROUP BY 1 HAVING count(DISTINCT xid) > 5 AND count(*) >= $users) AS t"),
	join(' ', sort @tables), 'busy: and there were many to write, of each kind');

# nothing lags behind, so nothing is committed; what had begun when we began to look may yet be
my $before = commits('busy');
my $since = query('SELECT clock_timestamp()');
wait_until($node, "SELECT clock_timestamp() > '$since'::timestamptz + interval '2 seconds'");
cmp_ok(commits('busy') - $before, '<', 5, 'busy: when all is written the worker rests');
query("SELECT clickstream.stop('busy')");

# ---- what changes while it goes on waits for the next time

# A worker that is held while it writes rows of a table again.
sub hold
{
	my ($stream, $table, $then) = @_;
	my $holder = background($node, on_error_stop => 1);

	$holder->query_safe('SELECT pg_advisory_lock(1)');
	query("CREATE TRIGGER note AFTER UPDATE ON $stream.$_ FOR EACH ROW EXECUTE FUNCTION note()") for @tables;
	query("CREATE TRIGGER zzz_hold AFTER UPDATE ON $stream.$table FOR EACH ROW EXECUTE FUNCTION hold()");
	$then->();
	wait_until($node, q(SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted));
	return $holder;
}

define('once', '1 hour');
say('once', 0, 0);
query("SELECT clickstream.start('once')");
query("CALL clickstream.wait_for('once', '3 minutes')");
say('once', 1, 1);
query("CALL clickstream.wait_for('once', '3 minutes')");
query("SELECT clickstream.stop('once')");
# whoever begins writes at once what lags behind
my $holder = hold('once', 'visits', sub { query("SELECT clickstream.start('once')") });
say('once', 2, 2);
$holder->quit;
query("CALL clickstream.wait_for('once', '3 minutes')");
is(query("SELECT name, max(n) FROM (SELECT name, count(*) AS n FROM written WHERE stream = 'once' AND key IS NOT NULL GROUP BY name, key) AS k GROUP BY 1 ORDER BY 1"),
	"buys|1\nvisits|1", 'once: no row is written again twice within its emit_interval');
query("SELECT clickstream.stop('once')");

# ---- killed in the middle, everything spilled

query("ALTER SYSTEM SET clickstream.force_spill = 0");
query("SELECT pg_reload_conf()");
define('killed');
say('killed', 0, $rounds - 2);
query("SELECT clickstream.start('killed')");
query("CALL clickstream.wait_for('killed', '3 minutes')");

$holder = hold('killed', 'tumbling', sub { say('killed', $rounds - 1, $rounds - 1) });
my $done = query("SELECT count(*) FROM killed.tumbling WHERE n = $rounds");
cmp_ok($done, '>', 0, 'killed: some rows of the last round are committed');
cmp_ok($done, '<', $users, 'killed: and others are not');
kill 'KILL', query("SELECT pid FROM clickstream.stat_stream WHERE stream = 'killed'");
eval { $holder->quit };
wait_until($node, "SELECT count(*) = $users FROM killed.tumbling WHERE n = $rounds");
is_right('killed');

$node->stop;
done_testing();
