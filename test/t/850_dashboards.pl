# The dashboards that are shipped: every query of every panel, as Grafana,
# Metabase and Superset send it, returns rows to the role that is made for
# them; minutes in which nothing happened are shown as zero; what Metabase is
# told by the import script.
use strict;
use warnings;

use IPC::Run ();
use JSON::PP;
use POSIX qw(strftime);
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $top = $ClickstreamTest::top;
my $node = new_node('main', "clickstream.commit_interval = '50ms'");
my %least = (grafana => 27, metabase => 20, superset => 20);    # panels

sub query { return $node->safe_psql('postgres', @_) }

# Runs a script of psql.
sub script
{
	my ($file, @variables) = @_;
	$node->command_ok([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), map({ ('-v', $_) } @variables), '-f', "$top/$file" ],
		"$file runs");
}

my $sampled_at = query('SELECT now()');
script('test/dashboards/sample.sql', 'visitors=600', 'hours=6');
script('dashboards/views.sql');
script('dashboards/views.sql');
script('dashboards/reader.sql');
script('dashboards/reader.sql');
# Nothing new comes, and silence would show sessions as over that are open yet.
query(q(SELECT clickstream.alter_stream('web', idle_timeout => '1 day'); SELECT clickstream.start('web')));
wait_for($node, 'web');

# ---- every panel's query

my @reader = (extra_params => [ '-U', 'dashboard_reader' ]);
my $from = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time - 6 * 3600));
my $to = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(time + 60));

for my $tool (sort keys %least)
{
	my $n = 0;
	my ($out, $err);
	IPC::Run::run([ 'python3', "$top/test/dashboards/queries.py", $tool, $from, $to ], '>', \$out, '2>', \$err)
	  or BAIL_OUT("queries.py failed: $err");
	for my $panel (map { decode_json($_) } split /\n/, $out)
	{
		my ($code, $rows, $error) = $node->psql('postgres',
			"SELECT count(*) FROM (\n$panel->{sql}\n) q WHERE NOT q IS NULL", @reader);
		ok($code == 0 && $rows > 0, "$tool, $panel->{panel}: rows") or diag("$panel->{sql}\n$error");
		$n++;
	}
	cmp_ok($n, '>=', $least{$tool}, "$tool has all its panels");
}

# ---- what the views say is what the tables say

# The sample is silent for a quarter of an hour and more.
is(query(<<~"END"), 't|t|t|t', 'silent minutes are there, with zeros');
	SELECT count(*) > 10, bool_and(v.visitors = 0), bool_and(t.views = 0), bool_and(s.bounce_rate IS NULL)
	FROM dashboard.sessions_per_minute s JOIN dashboard.active_visitors v USING (minute)
	JOIN (SELECT minute, sum(views) AS views FROM dashboard.page_trend GROUP BY 1) t USING (minute)
	WHERE s.minute BETWEEN '$sampled_at'::timestamptz - interval '2 hours 36 minutes' AND '$sampled_at'::timestamptz - interval '2 hours 25 minutes'
	END
is(query(<<~"END"), 't|t|t', 'no minute is missing, and none is there twice');
	SELECT count(*) = count(DISTINCT minute), max(minute) - min(minute) = (count(*) - 1) * interval '1 minute',
		max(minute) >= '$sampled_at'::timestamptz - interval '2 minutes' FROM dashboard.sessions_per_minute
	END
is(query(<<~'END'), 't|t|t|t', 'sums of the views are those of the tables');
	SELECT (SELECT sum(sessions) FROM dashboard.sessions_per_minute) =
			(SELECT count(*) FROM web.user_sessions) + (SELECT count(*) FROM clickstream.open_sessions('web.user_sessions')),
		(SELECT sum(attempts) FROM dashboard.conversion_per_hour) = (SELECT count(*) FROM web.checkout_funnel),
		(SELECT sum(visitors) FROM dashboard.source_trend) = (SELECT sum(unique_users) FROM web.traffic_by_source),
		(SELECT sum(views) FROM dashboard.page_views) =
			(SELECT count(*) FROM clickstream.local_message m WHERE m.payload LIKE '%page_view%') -
			(SELECT count(DISTINCT message_offset) FROM clickstream.late_event)
	END
is(query(<<~'END'), '0', 'visitors of each minute are those of its sessions');
	SELECT count(*) FROM dashboard.active_visitors v WHERE v.visitors <>
		(SELECT count(*) FROM web.user_sessions s
			WHERE date_trunc('minute', s.session_start) <= v.minute AND date_trunc('minute', s.last_event) >= v.minute) +
		(SELECT count(*) FROM clickstream.open_sessions('web.user_sessions') s
			WHERE date_trunc('minute', s.session_start) <= v.minute AND date_trunc('minute', s.last_event) >= v.minute)
	END
is(query(q(SELECT sum(letters) FILTER (WHERE kind = 'late') = (SELECT count(*) FROM clickstream.late_event),
		sum(letters) FILTER (WHERE kind LIKE 'dead%') = (SELECT count(*) FROM clickstream.dead_letter)
		FROM dashboard.letters_per_minute)), 't|t', 'dead letters and late events are counted');
is(query(q(SELECT count(*) = (SELECT sum(cardinality(page_stays)) FROM web.user_sessions), count(seconds) > 100, min(seconds) >= 0
		FROM dashboard.time_on_page)), 't|t|t', 'time on page is that of the sessions');
is(query(<<~'END'), '', 'every view and column of the dashboards has a comment');
	SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0
	WHERE c.relnamespace = 'dashboard'::regnamespace AND c.relkind = 'v'
		AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)
	END

