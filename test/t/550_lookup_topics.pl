# Lookups that follow a topic of a broker: upserts and tombstones of several
# partitions, from the beginning, exactly once however often the worker is
# killed; and a stream whose events use them meanwhile.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

seed_of(550);

my $node = new_node('main', 'restart_after_crash = on', 'clickstream.restart_delay = 100ms');
my $broker = start_broker(users => 3, web => 1);
my $address = $broker->address;

sub query { return $node->safe_psql('postgres', $_[0]) }

# Changes of users, and what the last one of each says; a key is always in the same partition.
my %expected;

sub change
{
	my $user = 'u' . int(rand 200);
	my $plan = ('free', 'pro', 'team')[ int(rand 3) ];
	my $day = int(rand 1000) + 19000;
	my $kind = rand;

	if ($kind < 0.2)
	{
		delete $expected{$user};
		return ($user, "{\"user_id\": \"$user\"}\t") if $kind < 0.1;
		return ($user, "$user\t{\"op\": \"d\", \"before\": {\"user_id\": \"$user\"}, \"after\": null}");
	}
	$expected{$user} = "$user|$plan|$day";
	return ($user, "$user\t{\"plan_type\": \"$plan\", \"signup_date\": $day}") if $kind < 0.5;
	return ($user, "{\"user_id\": \"$user\"}\t{\"op\": \"u\", \"before\": null, \"after\": {\"user_id\": \"$user\", \"plan_type\": \"$plan\", \"signup_date\": $day}}");
}

# kcat -Z sends an empty payload as a tombstone.
sub send_changes
{
	my ($n) = @_;
	my @lines = ([], [], []);
	my $file = PostgreSQL::Test::Utils::tempdir() . '/changes';

	for (1 .. $n)
	{
		my ($user, $line) = change();
		push @{ $lines[ substr($user, 1) % 3 ] }, $line;
	}
	for my $partition (0 .. 2)
	{
		append_to_file($file, join('', map { "$_\n" } @{ $lines[$partition] }));
		system_or_bail('kcat', '-P', '-b', $address, '-t', 'users', '-p', $partition, '-K', "\t", '-Z', '-q', '-l', $file);
		unlink $file;
	}
}

sub expected { return join("\n", map { $expected{$_} } sort keys %expected) }

sub table { return q(SELECT user_id, plan_type, signup_date - '1970-01-01'::date FROM user_profiles ORDER BY user_id COLLATE "C") }

send_changes(3000);
query(<<~END);
	SELECT clickstream.create_lookup('user_profiles', brokers => '$address', topic => 'users', key => 'user_id', columns => 'plan_type text, signup_date date');
	SELECT clickstream.start('user_profiles');
	END
wait_for($node, 'user_profiles');
is(query(table()), expected(), 'the table has what the topic says, from its beginning on');
is(query(q(SELECT sum(used), sum(dead), bool_and(balanced) FROM clickstream.audit('user_profiles'))), '3000|0|t', 'each message once');

# A stream of events with the lookup.
query(<<~END);
	SELECT clickstream.create_stream('web', brokers => '$address', topic => 'web', start_from => 'earliest', watermark_delay => '0');
	SELECT clickstream.create_lookup('user_profiles', stream => 'web', key => 'user_id');
	SELECT clickstream.create_event_log('log', stream => 'web');
	SELECT clickstream.create_window('plans', stream => 'web', size => '1 day', group_by => 'user_profiles.plan_type', measures => 'count(*) AS events');
	SELECT clickstream.start('web');
	END
produce($broker, 'web', [ map { "k\t{\"event_time\": \"2024-06-01T10:00:00Z\", \"user_id\": \"u$_\"}" } 0 .. 199 ]);
wait_for($node, 'web');
my %plans;
$plans{ exists $expected{"u$_"} ? (split /\|/, $expected{"u$_"})[1] : '' }++ for 0 .. 199;
is_soon($node, q(SELECT coalesce(plan_type, '') AS p, events FROM plans ORDER BY coalesce(plan_type, '') COLLATE "C"), join("\n", map { "$_|$plans{$_}" } sort keys %plans), 'events have the columns of their users');

# The worker of the lookup is killed again and again while changes come.
for my $round (1 .. 4)
{
	my $pid = query(q(SELECT pid FROM clickstream.stat_stream WHERE stream = 'user_profiles'));

	send_changes(500);
	kill 'KILL', $pid if $pid;
	wait_until($node, qq(SELECT state = 'running' AND pid <> ) . ($pid || 0) . q( FROM clickstream.stat_stream WHERE stream = 'user_profiles'));
}
wait_until($node, q(SELECT sum(consumed) = 5000 FROM clickstream.audit('user_profiles')));
is(query(table()), expected(), 'and so it has when its worker was killed');
is(query(q(SELECT sum(used), sum(dead), bool_and(balanced) FROM clickstream.audit('user_profiles'))), '5000|0|t', 'each message once, still');

