# A closing that goes on in parts, seen from outside: a reader's snapshot from the
# middle of it shows the same rows before and after the rest is written; and
# a server that is killed there goes on where it was, with definitions that had
# finished and others that had not.  A trigger holds the worker in the middle.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '10ms'",
	'clickstream.force_closings = 60',
	'restart_after_crash = on');

sub query { return $node->safe_psql('postgres', $_[0]) }

my @tables = qw(few steps hops);

query(<<~'SQL');
	CREATE TABLE event AS
	SELECT '2024-06-01 10:00+00'::timestamptz + i * interval '4 seconds' AS event_time, 'u' || i * 7 % 150 AS user_id, i % 13 AS amount FROM generate_series(0, 899) AS i;
	-- a row of "steps" waits for whoever has the lock: 1 when there are some, 2 later, when "hops" has closed, and not tidied up
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
	DECLARE
		n bigint;
	BEGIN
		EXECUTE format('SELECT count(*) FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO n;
		IF n BETWEEN 200 AND 300 THEN
			PERFORM pg_advisory_xact_lock_shared(1);
		ELSIF n > 350 THEN
			PERFORM pg_advisory_xact_lock_shared(2);
		END IF;
		RETURN NULL;
	END
	$$;
	SQL

sub is_held
{
	my ($lock) = @_;
	wait_until($node, "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = $lock AND NOT granted");
}

# A stream that has read everything and is held in the middle of its closing, by the first of the locks; returns who holds it.
sub hold
{
	my ($stream, $locks, %option) = @_;
	my $idle = $option{idle_timeout} // '1 day';
	my $more = $option{more} // '';
	my $holder = background($node, on_error_stop => 1);

	$holder->query_safe("SELECT pg_advisory_lock($_)") for @$locks;
	query(<<~END);
		CREATE SCHEMA $stream;
		SELECT clickstream.create_stream('$stream', extra_columns => 'amount int', idle_timeout => '$idle', max_future => NULL);
		SELECT clickstream.create_window('$stream.few', stream => '$stream', size => '40 minutes', slide => '20 minutes', emit => 'closed',
			group_by => 'amount > 5 AS is_much', measures => 'count(*) AS n');
		SELECT clickstream.create_window('$stream.steps', stream => '$stream', size => '1 hour', step => '20 minutes', emit => 'closed',
			group_by => 'user_id', measures => 'count(*) AS n, sum(amount) AS amount');
		SELECT clickstream.create_window('$stream.hops', stream => '$stream', size => '40 minutes', slide => '20 minutes', emit => 'closed',
			group_by => 'user_id', measures => 'count(*) AS n, sum(amount) AS amount');
		CREATE TRIGGER hold AFTER INSERT ON $stream.steps FOR EACH ROW EXECUTE FUNCTION hold();
		SELECT count(clickstream.produce('$stream', to_jsonb(e)::text)) FROM (SELECT * FROM event ORDER BY event_time) AS e;
		SELECT clickstream.produce('$stream', '{"event_time": "2024-06-01T14:00:00Z", "user_id": "last", "amount": 0}');
		$more
		SELECT clickstream.start('$stream');
		END
	is_held($locks->[0]);
	is(query(<<~END), 't|t|f', "$stream: one definition has closed its windows, another one some of them");
		SELECT count(*) = 8, (SELECT count(*) FROM $stream.steps) BETWEEN 1 AND 449, (SELECT closed IS NOT DISTINCT FROM watermark FROM clickstream.progress
			JOIN clickstream.stream USING (stream_id) WHERE name = '$stream') FROM $stream.few
		END
	return $holder;
}

# What plain SQL makes of the events: windows of each form and group that the table, or (_live) its view, has not, or otherwise.
sub wrong
{
	my ($stream, $suffix) = @_;
	my $hours = <<~'END';
		SELECT window_start, window_start + size AS window_end, e.* FROM event AS e, (VALUES (interval '40 minutes')) AS s (size),
			generate_series('2024-06-01 09:40+00'::timestamptz, '2024-06-01 11:00+00', '20 minutes') AS window_start
		WHERE event_time >= window_start AND event_time < window_start + size
		END
	my $steps = <<~'END';
		SELECT '2024-06-01 10:00+00'::timestamptz AS window_start, window_end, e.* FROM event AS e,
			generate_series('2024-06-01 10:20+00'::timestamptz, '2024-06-01 11:00+00', '20 minutes') AS window_end WHERE event_time < window_end
		END
	my @wrong;

	for (
		[ 'few', $hours, 'amount > 5', 'is_much, n', 'count(*)' ],
		[ 'hops', $hours, 'user_id', 'user_id, n, amount', 'count(*), sum(amount)' ],
		[ 'steps', $steps, 'user_id', 'user_id, n, amount', 'count(*), sum(amount)' ])
	{
		my ($table, $windows, $group, $columns, $measures) = @$_;
		push @wrong, query(<<~END);
			WITH windows AS ($windows), plain AS (SELECT window_start, window_end, $group, $measures FROM windows GROUP BY 1, 2, 3),
			ours AS (SELECT window_start, window_end, $columns FROM $stream.$table$suffix WHERE window_start < '2024-06-01 13:00+00')
			SELECT count(*) FROM ((TABLE plain EXCEPT ALL TABLE ours) UNION ALL (TABLE ours EXCEPT ALL TABLE plain)) AS d
			END
	}
	return "@wrong";
}

sub is_closed
{
	my ($stream, $name) = @_;

	wait_until($node, <<~END);
		SELECT closed IS NOT DISTINCT FROM watermark OR (SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = '$stream')
		FROM clickstream.progress JOIN clickstream.stream USING (stream_id) WHERE name = '$stream'
		END
	is(wrong($stream, ''), '0 0 0', $name);
	is(query("SELECT bool_and(balanced) FROM clickstream.audit('$stream')"), 't', "$stream: the ledger is balanced");
	query("SELECT clickstream.stop('$stream')");
}

# ---- a reader

my $holder = hold('held', [ 1, 2 ]);
my $reader = background($node, on_error_stop => 1);
my $look = join ' UNION ALL ', map { "SELECT '$_ ' || (to_jsonb(v) - 'is_final')::text AS line FROM held.${_}_live AS v" } @tables;
$look = qq(SELECT count(*), md5(string_agg(line, E'\\n' ORDER BY line COLLATE "C")) FROM ($look) AS l);

$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $seen = $reader->query_safe($look);
is(wrong('held', '_live'), '0 0 0', 'in the middle a reader finds every window, and nothing in it that it should not count');
$holder->query_safe('SELECT pg_advisory_unlock(1)');
is_held(2);
is(wrong('held', '_live'), '0 0 0', 'and later');
is($reader->query_safe($look), $seen, 'under its snapshot it finds them as they were');
$holder->quit;
is_closed('held', 'what was held goes on, and is right');
is($reader->query_safe($look), $seen, 'also when all is closed');
$reader->query_safe('COMMIT');
$reader->quit;

# ---- a kill

$holder = hold('killed', [2]);
kill 'KILL', query("SELECT pid FROM clickstream.stat_stream WHERE stream = 'killed'");
eval { $holder->quit };
is_closed('killed', 'what was killed goes on where it was');

# ---- a partition that speaks while nobody reads it is not silent

$holder = hold('heard', [1], idle_timeout => '1 second',
	more => q(SELECT clickstream.produce('heard', '{"event_time": "2024-06-01T12:00:00Z", "user_id": "slow", "amount": 1}', partition => 1);));
query(q(SELECT clickstream.produce('heard', '{"event_time": "2024-06-01T12:10:00Z", "user_id": "slow", "amount": 1}', partition => 1)));
my $since = query('SELECT clock_timestamp()');
wait_until($node, "SELECT clock_timestamp() > '$since'::timestamptz + interval '2 seconds'");
$holder->quit;
wait_until($node, "SELECT next_offset = 2 FROM clickstream.stat_partition WHERE stream = 'heard' AND partition = 1");
is(query("SELECT used, late FROM clickstream.stat_partition WHERE stream = 'heard' AND partition = 1"), '2|0', 'what it said meanwhile is not late');
wait_until($node, "SELECT bool_and(idle) FROM clickstream.stat_partition WHERE stream = 'heard'");
is_soon($node, "SELECT string_agg(n::text, ' ' ORDER BY window_end) FROM heard.steps WHERE user_id = 'slow'", '2 2 2', 'and counts');

$node->stop;
done_testing();
