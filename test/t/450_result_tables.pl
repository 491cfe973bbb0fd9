# What users do to a result table while its stream runs.  Each change either
# goes on as if nothing had been, or stops the stream with the reason and a
# hint, and when it is mended and started again the tables are whole: as those
# of a stream whose tables nobody touched.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '20ms'");
my $n = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }

# Ten events more into both streams: of one visitor each, a minute apart.
sub produce_more
{
	query(<<~END);
		SELECT count(clickstream.produce(s, json_build_object('user_id', 'u' || i % 3, 'event_type', 'view', 'page_url', '/' || i % 4,
			'event_time', '2025-03-01 12:00:00+00'::timestamptz + i * interval '1 minute')::text))
		FROM generate_series($n, $n + 9) AS i, unnest(ARRAY['touched', 'calm']) AS s
		END
	$n += 10;
}

sub make
{
	my ($stream, $prefix) = @_;
	query(<<~END);
		SELECT clickstream.create_stream('$stream', idle_timeout => '1 hour');
		SELECT clickstream.create_session('${prefix}_visits', stream => '$stream', gap => '2 minutes', emit => 'changes');
		SELECT clickstream.create_window('${prefix}_pages', stream => '$stream', size => '10 minutes', group_by => 'page_url',
			measures => 'count(*) AS views, count(DISTINCT user_id) AS visitors', emit => 'changes',
			emit_interval => '10 milliseconds');
		SELECT clickstream.create_rollup('${prefix}_metrics', source => '${prefix}_visits', size => '10 minutes',
			measures => 'count(*) AS visits, sum(event_count) AS events');
		SELECT clickstream.start('$stream');
		END
}

sub column { return query("SELECT $_[0] FROM clickstream.stat_stream WHERE stream = 'touched'") }

# What has failed stays so.
sub is_running { is_soon($node, "SELECT state FROM clickstream.stat_stream WHERE stream = 'touched'", 'running', $_[0]) }

# The change does no harm, not even for a moment: an error would be over with the next try.
sub goes_on
{
	my ($what, $sql, $error) = @_;
	my $before = column('last_error_at');

	query($sql);
	produce_more();
	wait_for($node, 'touched');
	is_running("$what: the stream goes on");
	is(column('last_error'), $error, "$what: which it has said") if $error;
	is(column('last_error_at'), $before, "$what: no error") if !$error;
}

# The change stops the stream, with a reason and a hint; mended, it goes on.
sub stops
{
	my ($what, $sql, $reason, $mend) = @_;

	query($sql);
	produce_more();
	wait_until($node, "SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = 'touched'");
	like(column('last_error'), $reason, "$what: the stream says why it stopped");
	isnt(column('last_hint'), '', "$what: and what to do");
	note 'hint: ' . column('last_hint');
	query($mend);
	query("SELECT clickstream.start('touched')");
	wait_for($node, 'touched');
	is_running("$what: mended, it goes on");
}

make('touched', 't');
make('calm', 'c');
produce_more();
wait_for($node, 'touched');

# ---- what does no harm

goes_on('a column added', 'ALTER TABLE t_pages ADD COLUMN note text');
goes_on('a column added with a default', q(ALTER TABLE t_pages ADD COLUMN seen timestamptz NOT NULL DEFAULT now()));
goes_on('a column added that each row of before lacks', q(ALTER TABLE t_visits ADD COLUMN kind text DEFAULT 'x'));
goes_on('a column added with a volatile default', q(ALTER TABLE t_visits ADD COLUMN tag text DEFAULT md5(random()::text)));
goes_on('an index', 'CREATE INDEX ON t_pages (views); CREATE INDEX ON t_visits (effective_user_id, session_start)');
goes_on('an index made concurrently', 'CREATE INDEX CONCURRENTLY ON t_metrics (visits)');
goes_on('a table renamed', 'ALTER TABLE t_pages RENAME TO t_sites');
goes_on('and back', 'ALTER TABLE t_sites RENAME TO t_pages');
goes_on('a table moved to another schema', 'CREATE SCHEMA elsewhere; ALTER TABLE t_pages SET SCHEMA elsewhere');
goes_on('and back', 'ALTER TABLE elsewhere.t_pages SET SCHEMA public');
goes_on('added columns dropped', 'ALTER TABLE t_pages DROP COLUMN note, DROP COLUMN seen; ALTER TABLE t_visits DROP COLUMN tag, DROP COLUMN kind');
goes_on('vacuum, cluster, reindex', 'VACUUM FULL t_pages; REINDEX TABLE t_visits; ANALYZE t_metrics');

