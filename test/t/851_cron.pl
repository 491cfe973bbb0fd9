# Maintenance by pg_cron: schedule_maintenance() makes its jobs, pg_cron runs them, and the stream goes on meanwhile.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main', "clickstream.commit_interval = '50ms'");

sub query { return $node->safe_psql('postgres', @_) }

sub fails
{
	my ($sql, $pattern, $name, $database) = @_;
	my (undef, undef, $error) = $node->psql($database // 'postgres', $sql);
	like($error, $pattern, $name);
}

# ---- without pg_cron it says how to get it, and what else there is

fails('SELECT clickstream.schedule_maintenance()',
	qr/pg_cron is not installed.*any scheduler can run: psql -d postgres -c 'CALL clickstream\.maintain\(\)'.*postgresql-15-cron/s,
	'without pg_cron: what to do');

# ---- with it

$node->append_conf('postgresql.conf', <<~"END");
	shared_preload_libraries = 'clickstream,pg_cron'
	cron.database_name = 'postgres'
	cron.host = '${\ $node->host}'
	port = ${\ $node->port}
	END
$node->restart;
query('CREATE EXTENSION pg_cron');
query(<<~'END');
	SELECT clickstream.create_stream('web', idle_timeout => '1 hour');
	SELECT clickstream.create_window('minutes', stream => 'web', size => '1 minute', measures => 'count(*) AS events');
	SELECT clickstream.set_retention('minutes', '1 hour');
	SELECT clickstream.set_letter_retention('web', '0');
	SELECT clickstream.start('web');
	SELECT count(clickstream.produce('web', json_build_object('event_time', now() - m * interval '1 minute', 'user_id', 'u')::text))
	FROM generate_series(300, 0, -1) AS m;
	SELECT clickstream.produce('web', 'no JSON');
	END
wait_for($node, 'web');
is(query('SELECT count(*) > 290 FROM minutes'), 't', 'five hours of minutes');
my $job = query(q(SELECT clickstream.schedule_maintenance('* * * * *')));
is(query('SELECT schedule, command FROM cron.job'), '* * * * *|CALL clickstream.maintain()', 'the job');
is(query(q(SELECT clickstream.schedule_maintenance('* * * * *', stream => 'web'))) > $job, 1, 'another one for a stream');
is(query(q(SELECT command FROM cron.job ORDER BY jobid DESC LIMIT 1)), q(CALL clickstream.maintain('web')), 'with its own command');
wait_until($node, 'SELECT count(*) < 70 FROM minutes');
is(query(q(SELECT count(*) > 50 FROM minutes)), 't', 'an hour of minutes is left');
wait_until($node, 'SELECT count(*) = 0 FROM clickstream.dead_letter');
wait_until($node, q(SELECT count(DISTINCT jobid) = 2 FROM cron.job_run_details WHERE status = 'succeeded'));
# (A connection that a loaded machine did not open in time is tried again a minute later.)
is(query(q(SELECT string_agg(return_message, '; ') FROM cron.job_run_details WHERE status = 'failed' AND return_message !~ 'timeout')), '',
	'and no dead letters; the jobs succeeded');
query(q(SELECT clickstream.produce('web', json_build_object('event_time', now(), 'user_id', 'v')::text)));
wait_for($node, 'web');
is_soon($node, 'SELECT state FROM clickstream.stat_stream', 'running', 'the stream goes on');
is(query(q(SELECT balanced FROM clickstream.audit('web'))), 't', 'and the audit agrees');

# ---- called again it changes the job, and it ends

is(query(q(SELECT clickstream.schedule_maintenance('0 3 * * *'))), $job, 'the same job, changed');
is(query(qq(SELECT schedule FROM cron.job WHERE jobid = $job)), '0 3 * * *', 'its schedule');
fails(q(SELECT clickstream.schedule_maintenance('now and then')), qr/invalid schedule/, 'pg_cron refuses a schedule');
is(query(q(SELECT clickstream.unschedule_maintenance(), clickstream.unschedule_maintenance('web'), clickstream.unschedule_maintenance())),
	't|t|f', 'jobs end');
is(query('SELECT count(*) FROM cron.job'), '0', 'and are gone');

# ---- another database than pg_cron's

query('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION clickstream');
fails('SELECT clickstream.schedule_maintenance()',
	qr/pg_cron lives in database "postgres"\. There: SELECT cron\.schedule_in_database\('clickstream maintenance', .* 'other'\)/,
	'from another database: what to say in that of pg_cron', 'other');

$node->stop;
done_testing();
