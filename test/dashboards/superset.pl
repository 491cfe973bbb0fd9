# A Superset that runs: imports dashboards/superset, and shows it.
use strict;
use warnings;

use File::Copy qw(copy);
use IPC::Run ();
use POSIX qw(strftime);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $top = $ClickstreamTest::top;
my $venv = $ENV{CLICKSTREAM_SUPERSET} or plan skip_all => 'run by "make check-dashboards"';
my $here = PostgreSQL::Test::Utils::tempdir();
my $log = "$PostgreSQL::Test::Utils::tmp_check/log";
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $url = "http://127.0.0.1:$port";

local $ENV{PATH} = "$venv/bin:$ENV{PATH}";
local $ENV{SUPERSET_HOME} = $here;
local $ENV{SUPERSET_CONFIG_PATH} = "$top/test/dashboards/superset_config.py";
local $ENV{FLASK_APP} = 'superset';
local $ENV{TZ} = 'UTC';

# Runs a command; its output goes to a file of the log.
sub step
{
	my ($name, @command) = @_;
	ok(IPC::Run::run(\@command, '<', \undef, '>&', "$log/$name.log"), $name) or diag(slurp_file("$log/$name.log"));
}

my $node = new_node('main', "clickstream.commit_interval = '50ms'");

# ---- Superset

step('schema-of-grafana', 'python', "$top/test/dashboards/grafana_schema.py", "$top/dashboards/grafana/dashboards/clickstream.json");
step('db-upgrade', 'superset', 'db', 'upgrade');
step('create-admin', qw(superset fab create-admin --username admin --firstname a --lastname b --email a@localhost --password admin));
step('init', 'superset', 'init');
step('pack', "$top/dashboards/superset/pack.sh", "$here/clickstream.zip",
	'postgresql+psycopg2://dashboard_reader@/postgres?host=' . $node->host . '&port=' . $node->port);
# ---- a pipeline with some hours of data that end now, and the views over it

for my $script ([ 'test/dashboards/sample.sql', '-v', 'visitors=6000', '-v', 'hours=6' ], ['dashboards/views.sql'],
	['dashboards/reader.sql'])
{
	my ($file, @more) = @$script;
	$node->command_ok([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), @more, '-f', "$top/$file" ], $file);
}
$node->safe_psql('postgres', q(SELECT clickstream.start('web')));
wait_for($node, 'web');

step('import', 'superset', 'import-dashboards', '-p', "$here/clickstream.zip", '-u', 'admin');

my $server = IPC::Run::start([ 'superset', 'run', '-h', '127.0.0.1', '-p', $port, '--with-threads' ],
	'<', \undef, '>&', "$log/superset.log");
my $up = 0;
for (1 .. 1200)
{
	last if $up = system("curl -sf -o /dev/null $url/health") == 0;
	select undef, undef, undef, 0.2;
}
ok($up, 'Superset answers');

# ---- the dashboard

my $browser = IPC::Run::run([ 'python', "$top/test/dashboards/browse.py", $url, "$here/dashboard.png" ],
	'<', \undef, '>', "$here/sent", '2>', "$log/browse.log");
ok($browser, 'the dashboard opens') or diag(slurp_file("$log/browse.log"));
my ($from, $to) = map { strftime('%Y-%m-%dT%H:%M:%SZ', gmtime($_)) } time - 6 * 3600, time;
ok(IPC::Run::run([ 'python', "$top/test/dashboards/queries.py", 'superset', $from, $to ], '>', "$here/expected"), 'expected queries');
my $result;
IPC::Run::run([ 'python', "$top/test/dashboards/compare.py", "$here/sent", "$here/expected" ], '>', \$result);
for my $line (grep { /: (?:ok|FAILED)$/ } split /\n/, $result)
{
	my ($panel, $state) = $line =~ /^(.*): (ok|FAILED)$/;
	is($state, 'ok', "Superset shows: $panel");
}
diag($result) if $result !~ / 0 failed$/;
cmp_ok(-s "$here/dashboard.png", '>', 100_000, 'the picture shows something');
copy("$here/dashboard.png", $ENV{CLICKSTREAM_PICTURE_COPY}) if $ENV{CLICKSTREAM_PICTURE_COPY};

# The server's reloader is off, so that it is one process.
$server->signal('TERM');
$server->finish;
$node->stop;
done_testing();
