# Partitions of a Kafka topic that are days apart: with max_drift one that is
# ahead is paused at the broker and read on when the others have come nearer,
# so that state stays small; nothing is lost or doubled, and the tables are
# those of a run without.  And silent ones hold the watermark again while they
# have messages that are not read.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main',
	"clickstream.commit_interval = '20ms'",
	"clickstream.batch_messages = 500");
my %there = (kafka => start_kafka(apart => 3), embedded => start_broker(apart => 3));

sub query { return $node->safe_psql('postgres', $_[0]) }

# n events, so many seconds from one to the next.
sub lines
{
	my ($n, $step, $who) = @_;
	return [ map {
		my $second = $_ * $step;
		my $time = sprintf '2025-01-%02dT%02d:%02d:%02dZ', 1 + int($second / 86400), int($second / 3600) % 24,
		  int($second / 60) % 60, $second % 60;
		sprintf qq(k\t{"user_id": "%s%d", "page_url": "/", "event_time": "%s"}), $who, $_ % 20, $time
	} 0 .. $n - 1 ];
}

# What each commit has stored.
query(<<~'SQL');
	CREATE TABLE seen (stream_id int, entries bigint, paused boolean);
	CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
	BEGIN
		INSERT INTO seen SELECT NEW.stream_id, sum(NEW.by_definition[i]),
			EXISTS (SELECT FROM clickstream.partition p WHERE p.stream_id = NEW.stream_id AND p.paused)
		FROM generate_series(5, cardinality(NEW.by_definition), 5) i;
		RETURN NEW;
	END
	$$;
	CREATE TRIGGER see AFTER UPDATE ON clickstream.progress FOR EACH ROW EXECUTE FUNCTION see();
	SQL

sub run_stream
{
	my ($name, $address, $drift) = @_;

	query(<<~END);
		SELECT clickstream.create_stream('$name', brokers => '$address', topic => 'apart', start_from => 'earliest',
			idle_timeout => '3 seconds', max_drift => $drift);
		SELECT clickstream.create_window('${name}_hours', stream => '$name', size => '1 hour', group_by => 'user_id', measures => 'count(*) AS n');
		SELECT clickstream.create_session('${name}_visits', stream => '$name', gap => '1 hour', measures => 'count(*) AS n');
		SELECT clickstream.start('$name');
		END
	wait_for($node, $name);
	query("CALL clickstream.finish('$name')");
}

sub most
{
	my ($name) = @_;
	return query("SELECT max(entries) FROM seen JOIN clickstream.stream USING (stream_id) WHERE name = '$name'");
}

for my $from (qw(kafka embedded))
{
	my $address = $there{$from}->address;

	# 66 hours, of few events, of many, and of one an hour
	produce($there{$from}, 'apart', lines(2000, 120, 'a'), partition => 0);
	produce($there{$from}, 'apart', lines(20_000, 12, 'b'), partition => 1);
	produce($there{$from}, 'apart', lines(67, 3600, 'c'), partition => 2);
	run_stream('aligned', $address, "'2 hours'");
	run_stream('loose', $address, 'NULL');
	is(query("SELECT string_agg(consumed || ' ' || used || ' ' || late, ', ' ORDER BY partition) FROM clickstream.audit('aligned')"),
		'2000 2000 0, 20000 20000 0, 67 67 0', "$from: nothing is lost or doubled");
	is(query("SELECT bool_or(paused) FROM seen JOIN clickstream.stream USING (stream_id) WHERE name = 'aligned'"), 't',
		"$from: a partition has waited");
	is(query("SELECT bool_or(paused) FROM seen JOIN clickstream.stream USING (stream_id) WHERE name = 'loose'"), 'f',
		"$from: without max_drift none does");
	cmp_ok(most('aligned'), '<', most('loose'), "$from: less is kept open");
	note "$from: entries " . most('aligned') . ' and ' . most('loose');
	is(query("SELECT bool_or(paused) FROM clickstream.stat_partition WHERE stream = 'aligned'"), 'f', "$from: none waits for ever");
	is(digest($node, 'aligned_hours'), digest($node, 'loose_hours'), "$from: the same windows");
	my $columns = 'effective_user_id, session_start, session_end, n, is_final';
	is(digest($node, 'aligned_visits', $columns), digest($node, 'loose_visits', $columns), "$from: the same sessions");
	query("SELECT clickstream.drop_stream(s) FROM unnest('{aligned,loose}'::text[]) s; TRUNCATE seen");
}

# Silent partitions.  The stream stops, hours of messages come to each, and it
# starts: whichever is fetched first does not make the others' late.  What is
# silent is so again as soon as its end is seen, not a minute later.
for my $workers (0, 2)
{
	my $topic = "quiet$workers";
	my $address = $there{kafka}->address;
	my $idle = "SELECT string_agg(partition::text, ' ' ORDER BY partition) FROM clickstream.stat_partition WHERE stream = 'quiet' AND idle";

	$there{kafka}->create_topic($topic, 3);
	produce($there{kafka}, $topic, lines(1, 10, 'a'), partition => $_) for 0 .. 2;
	query(<<~END);
		SELECT clickstream.create_stream('quiet', brokers => '$address', topic => '$topic', start_from => 'earliest',
			idle_timeout => '2 seconds', max_drift => NULL, decode_workers => $workers);
		SELECT clickstream.create_window('quiet_hours', stream => 'quiet', size => '1 hour', measures => 'count(*) AS n');
		SELECT clickstream.start('quiet');
		END
	wait_until($node, "SELECT ($idle) = '0 1 2'");
	query("SELECT clickstream.stop('quiet'); SELECT clickstream.alter_stream('quiet', idle_timeout => '1 hour')");
	produce($there{kafka}, $topic, lines(3000, 10, 'a'), partition => $_) for 0 .. 1;
	query("SELECT clickstream.start('quiet')");
	wait_for($node, 'quiet');
	is(query('SELECT sum(used) || $$ $$ || sum(late) FROM clickstream.stat_partition WHERE stream = $$quiet$$'), '6003 0',
		"$workers decode workers: nothing is late after a pause");
	wait_until($node, "SELECT ($idle) = '2'");
	is(query("SELECT watermark FROM clickstream.stat_stream WHERE stream = 'quiet'"), '2025-01-01 08:19:40+00',
		"$workers decode workers: and the silent one holds nothing");
	query("SELECT clickstream.drop_stream('quiet')");
}

done_testing();
