# Events that are too late for some of a definition's windows, from Kafka: the batch
# ends before one that would close too much, and the broker gives the rest again.
# The server is killed in the middle of such a closing; the rows are those of
# plain SQL, and so are those of a definition filled from the topic.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $seed = seed_of(434);
my $node = new_node('main',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '10ms'",
	'clickstream.force_closings = 20',
	'restart_after_crash = on');
my $broker = start_broker(web => 1);
my $address = $broker->address;

sub query { return $node->safe_psql('postgres', $_[0]) }

# ---- what there is: a quarter late by up to an hour, leaps of time, and lines that are no messages

my $base = 1717236000; # 2024-06-01 10:00+00
my (@lines, @values);
for my $i (0 .. 599)
{
	my $second = $base + $i * 10 + int($i / 100) * 4000 - (rand() < 0.25 ? int(rand(3600)) : 0);
	my $user = 'u' . int(rand(40));
	my $amount = int(rand(100));

	push @lines, "$user\t{broken" if $i % 50 == 7;
	push @lines, qq($user\t{"event_time": $second, "user_id": "$user", "amount": $amount});
	push @values, "($i, to_timestamp($second), '$user', $amount)";
}
produce($broker, 'web', \@lines, partition => 0);
my $values = join ', ', @values;
query(<<~END);
	CREATE TABLE event (i int, event_time timestamptz, user_id text, amount int);
	INSERT INTO event VALUES $values;
	CREATE VIEW met AS
	SELECT *, max(event_time) OVER (ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - interval '1 minute' AS watermark FROM event;
	CREATE VIEW plain_hops AS
	SELECT s AS window_start, s + interval '1 hour' AS window_end, user_id, count(*) AS n, sum(amount) AS amount
	FROM met, generate_series(date_bin('10 minutes', event_time, '2024-06-01+00') - interval '50 minutes', date_bin('10 minutes', event_time, '2024-06-01+00'), '10 minutes') AS s
	WHERE watermark IS NULL OR watermark < s + interval '1 hour' - interval '1 ms' GROUP BY 1, 2, 3;
	CREATE VIEW plain_steps AS
	SELECT date_bin('2 hours', event_time, '2024-06-01+00') AS window_start, s AS window_end, user_id, count(*) AS n, sum(amount) AS amount
	FROM met, generate_series(date_bin('15 minutes', event_time, '2024-06-01+00') + interval '15 minutes', date_bin('2 hours', event_time, '2024-06-01+00') + interval '2 hours', '15 minutes') AS s
	WHERE watermark IS NULL OR watermark < s - interval '1 ms' GROUP BY 1, 2, 3;
	CREATE SCHEMA web;
	SELECT clickstream.create_stream('web', brokers => '$address', topic => 'web', start_from => 'earliest', extra_columns => 'amount int', watermark_delay => '1 minute', idle_timeout => '1 day',
		max_future => NULL);
	END

sub define
{
	my ($suffix, $backfill) = @_;

	query(<<~END);
		SELECT clickstream.create_window('web.hops$suffix', stream => 'web', size => '1 hour', slide => '10 minutes', emit => 'closed', backfill => $backfill,
			group_by => 'user_id', measures => 'count(*) AS n, sum(amount) AS amount');
		SELECT clickstream.create_window('web.steps$suffix', stream => 'web', size => '2 hours', step => '15 minutes', emit => 'closed', backfill => $backfill,
			group_by => 'user_id', measures => 'count(*) AS n, sum(amount) AS amount');
		END
	return;
}

# ---- killed while it closes what one of them must wait for

define('', 'false');
my $holder = background($node, on_error_stop => 1);
$holder->query_safe('SELECT pg_advisory_lock(1)');
query(<<~'SQL');
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
	BEGIN
		IF (SELECT count(*) > 500 FROM web.hops) THEN
			PERFORM pg_advisory_xact_lock_shared(1);
		END IF;
		RETURN NULL;
	END
	$$;
	CREATE TRIGGER hold AFTER INSERT ON web.hops FOR EACH ROW EXECUTE FUNCTION hold();
	SELECT clickstream.start('web');
	SQL
wait_until($node, q(SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted));
is(query(q(SELECT max(n) < 100 FROM (SELECT count(*) AS n FROM web.hops GROUP BY xmin) AS x)), 't', "seed $seed: no transaction has closed more than it should");
is(query('SELECT sum(next_offset) < ' . @lines . ' FROM clickstream.stat_partition'), 't',
	'it stands before an event that must wait');
kill 'KILL', query("SELECT pid FROM clickstream.stat_stream WHERE stream = 'web'");
eval { $holder->quit };
wait_until($node, 'SELECT sum(next_offset) = ' . @lines . ' FROM clickstream.stat_partition');

# ---- history

define('_again', 'true');
wait_until($node, 'SELECT NOT EXISTS (SELECT FROM clickstream.stat_progress)');
query("CALL clickstream.finish('web')");
wait_until($node, "SELECT closed = 'infinity' FROM clickstream.progress");
for my $table (qw(hops steps hops_again steps_again))
{
	my ($form) = $table =~ /^(hops|steps)/;

	is(query(<<~END), '0|t', "seed $seed: $table is as plain SQL has it");
		WITH ours AS (SELECT window_start, window_end, user_id, n, amount FROM web.$table)
		SELECT count(*), (SELECT count(*) > 500 FROM ours) FROM ((TABLE ours EXCEPT ALL TABLE plain_$form) UNION ALL (TABLE plain_$form EXCEPT ALL TABLE ours)) AS d
		END
	is(query("SELECT max(n) < 100 FROM (SELECT count(*) AS n FROM web.$table GROUP BY xmin) AS x"), 't', "$table: and no transaction has closed more than it should");
}
is(query('SELECT count(*), count(DISTINCT message_offset) FROM clickstream.dead_letter'), '12|12', 'what is no message is a dead letter once');
is(query("SELECT bool_and(balanced) FROM clickstream.audit('web')"), 't', 'the ledger is balanced');

$node->stop;
done_testing();