# A table that cannot be read stops the stream of events with the reason, and that one alone; it goes on where it was.
query('ALTER TABLE user_profiles RENAME TO profiles');
query('CREATE VIEW broken AS SELECT user_id, plan_type, signup_date, 1 / (random() * 0)::int AS never FROM profiles');
query(q(SELECT clickstream.alter_lookup('user_profiles', 'web', source => 'broken', add_columns => 'never')));
produce($broker, 'web', [ map { "k\t{\"event_time\": \"2024-06-01T11:00:00Z\", \"user_id\": \"u$_\"}" } 0 .. 9 ]);
wait_until($node, q(SELECT last_error LIKE '%division by zero%' FROM clickstream.stat_stream WHERE stream = 'web'));
is(query(q(SELECT count(*) FROM log)), '200', 'nothing is consumed that cannot be looked up');
query(q(CREATE OR REPLACE VIEW broken AS SELECT user_id, plan_type, signup_date, 1 AS never FROM profiles; SELECT clickstream.start('web')));
wait_until($node, q(SELECT count(*) = 210 FROM log));
is(query(q(SELECT count(*) FROM log l LEFT JOIN profiles p USING (user_id) WHERE l.message_offset >= 200 AND l.user_profiles_plan_type IS DISTINCT FROM p.plan_type)), '0', 'and it goes on');

# Altered while a batch waits for the rows: columns that it knows nothing of, a key of another type. It reads nothing wrong, and then all.
query('CREATE VIEW wide AS SELECT user_id::varchar AS key, user_id, plan_type, signup_date, 1 AS never, ' . join(', ', map { "$_ AS extra_$_" } 1 .. 100) . ' FROM profiles');
my $extra = join(', ', map { "extra_$_" } 1 .. 100);
my ($out, $err) = ('', '');
my $altering = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', <<~END ], '<', \undef, '>', \$out, '2>', \$err);
	BEGIN;
	SELECT clickstream.alter_lookup('user_profiles', 'web', source => 'wide', key => 'key', add_columns => '$extra');
	DO \$\$ BEGIN
		WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid IN (SELECT s.pid FROM clickstream.stat_stream s WHERE s.stream = 'web')) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END \$\$;
	COMMIT;
	END
wait_until($node, q(SELECT count(*) > 0 FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock' AND relation = (SELECT rows_view FROM clickstream.lookup WHERE name = 'user_profiles')));
produce($broker, 'web', [ map { "k\t{\"event_time\": \"2024-06-01T12:00:00Z\", \"user_id\": \"u$_\"}" } 0 .. 199 ]);
ok($altering->finish, 'the lookup is altered') or diag($err);
wait_until($node, q(SELECT count(*) = 410 FROM log));
is(query(q(SELECT count(*) FROM log l LEFT JOIN profiles p USING (user_id) WHERE l.message_offset >= 210 AND l.user_profiles_plan_type IS DISTINCT FROM p.plan_type)), '0', 'rows that were read meanwhile are right');
is(query(q(SELECT count(*) FROM log l LEFT JOIN wide w ON w.user_id = l.user_id WHERE l.message_offset >= 210 AND l.user_profiles_extra_100 IS DISTINCT FROM w.extra_100)), '0', 'and have the columns that were added');
query("SELECT clickstream.stop('web')");

# A column of the table that takes less from now on, while the worker runs.
query('DROP VIEW wide, broken CASCADE; ALTER TABLE profiles ALTER plan_type TYPE varchar(4)');
produce($broker, 'users', [ qq(short\t{"plan_type": "pro"}), qq(long\t{"plan_type": "enterprise"}) ]);
wait_until($node, q(SELECT sum(consumed) = 5002 FROM clickstream.audit('user_profiles')));
is(query(q(SELECT user_id, plan_type FROM profiles WHERE user_id IN ('short', 'long'))), 'short|pro', 'only what fits is written');
is(query(q(SELECT error FROM clickstream.dead_letter WHERE stream = 'user_profiles')), 'value too long for type character varying(4)', 'the rest is a dead letter');
# And one that takes more: what the old one would have refused is no dead letter.
query('ALTER TABLE profiles ALTER plan_type TYPE varchar(20)');
produce($broker, 'users', [ qq(longer\t{"plan_type": "enterprise"}) ]);
wait_until($node, q(SELECT sum(consumed) = 5003 FROM clickstream.audit('user_profiles')));
is(query(q(SELECT plan_type FROM profiles WHERE user_id = 'longer')), 'enterprise', 'what fits now is written');
# A key that begins with a zero byte, as those of a schema registry do.
produce($broker, 'users', [ "\0" . ('x' x 300) . qq(\t{"plan_type": "pro"}) ]);
wait_until($node, q(SELECT sum(consumed) = 5004 FROM clickstream.audit('user_profiles')));
is(query(q(SELECT count(*) FROM clickstream.dead_letter WHERE stream = 'user_profiles' AND error = 'the message''s key holds a zero byte')), '1', 'a key that is no text is a dead letter');
query("SELECT clickstream.stop('user_profiles')");
$node->stop;
done_testing();
