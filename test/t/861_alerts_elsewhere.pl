# Alerts of streams that no worker runs, in several databases at once: each is looked after, by watchers of its own database; one
# that takes no connections, one that is dropped and one without the extension hold up nobody.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main', "clickstream.commit_interval = '50ms'");
my @others = qw(one two three);

# A stream that never ran, a table that its alert looks at.
sub make
{
	my ($database) = @_;
	$node->safe_psql($database, <<~END);
		CREATE TABLE trouble (what text);
		SELECT clickstream.create_stream('web');
		SELECT clickstream.create_alert('trouble', 'SELECT what FROM trouble', stream => 'web');
		END
}

sub wait_state
{
	my ($database, $state) = @_;
	wait_until($node, "SELECT state = '$state' FROM clickstream.alert WHERE name = 'trouble'", $database);
	pass("in $database it is $state");
}

$node->safe_psql('postgres', "CREATE DATABASE $_") for @others, 'plain';
$node->safe_psql($_, 'CREATE EXTENSION clickstream') for @others;
make($_) for 'postgres', @others;
is($node->safe_psql($_, "SELECT state FROM clickstream.alert"), 'off', "off in $_") for 'postgres', @others;

# each begins where there is trouble, and only there
$node->safe_psql($_, "INSERT INTO trouble VALUES ('of $_')") for 'postgres', 'two';
wait_state($_, 'on') for 'postgres', 'two';
is($node->safe_psql($_, "SELECT detail->>'what' FROM clickstream.alert"), "of $_", "with the row of $_") for 'postgres', 'two';
is($node->safe_psql($_, "SELECT count(*) FROM clickstream.alert_history"), '0', "nothing in $_") for 'one', 'three';

# over a restart: who begins afterwards is looked after, and what is on has begun once
$node->restart;
$node->safe_psql('one', "INSERT INTO trouble VALUES ('of one')");
wait_state('one', 'on');
wait_state('two', 'on');
is($node->safe_psql($_, "SELECT count(*) FROM clickstream.alert_history"), '1', "once in $_") for 'postgres', 'one', 'two';

# one takes no connections, one goes: the others end as they should
$node->safe_psql('postgres', 'ALTER DATABASE one ALLOW_CONNECTIONS false');
$node->safe_psql('postgres', 'DROP DATABASE three WITH (FORCE)');
$node->safe_psql($_, 'DELETE FROM trouble') for 'postgres', 'two';
wait_state($_, 'off') for 'postgres', 'two';

# a worker takes over in one database; the watcher goes on in the other, with an alert of the same name and stream
$node->safe_psql('two', "SELECT clickstream.start('web')");
wait_until($node, "SELECT state = 'running' FROM clickstream.stat_stream WHERE stream = 'web'", 'two');
$node->safe_psql($_, "INSERT INTO trouble VALUES ('again')") for 'postgres', 'two';
$node->safe_psql('two', q(SELECT clickstream.produce('web', '{"event_time": "2024-06-01T00:00:00Z", "user_id": "u"}')));
wait_state($_, 'on') for 'postgres', 'two';
is($node->safe_psql($_, "SELECT count(*), count(ended_at) FROM clickstream.alert_history"), '2|1', "twice in $_") for 'postgres', 'two';

# who has no alerts left is left alone
$node->safe_psql('postgres', "SELECT clickstream.drop_alert('trouble')");
$node->stop;
done_testing();