# Rows that are rewritten are looked for where they were: these are there no more, or others are.
goes_on('rows moved by an UPDATE', 'BEGIN; ALTER TABLE t_pages ADD COLUMN mine int; UPDATE t_pages SET mine = 1; COMMIT; VACUUM t_pages');
for my $dead (4, 8, 12)
{
	goes_on('rows packed', 'VACUUM FULL t_pages');
	goes_on("rows in each other's places, behind $dead dead ones", "BEGIN; LOCK TABLE t_pages; CREATE TABLE kept AS TABLE t_pages; TRUNCATE t_pages; "
		  . "INSERT INTO t_pages SELECT * FROM kept LIMIT $dead; DELETE FROM t_pages; "
		  . 'INSERT INTO t_pages SELECT * FROM kept ORDER BY window_start DESC, group_key DESC; DROP TABLE kept; COMMIT');
}
goes_on('rows behind each other', 'BEGIN; LOCK TABLE t_pages; CREATE TABLE kept AS TABLE t_pages; DELETE FROM t_pages; '
	  . 'INSERT INTO t_pages SELECT * FROM kept ORDER BY group_key; DROP TABLE kept; COMMIT; VACUUM t_pages');
goes_on('their column dropped', 'ALTER TABLE t_pages DROP COLUMN mine');

# ---- what stops it

stops('a column renamed', 'ALTER TABLE t_pages RENAME COLUMN views TO looks', qr/views/,
	'ALTER TABLE t_pages RENAME COLUMN looks TO views');
query('DROP VIEW t_pages_live');    # PostgreSQL changes no column that a view shows
stops('a column\'s type changed', 'ALTER TABLE t_pages ALTER COLUMN views TYPE text', qr/views/,
	'ALTER TABLE t_pages ALTER COLUMN views TYPE bigint USING views::bigint');
stops('the key dropped', 'ALTER TABLE t_pages DROP CONSTRAINT t_pages_pkey', qr/t_pages/,
	'ALTER TABLE t_pages ADD PRIMARY KEY (window_start, group_key)');
stops('row-level security', 'ALTER TABLE t_pages ENABLE ROW LEVEL SECURITY', qr/row-level security/,
	'ALTER TABLE t_pages DISABLE ROW LEVEL SECURITY');
stops('a check that fails', 'ALTER TABLE t_pages ADD CONSTRAINT none CHECK (views < 0) NOT VALID', qr/violates check constraint "none"/,
	'ALTER TABLE t_pages DROP CONSTRAINT none');
# In one transaction: between, the stream might write a row.
stops('a column NOT NULL without default', 'BEGIN; ALTER TABLE t_metrics ADD COLUMN must text; UPDATE t_metrics SET must = $$$$; '
	  . 'ALTER TABLE t_metrics ALTER COLUMN must SET NOT NULL; COMMIT', qr/null value in column "must"/,
	'ALTER TABLE t_metrics DROP COLUMN must');

# ---- what is dropped does not come back

query("SELECT clickstream.create_window('t_$_', stream => 'touched', size => '10 minutes', emit => 'changes', "
	  . "measures => 'count(*) AS n, count(DISTINCT user_id) AS visitors')") for qw(gone extra);
goes_on('two windows more', 'SELECT 1');
goes_on('a table dropped', 'DROP TABLE t_gone CASCADE', 'result table public.t_gone was dropped');
stops('a measure dropped', 'ALTER TABLE t_extra DROP COLUMN visitors CASCADE', qr/visitors/, 'ALTER TABLE t_extra ADD COLUMN visitors bigint');
is_soon($node, 'SELECT count(*) > 0 FROM t_extra WHERE visitors IS NOT NULL', 't', 'rows that are written from then on have it again');

# ---- the same in the end

wait_for($node, 'calm');
query("CALL clickstream.finish('$_')") for qw(touched calm);
for my $table (
	[ visits => 'effective_user_id, session_start, session_end, event_count, closed_reason, is_final' ],
	[ pages => 'window_start, page_url, views, visitors, is_final' ],
	[ metrics => 'window_start, visits, events, is_final' ])
{
	is(digest($node, "t_$table->[0]", $table->[1]), digest($node, "c_$table->[0]", $table->[1]),
		"$table->[0]: as if nobody had touched it");
}
is(query("SELECT sum(consumed), bool_and(balanced) FROM clickstream.audit('touched')"), "$n|t", 'each event was counted once');

# ---- an event log that is dropped: that a new day begins, and its partition is to be made, finds that out

query("SELECT clickstream.create_stream('logged', idle_timeout => '1 hour'), clickstream.create_event_log('l_log', stream => 'logged')");
query("SELECT clickstream.create_session('l_visits', stream => 'logged', gap => '2 minutes')");
query(q(SELECT clickstream.produce('logged', '{"user_id": "u", "event_time": "2025-03-01T12:00:00Z"}'), clickstream.start('logged')));
wait_for($node, 'logged');
is(query('SELECT count(*) FROM l_log'), 1, 'an event log is written');
$node->append_conf('postgresql.conf', "clickstream.mock_clock = '2035-01-01 00:00:00+00'");
$node->reload;
query('DROP TABLE l_log CASCADE');
query(q(SELECT clickstream.produce('logged', '{"user_id": "u", "event_time": "2025-03-01T13:00:00Z"}')));
wait_for($node, 'logged');
is_soon($node, "SELECT state FROM clickstream.stat_stream WHERE stream = 'logged'", 'running', 'it was dropped: the stream goes on without it');
is_soon($node, q(SELECT count(*) FROM l_visits WHERE closed_reason = 'gap'), 1, 'and its sessions close');
unlike(slurp_file($node->logfile), qr/terminated by signal/, 'no process has crashed');

$node->stop;
done_testing();
