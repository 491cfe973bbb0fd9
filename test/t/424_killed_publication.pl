# A worker that is stopped while it publishes what it has committed: killed,
# terminated, or held up.  Readers of the open state that wait for it, or read
# at that moment, end with an error where the server restarts, else with the
# right answer, and never hang.  Afterwards the tables are byte for byte those of
# a stream that had the same events and was left in peace.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use ClickstreamTest;

seed_of(424);

my $node = new_node('main',
	"clickstream.commit_interval = '10ms'",
	"clickstream.state_log_size = '256kB'",
	"clickstream.restart_delay = '10ms'",
	'fsync = off',
	'restart_after_crash = on');
my @tables = qw(visits pages steps);

# Asks until the server answers.
sub query
{
	my ($sql) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($code, $out) = ask($node, $sql);
		return $out if $code == 0;
		Time::HiRes::sleep(0.1);
	}
	die "the server does not answer: $sql";
}

# ---- two streams with the same events; "live" is what has a worker

sub make_stream
{
	my ($name) = @_;

	query(<<~END);
		SELECT clickstream.create_stream('$name', watermark_delay => '1 second', idle_timeout => '1 day');
		CREATE SCHEMA $name;
		SET search_path = $name;
		SELECT clickstream.create_session('visits', stream => '$name', gap => '10 seconds',
			measures => 'count(*) AS event_count, count(DISTINCT page_url) AS pages, avg(length(page_url)) AS a');
		SELECT clickstream.create_window('pages', stream => '$name', size => '20 seconds', slide => '10 seconds', group_by => 'page_url',
			measures => 'count(*) AS views, count(DISTINCT user_id) AS visitors');
		SELECT clickstream.create_funnel('steps', stream => '$name', within => '30 seconds', steps => ARRAY[
			clickstream.step('one', \$\$page_url LIKE '%1'\$\$), clickstream.step('two', \$\$page_url LIKE '%2'\$\$)]);
		SELECT clickstream.create_event_log('events', stream => '$name');
		END
}

make_stream('live');
make_stream('calm');
# Sessions that are missing, or there twice, in the table and what is open together; told by the event log, which is of the same commit.
query(<<~'END');
	CREATE VIEW wrong AS
	WITH shown AS (
		SELECT visitor, session_start, count(*) AS n
		FROM (SELECT effective_user_id AS visitor, session_start FROM live.visits
			UNION ALL SELECT visitor, session_start FROM clickstream.open_sessions('live.visits')) AS v
		GROUP BY visitor, session_start),
	there AS (
		SELECT user_id AS visitor, event_time AS session_start
		FROM (SELECT user_id, event_time, lag(event_time) OVER (PARTITION BY user_id ORDER BY event_time) AS before FROM live.events) AS e
		WHERE event_time - before > interval '10 seconds' IS NOT FALSE)
	SELECT visitor, session_start, n FROM there FULL JOIN shown USING (visitor, session_start)
	WHERE n > 1 OR n IS NULL;
	CREATE SEQUENCE clock;
	CREATE FUNCTION traffic(n integer) RETURNS bigint LANGUAGE sql AS $$
	WITH event AS MATERIALIZED (
		SELECT json_build_object('event_type', 'page_view', 'user_id', 'v' || floor(random() * 100),
			'event_time', '2026-01-01 00:00:00+00'::timestamptz + nextval('clock') * interval '100 ms',
			'page_url', 'https://shop.example/' || floor(random() * 30))::text AS payload
		FROM generate_series(1, n))
	SELECT count(clickstream.produce('live', payload)) + count(clickstream.produce('calm', payload)) FROM event $$;
	-- says each look that sees what is not so; never ends by itself
	CREATE PROCEDURE look() LANGUAGE plpgsql AS $$
	DECLARE
		n bigint;
	BEGIN
		LOOP
			SELECT count(*) INTO n FROM wrong;
			RAISE NOTICE 'looked: %', n;
			COMMIT;
		END LOOP;
	END $$;
	SELECT clickstream.start('live');
	END

# ---- readers

sub begin_reader
{
	my ($sql, $name) = @_;
	my %reader = (out => '', err => '');

	$reader{run} = IPC::Run::start([ 'psql', '-X', '-At', '-d', $node->connstr('postgres') . " application_name=$name", '-c', $sql ],
		'<', \undef, '>', \$reader{out}, '2>', \$reader{err}, IPC::Run::timeout(3 * $PostgreSQL::Test::Utils::timeout_default));
	return \%reader;
}

