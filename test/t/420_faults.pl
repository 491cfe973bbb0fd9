# Each point of core/fault.h with what can go wrong there: the stream goes on
# by itself, its tables are byte for byte those of a server that was left in
# peace, and the ledger is balanced.  Where what is wrong stays wrong, the
# stream says why and waits, or stops; and goes on when it is gone.
#
# A kill between "decoded" and "at_commit" throws away uncommitted work: these
# points are passed in a transaction that has taken messages.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;
use ClickstreamTwins;

my $seed = seed_of(420);
my $twins = ClickstreamTwins->servers(
	'clickstream.batch_messages = 100',
	"clickstream.commit_interval = '10ms'",
	"clickstream.state_log_size = '64kB'",    # so that its halves change all the time
	"clickstream.restart_delay = '10ms'",
	'clickstream.force_spill = 50');           # and state goes to the spill table and comes back
$twins->begin($seed, start_broker(web => 4));

# The hurt one closes in parts, which faults come between; the other one at once.
$twins->hurt->append_conf('postgresql.conf', 'clickstream.force_closings = 3');
$twins->hurt->reload;

# ---- the points, as the source lists them

my @points = slurp_file("$ClickstreamTest::top/src/core/fault.h") =~ /^\tF\([A-Z_]+, "(\w+)"\)/mg;
cmp_ok(scalar @points, '>=', 16, 'the list of points was read');
@points = grep { !/^feeder_/ } @points;    # those of decode workers: 605_helper_faults.pl

# Passed at most once in some batches; a later pass would take long.
my %rare = map { $_ => 1 } qw(mid_recovery recovery_spill mid_copy before_trim trim_locked mid_trim);
# Passed by an engine that is opened.
my %opening = map { $_ => 1 } qw(mid_recovery recovery_spill);
# Passed by entries that stay in memory for a while.
my %memory = map { $_ => 1 } qw(mid_copy);
# Passed while a definition is filled with history.
my %filling = map { $_ => 1 } qw(history);

srand $seed;
my %pass = map { $_ => $rare{$_} ? 1 : 1 + int(rand 3) } @points;

sub reopen
{
	$twins->query("SELECT clickstream.stop('web')");
	$twins->query("SELECT clickstream.start('web')");
}

# ---- definitions that are filled with history

my @filled = qw(filled_pages filled_sessions filled_metrics);

# The hurt server's stream is stopped meanwhile: what is said once must not be said again.
sub begin_to_fill
{
	$twins->query("SELECT clickstream.stop('web')");
	$twins->poll('the end of the worker', sub { $twins->query('SELECT pid IS NULL FROM clickstream.stat_stream') eq 't' });
	$_->safe_psql('postgres', <<~'END') for $twins->calm, $twins->hurt;
		SELECT clickstream.create_window('filled_pages', stream => 'web', backfill => true, size => '1 minute', group_by => 'page_url',
			filter => $$event_type <> 'beacon'$$, measures => 'count(*) AS views, count(DISTINCT effective_user_id) AS visitors');
		SELECT clickstream.create_session('filled_sessions', stream => 'web', backfill => true, gap => '30 seconds', filter => $$event_type <> 'beacon'$$);
		SELECT clickstream.create_rollup('filled_metrics', source => 'filled_sessions', backfill => true, size => '1 minute',
			measures => 'count(*) AS sessions, sum(event_count) AS events');
		END
}

sub filled_is_same
{
	my ($name) = @_;
	my @lines = map { "SELECT '$_ ' || (to_jsonb(t) - 'revision' - 'session_id')::text AS line FROM $_ AS t WHERE is_final" } @filled;
	my $rows = 'SELECT count(*), md5(string_agg(line, E\'\n\' ORDER BY line COLLATE "C")) FROM (' . join(' UNION ALL ', @lines) . ') AS l';

	# And then what the watermark has passed in what was filled is closed, too.
	$twins->poll('the end of history', sub {
		!grep { ((ask($_, 'SELECT count(*) FROM clickstream.stat_progress'))[1] // '') ne '0' || !$twins->all_is_read($_) } $twins->calm, $twins->hurt;
	});
	is($twins->query($rows), $twins->calm->safe_psql('postgres', $rows), "$name: what was filled is the same");
	for my $node ($twins->calm, $twins->hurt)
	{
		$node->safe_psql('postgres', <<~'END');
			SELECT clickstream.drop_rollup('filled_metrics'), clickstream.drop_session('filled_sessions'), clickstream.drop_window('filled_pages')
			END
	}
}

# ---- what happens once

sub strike
{
	my ($point, $action) = @_;
	my $fault = "$point:$action:$pass{$point}";

	$twins->feed(sub { $twins->all_is_read($twins->hurt) }) if $opening{$point};    # so that there is something
	begin_to_fill() if $filling{$point};
	$twins->fault($fault, $memory{$point} ? 'clickstream.force_spill = -1' : ());
	reopen() if $opening{$point};
	$twins->query("SELECT clickstream.start('web')") if $filling{$point};
	my $happened = $twins->feed(sub { $twins->fault_happened });
	$twins->clear_fault;
	return fail("$fault does not happen") unless $happened;
	$twins->are_same($fault);
	filled_is_same($fault) if $filling{$point};
}

# At moments of each kind all of it; elsewhere one of these three, another one with another seed.
my @others = qw(disk memory fatal);
my %whole = map { $_ => 1 } qw(mid_recovery before_begin applied mid_copy after_log before_commit after_commit);
is(scalar(grep { $whole{$_} } @points), scalar(keys %whole), 'there are the points at which all of it happens');
for my $i (0 .. $#points)
{
	strike($points[$i], $_) for 'kill', 'error', $whole{$points[$i]} ? @others : $others[($i + $seed) % @others];
}

# ---- what goes on until its cause is gone

sub state_is
{
	my ($state, $reason) = @_;
	my $seen = '';

	$twins->feed(sub {
		$seen = $twins->query("SELECT state || ': ' || coalesce(last_error, '') FROM clickstream.stat_stream");
		$seen =~ /^$state: .*$reason/;
	});
	like($seen, qr/^$state: .*$reason/, "$state, with the reason: $reason");
}

for my $point (qw(before_begin before_log at_commit))
{
	$twins->fault("$point:disk:0");
	state_is('backing off', "injected full disk at $point");
	$twins->clear_fault;
	$twins->are_same("the disk was full at $point for a while; the stream goes on by itself");
}
for my $point (qw(decoded after_log))
{
	$twins->query("SELECT clickstream.start('web')");    # no back-off from what was before
	$twins->fault("$point:refuse:0");
	state_is('failed', "injected refusal at $point");
	$twins->clear_fault;
	$twins->query("SELECT clickstream.start('web')");
	$twins->are_same("refused at $point; goes on after start()");
}

$twins->finish;
$twins->stop;
done_testing();