# A filter on time must not read the tables whole: they grow for years.  (These
# are small, so that the planner is right to read the second one whole.)
query('ANALYZE web.user_sessions, web.session_metrics');
like(query(q(EXPLAIN SELECT * FROM dashboard.active_visitors WHERE minute > now() - interval '5 minutes')),
	qr/Index Cond: \(tstzrange\(/, 'active_visitors uses its index');
like(query(q(SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
		EXPLAIN SELECT * FROM dashboard.sessions_per_minute WHERE minute > now() - interval '5 minutes')),
	qr/Index Cond: \(w\w*\.?window_start = |Index Cond: \(window_start = /, 'sessions_per_minute can use the key');

# ---- the reader reads only

for my $forbidden ('DELETE FROM web.user_sessions', 'SET default_transaction_read_only = off; DELETE FROM web.user_sessions',
	'SELECT * FROM clickstream.dead_letter_data', q(SELECT clickstream.stop('web')))
{
	my ($code, undef, $error) = $node->psql('postgres', $forbidden, @reader);
	ok($code != 0 && $error =~ /permission denied|read-only transaction/, "the reader cannot: $forbidden");
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM clickstream.dead_letter WHERE definition IS NULL', @reader), '0',
	'the reader does not see payloads of dead letters');

# A second pipeline has views of its own.
query(q(SELECT clickstream.quickstart('shop', target_schema => 'shop', start => false)));
script('dashboards/views.sql', 'stream=shop', 'source=shop', 'target=shop_dashboard');
script('dashboards/reader.sql', 'source=shop', 'target=shop_dashboard');
is($node->safe_psql('postgres', 'SELECT stream FROM shop_dashboard.pipeline_health', @reader), 'shop', 'views of a second stream');
is($node->safe_psql('postgres', 'SELECT count(*) FROM shop_dashboard.active_visitors', @reader), '0', 'which is still empty');
is($node->safe_psql('postgres', 'SELECT count(*) FROM shop_dashboard.time_on_page', @reader), '0', 'and whose sessions keep no time on page');

# ---- files

for my $file (glob("$top/dashboards/grafana/dashboards/*.json"))
{
	my $dashboard = decode_json(slurp_file($file));
	my @panels = @{ $dashboard->{panels} };
	my %ids = map { $_->{id} => 1 } @panels;
	my %place;
	my $overlap = 0;

	is(scalar keys %ids, scalar @panels, 'ids of the panels differ');
	for my $at (map { $_->{gridPos} } @panels)
	{
		for my $x ($at->{x} .. $at->{x} + $at->{w} - 1)
		{
			$overlap += $x > 23 || $place{"$x $_"}++ for $at->{y} .. $at->{y} + $at->{h} - 1;
		}
	}
	is($overlap, 0, 'no panel lies over another or beyond the grid');
	is(join(' ', grep { $_ ne 'clickstream' } map { $_->{datasource}{uid} // 'clickstream' } @panels), '',
		'all panels have the provisioned data source');
}

# ---- Metabase

sub import_metabase
{
	my ($url, %more) = @_;
	local @ENV{ 'METABASE_URL', 'METABASE_API_KEY', 'PGHOST', 'PGPORT', 'PGDATABASE' } = ($url, 'mb_test', 'db.example', 6543, 'shop');
	local @ENV{ keys %more } = values %more;
	my ($out, $err);
	my $ok = IPC::Run::run(["$top/dashboards/metabase/import.sh"], '<', \undef, '>', \$out, '2>', \$err);
	return ($ok, $out, $err);
}

my $ready = PostgreSQL::Test::Utils::tempdir() . '/metabase';
open my $keep, '|-', 'python3', "$top/test/dashboards/metabase.py", $ready or die "could not start the stand-in: $!";
for (1 .. 1800)
{
	last if -s $ready;
	select undef, undef, undef, 0.1;
}
my $url = slurp_file($ready);
chomp $url;
my ($ok, $out, $err) = import_metabase($url);
ok($ok, 'import into Metabase') or diag($err);
is($out, "$url/dashboard/1\n", 'it says where the dashboard is');
my $made = decode_json(qx(curl -sS $url/recorded));
my $definition = decode_json(slurp_file("$top/dashboards/metabase/dashboard.json"));
is(scalar @{ $made->{card} }, scalar @{ $definition->{cards} }, 'each question was made');
is(scalar @{ $made->{dashboard}[0]{dashcards} }, scalar @{ $definition->{cards} }, 'and lies on the dashboard');
is_deeply([ map { $_->{dataset_query}{native}{query} } @{ $made->{card} } ], [ map { $_->{query} } @{ $definition->{cards} } ],
	'with its query');
is(scalar(grep { @{ $_->{parameter_mappings} } } @{ $made->{dashboard}[0]{dashcards} }),
	scalar(grep { $_->{query} =~ /\{\{hours\}\}/ } @{ $definition->{cards} }), 'those with a time have the parameter');
is_deeply([ @{ $made->{database}[0]{details} }{qw(host port dbname user)} ], [ 'db.example', 6543, 'shop', 'dashboard_reader' ],
	'the database is as given');
($ok, $out, $err) = import_metabase($url);
ok(!$ok && $err =~ /there is a collection "Clickstream"/, 'a second time it says that it is there');
($ok, $out, $err) = import_metabase($url, METABASE_COLLECTION => 'Other');
ok($ok, 'or makes another one');
($ok, $out, $err) = import_metabase($url, METABASE_API_KEY => 'wrong');
ok(!$ok && $err =~ /status 401/, 'a wrong key is told');
close $keep;

$node->stop;
done_testing();
