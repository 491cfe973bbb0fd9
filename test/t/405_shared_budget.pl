# Two streams share clickstream.state_memory: the first has all of it, until the
# second comes and lacks its half.  Then the first evicts, moves what it has
# left together and gives blocks back, while it runs; readers see each session
# once meanwhile, and the tables are those of two streams with plenty.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $seed = seed_of(405);

my $blocks = 64;    # of 256 kB
my $node = new_node('main',
	"clickstream.state_memory = '16MB'",
	"clickstream.commit_interval = '10ms'",
	'fsync = off');

sub query { return $node->safe_psql('postgres', $_[0]) }

# Sessions of one to forty events, some with a distinct set of their own; and windows.
sub create
{
	my ($stream) = @_;
	query(<<~END);
		SELECT clickstream.create_stream('$stream', watermark_delay => '1 second', idle_timeout => '1 day', max_future => NULL);
		SELECT clickstream.create_session('${stream}_visits', stream => '$stream', gap => '2 hours',
			measures => 'count(*) AS event_count, count(DISTINCT page_url) AS pages, length(max(repeat(page_url, 12))) AS long');
		SELECT clickstream.create_window('${stream}_hours', stream => '$stream', size => '1 hour', group_by => 'device_type',
			measures => 'count(*) AS n, count(DISTINCT user_id) AS users', emit => 'closed');
		END
}

query(<<~END);
	SELECT setseed($seed / 1000000.0);
	CREATE TABLE message AS
	SELECT row_number() OVER (ORDER BY at, v) AS n, json_build_object('user_id', 'v' || v, 'event_type', 'page_view', 'device_type', 'd' || v % 7,
		'event_time', '2026-01-01 00:00:00+00'::timestamptz + at * interval '1 second', 'page_url', '/' || repeat('x', (random() * 500)::int) || v || '/' || i)::text AS payload
	FROM (SELECT v, i, v * 0.15 + random() * 600 AS at FROM generate_series(1, 24000) AS v,
		generate_series(1, CASE WHEN v % 500 = 0 THEN 40 ELSE 1 + v % 3 END) AS i) AS e;
	CREATE INDEX ON message (n);
	ANALYZE message;
	END
my $messages = query('SELECT max(n) FROM message');
my %done;

# The stream's next messages, up to that part of all.
sub produce_part
{
	my ($stream, $part) = @_;
	my $from = $done{$stream} // 0;
	my $to = int($messages * $part);

	query("SELECT count(clickstream.produce('$stream', payload)) FROM (SELECT payload FROM message WHERE n > $from AND n <= $to ORDER BY n) AS m");
	$done{$stream} = $to;
}

# The same, and it has read them.
sub feed
{
	my ($stream, $part) = @_;

	produce_part($stream, $part);
	wait_for($node, $stream);
}

sub memory
{
	my ($stream) = @_;
	return split /\|/, query("SELECT budget, used, own_bytes, spilled_keys FROM clickstream.stat_memory WHERE stream = '$stream'");
}

sub rows
{
	my ($stream, $table) = @_;
	return query("SELECT count(*) || ' ' || md5(string_agg(line, E'\\n' ORDER BY line))
		FROM (SELECT (to_jsonb(t) - ARRAY['session_id'])::text AS line FROM ${stream}_$table AS t) AS l");
}

# Visitors that are shown twice, or not at all: each has one session.
sub wrong
{
	my ($stream) = @_;
	return query(<<~END);
		SELECT count(*) FROM (SELECT DISTINCT payload::json ->> 'user_id' AS visitor FROM message WHERE n <= $done{$stream}) AS there
		FULL JOIN (SELECT effective_user_id AS visitor, count(*) AS n FROM ${stream}_visits_live GROUP BY 1) AS shown USING (visitor)
		WHERE there.visitor IS NULL OR n IS DISTINCT FROM 1
		END
}

# ---- what is to come out

create('plenty');
produce_part('plenty', 1);
query("CALL clickstream.process('plenty')");
query("CALL clickstream.finish('plenty')");
my %expected = map { $_ => rows('plenty', $_) } qw(visits hours);

# ---- the first takes all

create($_) for qw(first second);
query("SELECT clickstream.start('first')");
feed('first', 0.5);
# The worker says what its memory holds a moment after the commit that is waited for.
is_soon($node, "SELECT budget > 14 * 1024 * 1024, used > 0.8 * budget, spilled_keys > 0 FROM clickstream.stat_memory WHERE stream = 'first'",
	't|t|t', 'alone it may have all, and does, and has more than that');
is(wrong('first'), 0, 'each visitor is seen once');

# ---- the second comes

query("SELECT clickstream.start('second')");
my ($looks, $wrong) = (0, 0);
my $steps = 40;
for my $step (1 .. $steps)
{
	feed('second', 0.6 * $step / $steps);
	feed('first', 0.5 + 0.1 * $step / $steps);
	next if $step % 5;
	$wrong += wrong('first') + wrong('second');
	$looks++;
}
is($wrong, 0, "each visitor is seen once, in $looks looks meanwhile");
# A worker that has too much goes on giving back when all is read.
for my $stream (qw(first second))
{
	is_soon($node, "SELECT shared_bytes > 0.35 * $blocks * 262144, shared_bytes < 0.65 * $blocks * 262144, own_bytes < 0.15 * $blocks * 262144
		FROM clickstream.stat_memory WHERE stream = '$stream'", 't|t|t', "$stream: has about half of the blocks, and not more, and little beside them");
	my ($budget, $used, $own, $spilled) = memory($stream);
	note "figure: $stream: budget $budget, used $used, own $own, spilled $spilled";
}

# ---- and goes

query("SELECT clickstream.stop('second')");
wait_until($node, "SELECT pid IS NULL FROM clickstream.stat_stream WHERE stream = 'second'");
feed('first', 1);
is_soon($node, q(SELECT budget > 14 * 1024 * 1024 FROM clickstream.stat_memory WHERE stream = 'first'), 't', 'when the second has gone the first may have all again');
query("SELECT clickstream.start('second')");
feed('second', 1);
for my $stream (qw(first second))
{
	query("CALL clickstream.finish('$stream')");
	is(rows($stream, $_), $expected{$_}, "$stream: $_: as with plenty") for qw(visits hours);
	is(query("SELECT bool_and(balanced) FROM clickstream.audit('$stream')"), 't', "$stream: the ledger is balanced");
}

$node->stop;
done_testing();
