# What decode workers may lack: the broker, while they read; memory for their
# queues; a slot of the server's; a lock, to open the stream.  The stream goes
# on without those that lack it, says what it is, and has them again when there
# is enough; nothing is lost or counted twice.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;
use ClickstreamSite;

my $seed = seed_of(610);

my $node = new_node('main',
	"clickstream.commit_interval = '20ms'",
	"clickstream.restart_delay = '50ms'",
	"clickstream.metadata_refresh_interval = '200ms'",
	'dynamic_shared_memory_type = mmap');    # in files, which can be refused
my $broker = start_broker(site => 4);
my $address = $broker->address;
my $n = 0;

sub query { return $node->safe_psql('postgres', $_[0]) }

sub produce_more
{
	produce_site($broker, 'site', site_events_from($n, 1000, $seed));
	$n += 1000;
}

sub make_stream
{
	my ($stream, $workers) = @_;

	create_site($node, $stream, $stream, "brokers => '$address', topic => 'site', start_from => 'earliest', decode_workers => $workers");
	query("SELECT clickstream.start('$stream')");
}

# So many read, and this is what is said of the others.
sub is_shown
{
	my ($stream, $workers, $problem, $name) = @_;
	my $said = $problem ? "LIKE '$problem'" : 'IS NULL';

	wait_until($node, "SELECT decode_workers = $workers AND decode_problem $said FROM clickstream.stat_stream WHERE stream = '$stream'");
	pass($name);
}

sub is_read
{
	my ($stream, $name) = @_;

	wait_until($node, "SELECT sum(consumed) = $n AND bool_and(balanced) FROM clickstream.audit('$stream')");
	pass($name);
}

sub helper_of
{
	my ($stream, $i) = @_;
	return query("SELECT pid FROM pg_stat_activity WHERE application_name = 'clickstream: $stream, decode worker $i'");
}

produce_more();    # a partition that has never spoken holds no watermark back: all have, before anybody reads
make_stream('calm', 0);

# ---- the broker goes away while they read, and comes back

make_stream('away', 2);
is_shown('away', 2, '', 'both read');
for my $round (1 .. 3)
{
	produce_more();
	$broker->command('down');    # some of it is read by now, or nothing, or all
	wait_until($node, q(SELECT state = 'waiting for broker' AND problem <> '' AND decode_workers = 2 FROM clickstream.stat_stream WHERE stream = 'away'));
	pass("round $round: what their connections say is the stream's problem");
	$broker->command('up');
	produce_more();
	is_read('away', "round $round: all is read when it is back");
	wait_until($node, q(SELECT state = 'running' AND problem IS NULL FROM clickstream.stat_stream WHERE stream = 'away'));
}
is(query(q(SELECT decode_restarts FROM clickstream.stat_stream WHERE stream = 'away')), '0', 'none of them ended over it');

# ---- one that cannot open the stream: others read its partitions

{
	my $session = background($node, on_error_stop => 1);
	my $victim = helper_of('away', 2);
	my $relation = query(q(SELECT event_relation FROM clickstream.stream WHERE name = 'away'));

	$session->query_safe("BEGIN; LOCK TABLE $relation IN ACCESS EXCLUSIVE MODE");
	query("SELECT pg_terminate_backend($victim)");
	is_shown('away', 1, '%have begun to read yet%', 'one that waits for a lock is not counted, and that is said');
	produce_more();
	is_read('away', 'meanwhile its partitions are read by another one');
	$session->query_safe('COMMIT');
	$session->quit;
	is_shown('away', 2, '', 'it reads when it has the lock');
}

# ---- no memory for their queues

my $files = $node->data_dir . '/pg_dynshmem';

sub refuse_memory { chmod 0500, $files or die "chmod: $!" }
sub allow_memory { chmod 0700, $files or die "chmod: $!" }

SKIP:
{
	skip 'a superuser of the system is refused nothing', 6 if $> == 0;
	refuse_memory();
	make_stream('poor', 2);
	is_shown('poor', 0, '%shared memory segment%', 'no memory for any: the stream says so');
	produce_more();
	is_read('poor', 'and reads by itself');

	# An error in the stream's worker, later than the next try would be: assigning anew, it tries in the middle of clean-up.
	query(<<~'END');
		CREATE TABLE lame (until timestamptz);
		INSERT INTO lame VALUES (clock_timestamp() + interval '3 seconds');
		CREATE FUNCTION limp() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF EXISTS (SELECT FROM public.lame) THEN
				PERFORM pg_sleep(3);
				RAISE 'lame' USING ERRCODE = 'insufficient_resources';
			END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER lame BEFORE INSERT ON poor_sessions FOR EACH ROW EXECUTE FUNCTION limp();
		END
	my $worker = worker_of($node, 'poor');
	produce_more();
	wait_until($node, q(SELECT last_error LIKE 'lame%' FROM clickstream.stat_stream WHERE stream = 'poor'));
	query('TRUNCATE lame');
	is_read('poor', 'an error meanwhile is survived');
	is(worker_of($node, 'poor'), $worker, 'by the same process');
	allow_memory();
	is_shown('poor', 2, '', 'when there is memory they are started');
	produce_more();
	is_read('poor', 'and read');
}

for my $stream (query('SELECT string_agg(name, $$ $$ ORDER BY name <> $$calm$$) FROM clickstream.stream') =~ /\w+/g)
{
	is_read($stream, "$stream: to the end");
	query("CALL clickstream.finish('$stream')");
	query("SELECT clickstream.stop('$stream')");
	same_site($node, $stream, 'calm', "$stream: the tables are those of a stream without decode workers") if $stream ne 'calm';
}

# ---- fewer slots than were asked for: launcher, logical replication's, two streams', one

$node->append_conf('postgresql.conf', 'max_worker_processes = 5');
$node->restart;
query("SELECT clickstream.start('calm')");
wait_until($node, q(SELECT state = 'running' FROM clickstream.stat_stream WHERE stream = 'calm'));
make_stream('wide', 4);
is_shown('wide', 1, 'Every background worker slot%', 'four were asked for, there is room for one');
is_read('wide', 'which reads all');
query("SELECT clickstream.stop('calm')");
is_shown('wide', 2, 'Every background worker slot%', 'a slot that becomes free is taken');
produce_more();
is_read('wide', 'and its partitions are read');
$node->stop;
done_testing();
