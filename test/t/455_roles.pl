# The roles behind a stream: its owner loses a right, gives all she has to
# another, and goes; and DROP OWNED while it runs.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '20ms'");
my $hour = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }
sub column { return query("SELECT $_[1] FROM clickstream.stat_stream WHERE stream = '$_[0]'") }

sub produce_one
{
	my ($stream) = @_;
	query(sprintf q(SELECT clickstream.produce('%s', '{"user_id": "u", "event_time": "2025-03-%02dT%02d:00:00Z"}')),
		$stream, 1 + int($hour / 24), $hour % 24);
	$hour++;
}

sub views { return query("SELECT coalesce(sum(n), 0) FROM $_[0]") }

sub is_failed
{
	my ($stream, $reason, $name) = @_;

	wait_until($node, "SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = '$stream'");
	like(column($stream, 'last_error'), $reason, "$name: the reason is shown");
	isnt(column($stream, 'last_hint'), '', "$name: and a hint");
	note 'hint: ' . column($stream, 'last_hint');
}

sub make_as
{
	my ($role, $stream) = @_;
	query(<<~END);
		SET ROLE $role;
		SELECT clickstream.create_stream('$stream');
		SELECT clickstream.create_window('$role.${stream}_views', stream => '$stream', size => '1 hour', emit => 'changes',
			measures => 'count(*) AS n');
		SELECT clickstream.start('$stream');
		RESET ROLE;
		END
}

for my $role (qw(ann bob))
{
	query("CREATE ROLE $role; CREATE SCHEMA $role AUTHORIZATION $role; GRANT clickstream_admin TO $role");
}

# ---- a right is lost

make_as('ann', 'shop');
produce_one('shop');
wait_for($node, 'shop');
query('CREATE FUNCTION ann.check_it(text) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN true');
query('SET ROLE ann; ' . q(SELECT clickstream.create_window('ann.checked', stream => 'shop', size => '1 hour', emit => 'changes',
	filter => 'ann.check_it(user_id)', measures => 'count(*) AS n')));
produce_one('shop');
wait_for($node, 'shop');
query('REVOKE EXECUTE ON FUNCTION ann.check_it(text) FROM PUBLIC');
query("SELECT clickstream.stop('shop')");
query("SELECT clickstream.start('shop')");
produce_one('shop');
is_failed('shop', qr/permission denied for function (ann\.)?check_it/, 'a function taken away');
query('GRANT EXECUTE ON FUNCTION ann.check_it(text) TO ann');
query("SELECT clickstream.start('shop')");
wait_for($node, 'shop');
is(views('ann.shop_views'), 3, 'given back, the stream goes on');

# ---- all that is hers becomes his, and she goes

query('REASSIGN OWNED BY ann TO bob');
produce_one('shop');
is_failed('shop', qr/does not belong to the owner of the stream/, 'REASSIGN OWNED');
query('DROP OWNED BY ann');
like(($node->psql('postgres', 'DROP ROLE ann'))[2], qr/^$|cannot be dropped/, 'DROP ROLE');
is(query(q(SELECT count(*) FROM pg_roles WHERE rolname = 'ann')), '0', 'the role is gone');
like(column('shop', 'state'), qr/^(failed|stopped)$/, 'the stream of a role that is gone does not run');
produce_one('shop');
is_soon($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'clickstream stream'", '0', 'no worker tries again and again');
query("SELECT clickstream.drop_stream('shop')");
is(query("SELECT count(*) FROM clickstream.stat_stream"), '0', 'it can be dropped');

# ---- what a role has is dropped while its stream runs

make_as('bob', 'store');
produce_one('store');
wait_for($node, 'store');
query('DROP OWNED BY bob CASCADE');
produce_one('store');
is_failed('store', qr/has lost its event relation/, 'DROP OWNED');
query("SELECT clickstream.drop_stream('store')");
query('DROP ROLE bob');
is(query("SELECT count(*) FROM pg_class WHERE relnamespace = 'clickstream'::regnamespace AND relname ~ '^(event|stream|state_[a-z]+)_[0-9]'"),
	'0', 'nothing is left behind');

$node->stop;
done_testing();