# Its end comes, or this dies of the time-out.
sub end_of
{
	my ($reader) = @_;

	$reader->{run}->finish;
	return $reader;
}

# Or has its answer already: what it wants may be published.
sub until_it_waits
{
	my ($reader) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$reader->{run}->pump_nb if $reader->{run}->pumpable;
		return unless $reader->{run}->pumpable;
		return if query(q(SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'waiting' AND wait_event = 'Extension'))) eq 't';
		Time::HiRes::sleep(0.05);
	}
	die 'the reader neither waits nor ends';
}

# ---- one time

my $n = 0;

sub hold_at
{
	my ($point) = @_;
	my $file = $node->data_dir . "/clickstream_fault.$point";
	my $pass = $point eq 'mid_publication' ? 1 + int rand 20 : 1 + int rand 3;

	unlink $file;
	query("ALTER SYSTEM SET clickstream.fault = '$point:pause:$pass'");
	query('SELECT pg_reload_conf()');
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return $file if -e $file;
		query('SELECT setseed(' . ++$n % 1000 / 1000 . '); SELECT traffic(10)');
		Time::HiRes::sleep(0.05);
	}
	die "the worker does not come by $point";
}

# A reader that began before, and asks again and again; and one who comes now.
sub stop_at
{
	my ($point, $how) = @_;
	my $name = "$how at $point";
	my $looking = begin_reader('CALL look()', 'looking');
	$looking->{run}->pump until $looking->{err} =~ /looked: 0/ || !$looking->{run}->pumpable;
	my $file = hold_at($point);
	my $pid = query("SELECT pid FROM clickstream.stat_stream WHERE stream = 'live'");
	my $waiting = begin_reader('SELECT count(*) FROM wrong', 'waiting');

	until_it_waits($waiting);
	query('ALTER SYSTEM RESET clickstream.fault');
	if ($how eq 'killed')
	{
		kill 'KILL', $pid;
		end_of($_) for $looking, $waiting;
		unlink $file;
		like($looking->{err}, qr/server closed the connection|connection to server was lost|terminating connection/, "$name: who looks again and again learns of it");
		# It may have been done before the kill, if it had nothing to wait for.
		like("$waiting->{out}$waiting->{err}", qr/^0\n$|server closed the connection|connection to server was lost|terminating connection/, "$name: so does who waits");
	}
	else
	{
		kill 'TERM', $pid if $how eq 'terminated';
		unlink $file;
		is(end_of($waiting)->{out}, "0\n", "$name: who waits has the right answer");
		query(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'looking'));
		end_of($looking);
	}
	unlike($looking->{err}, qr/looked: [1-9]/, 'and no look saw anything else');
	like($looking->{err}, qr/looked: 0/, 'but what is so');
	query('SELECT pg_reload_conf()');
	wait_until($node, "SELECT state = 'running' AND pid IS NOT NULL FROM clickstream.stat_stream WHERE stream = 'live'");
	is(query('SELECT count(*) FROM wrong'), '0', 'and afterwards all is there once');
}

for my $point (qw(after_commit mid_publication published))
{
	stop_at($point, $_) for qw(held terminated killed);
}
stop_at('mid_publication', 'killed') for 1 .. 3;

# ---- and then

wait_for($node, 'live');
query("CALL clickstream.finish('live')");
query(q(SELECT clickstream.stop('live')));
query("CALL clickstream.process('calm')");
query("CALL clickstream.finish('calm')");
for my $table (@tables)
{
	my ($live, $calm) = map {
		query("SELECT count(*), md5(string_agg(t, E'\\n' ORDER BY t COLLATE \"C\"))
			FROM (SELECT (to_jsonb(t) - '{revision,session_id,attempt_id}'::text[])::text AS t FROM $_.$table AS t) AS t")
	} qw(live calm);
	is($live, $calm, "$table is that of a stream left in peace");
	isnt((split /\|/, $live)[0], '0', 'which is not empty');
}
is(query(q(SELECT bool_and(balanced) FROM clickstream.audit('live'))), 't', 'each event was counted once');
$node->stop;
done_testing();
