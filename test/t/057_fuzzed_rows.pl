# Rows of the state log and of the spill table, damaged at random: their
# columns, their bytes, and most often what is in them, with the checksum made
# right again.  Whoever reads the state then, and the engine itself, either says
# that it is damaged (XX001) or goes on; and what discard_damaged_state() has
# given up can be read by everybody.  Another seed: CLICKSTREAM_SEED; how many
# cases: CLICKSTREAM_ROUNDS_057.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;
use StateLog;

my $seed = seed_of(57);
my $rounds = $ENV{CLICKSTREAM_ROUNDS_057} // 250;
my $batches = int($rounds / 25);

my $node = new_node('main',
	'restart_after_crash = on',
	'clickstream.force_spill = 4',
	'clickstream.batch_messages = 40',
	"clickstream.state_log_size = '64kB'");

sub query { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

# ---- a state of everything: open, large, with large sets, in both halves of the log and in the spill table

query('CREATE DATABASE shop');
query('CREATE EXTENSION clickstream', 'shop');
query(<<~END, 'shop');
	SELECT clickstream.create_stream('web', idle_timeout => '1 day', watermark_delay => '1 hour', dedupe_by => 'message_offset::text');
	SELECT clickstream.create_session('sessions', stream => 'web', gap => '1 hour', allowed_lateness => '1 hour',
		measures => 'count(*) AS n, count(DISTINCT page_url) AS pages, first(page_url) AS f, length(max(repeat(page_title, 150))) AS length');
	SELECT clickstream.create_window('hours', stream => 'web', size => '1 hour', group_by => 'device_type',
		measures => 'count(*) AS n, count(DISTINCT page_url) AS pages, max(page_title) AS title');
	SELECT clickstream.create_window('rolling', stream => 'web', size => '1 hour', slide => '30 minutes', group_by => 'device_type',
		measures => 'count(*) AS n, count(DISTINCT user_id) AS users');
	SELECT clickstream.create_rollup('metrics', source => 'sessions', size => '1 day', measures => 'count(*) AS n, sum(n) AS events');
	SELECT clickstream.create_funnel('funnel', stream => 'web', within => '2 hours', steps => ARRAY[
		clickstream.step('first', \$\$page_url ~ '[0-4]\$'\$\$), clickstream.step('second', \$\$page_url ~ '[5-9]\$'\$\$)]);
	SELECT setseed($seed / 1000000.0);
	SELECT count(clickstream.produce('web', json_build_object('user_id', 'v' || least((random() * 9)::int, (random() * 9)::int), 'event_type', 'view',
		'event_time', '2025-03-01 12:00:00+00'::timestamptz + i * interval '10 s', 'page_url', '/page/' || (random() * 150)::int,
		'page_title', repeat('t', (random() * 70)::int), 'device_type', 'd' || i % 3)::text))
	FROM generate_series(1, 700) AS i;
	CALL clickstream.process('web');
	END
my $id = query("SELECT stream_id FROM clickstream.stream", 'shop');
my $spill = "clickstream.state_spill_$id";
my @definitions = split /\n/, query('SELECT definition_id FROM clickstream.definition', 'shop');

# By table and commit: its rows' bytes without their checksums, put together.
my %log;
for my $half ('a', 'b')
{
	for (split /\n/, query("SELECT commit_number, encode(data, 'hex') FROM clickstream.state_log_${id}_$half ORDER BY commit_number, seq", 'shop'))
	{
		my ($commit, $hex) = split /\|/;
		$log{"$half $commit"} .= substr pack('H*', $hex), 4;
	}
}
my @commits = sort keys %log;
my @spilled = map { [ split /\|/ ] } split /\n/,
	query("SELECT ctid, definition, bucket, who, piece, pieces, encode(data, 'hex') FROM $spill ORDER BY definition, bucket, who, piece", 'shop');
my %has = map { $_->[1] < 0 ? (set => 1) : $_->[5] > 1 ? (pieces => 1) : (entry => 1) } @spilled;
is(join(' ', sort keys %has), 'entry pieces set', 'the spill table has entries, long ones and sets');
my %kinds;
$kinds{ $_->{kind} }++ for map { local $_ = $_; { kind => ord } } map { records_of($log{$_}) } @commits;
cmp_ok(scalar keys %kinds, '>=', 4, 'the log has records of many kinds') or diag(join ' ', %kinds);

# The records of a commit, without their lengths.
sub records_of
{
	my ($bytes) = @_;
	my @records;

	while ($bytes ne '')
	{
		my $length = get_varint(\$bytes);
		push @records, substr $bytes, 0, $length, '';
	}
	return @records;
}

sub some { my (@of) = @_; return $of[ rand @of ] }

# ---- damage

# Of bytes: a bit, a byte, a piece less or more, the end.
sub damage_bytes
{
	my ($bytes, $other) = @_;
	return chr rand 256 if $bytes eq '';
	my $at = int rand length $bytes;
	my $from = int rand(1 + length $other);
	my @ways = (
		sub { substr($bytes, $at, 1) ^= chr(1 << rand 8) },
		sub { substr($bytes, $at, 1) = chr rand 256 },
		sub { substr($bytes, $at, 1 + rand 8) = '' },
		sub { substr($bytes, $at) = '' },
		sub { substr($bytes, $at, 0) = substr "\xff" x 9 . "\x01", rand 10 },
		sub { substr($bytes, $at, 1) = chr((ord(substr $bytes, $at, 1) + some(-1, 1)) & 255) },
		sub { substr($bytes, $at, 0) = substr $other, $from, 1 + rand 40 });

	some(@ways)->();
	return $bytes;
}

# A commit's bytes as rows in place of those that it had.
sub put_commit
{
	my ($commit, $bytes) = @_;
	my ($half, $number) = split / /, $commit;
	my $log = "clickstream.state_log_${id}_$half";
	my $sql = "DELETE FROM $log WHERE commit_number = $number;";
	my $seq = 0;

	while ($bytes ne '')
	{
		$sql .= "INSERT INTO $log VALUES ($number, $seq, '\\x" . row_of(substr $bytes, 0, 8000, '') . "');";
		$seq++;
	}
	return $sql;
}

sub damage_records
{
	my ($commit) = @_;
	my @records = records_of($log{$commit});
	my $at = int rand @records;
	my $other = some(records_of($log{ some(@commits) }));
	my @ways = (
		sub { splice @records, $at, 1 },
		sub { splice @records, rand @records, 0, $records[$at] },
		sub { splice @records, rand @records, 0, $other },
		sub { @records[ $at, -1 ] = @records[ -1, $at ] },
		sub { substr($records[$at], 0, 1) = chr rand 9 },
		(sub { $records[$at] = damage_bytes($records[$at], $other) }) x 6,
		# another key: definition and bucket lie in front
		sub { substr($records[$at], 1, 1) = put_varint(2 * some(@definitions) + int rand 2) });

	some(@ways)->();
	return join '', map { put_varint(length) . $_ } @records;
}

sub damage_row
{
	my ($half, $number) = split / /, $_[0];
	my $log = "clickstream.state_log_${id}_$half";
	my $byte = int rand 60;

	return some(
		"DELETE FROM $log WHERE commit_number = $number AND seq = 0",
		"UPDATE $log SET seq = seq + 1 WHERE commit_number = $number",
		"UPDATE $log SET commit_number = commit_number + " . some(-3, 1, 50) . " WHERE commit_number = $number",
		"INSERT INTO $log SELECT commit_number, seq + 1, data FROM $log WHERE commit_number = $number",
		"UPDATE $log SET data = substr(data, 1, $byte) WHERE commit_number = $number",
		"UPDATE $log SET data = set_byte(data, $byte % length(data), " . int(rand 256) . ") WHERE commit_number = $number");
}

sub damage_spilled
{
	my ($ctid, $definition, $bucket, $who, $piece, $pieces, $hex) = @{ some(@spilled) };
	my $set = sub { return "UPDATE $spill SET $_[0] WHERE ctid = '$ctid'" };
	my $bytes = substr pack('H*', $hex), 4;
	my $other = some(@spilled);
	my $of_other = substr pack('H*', $other->[6]), 4;
	my $column = int rand 5;

	return some(
		(map { $set->("data = '\\x" . row_of(damage_bytes($bytes, $of_other)) . "'") } 1 .. 6),
		$set->("data = '\\x" . unpack('H*', damage_bytes(pack('H*', $hex), $of_other)) . "'"),
		$set->("data = '\\x$other->[6]'"),
		$set->('definition = ' . some(@definitions, -2, 0, -1 - some(@definitions), 4711)),
		$set->('bucket = bucket + ' . int(rand 4)),
		$set->('bucket = ' . some(0, 1, -1, '9223372036854775807', $other->[2])),
		$set->("who = gen_random_uuid()"),
		$set->('piece = ' . some(1, 2, 7, -1)),
		$set->('pieces = ' . some(0, 1, 2, 3, -1)),
		"DELETE FROM $spill WHERE ctid = '$ctid'");
}

sub damage
{
	my $commit = some(@commits);
	my $way = rand;

	return damage_spilled() if $way < 0.4;
	return damage_row($commit) if $way < 0.5;
	return put_commit($commit, damage_records($commit)) if $way < 0.9;
	return put_commit($commit, damage_bytes($log{$commit}, $log{ some(@commits) }));
}

# ---- whoever reads it

query(<<~'SQL', 'shop');
	CREATE FUNCTION outcome(sql text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		n bigint;
	BEGIN
		EXECUTE 'SELECT count(t::text) FROM ' || sql || ' AS t' INTO n;
		RETURN 'reads';
	EXCEPTION WHEN OTHERS THEN
		RETURN sqlstate || ' ' || sqlerrm;
	END
	$$;
	CREATE FUNCTION outcomes() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		readers text := '';
		discarded text;
		afterwards text := '';
		r text;
	BEGIN
		FOREACH r IN ARRAY ARRAY['clickstream.open_sessions(''sessions'')', 'clickstream.open_windows(''hours'')',
			'clickstream.open_windows(''rolling'')', 'clickstream.open_windows(''metrics'')', 'clickstream.open_funnels(''funnel'')', 'clickstream.damaged_state(''web'')'] LOOP
			readers := readers || '; ' || outcome(r);
		END LOOP;
		discarded := outcome('clickstream.discard_damaged_state(''web'')');
		IF discarded = 'reads' THEN
			FOREACH r IN ARRAY ARRAY['clickstream.open_sessions(''sessions'')', 'clickstream.open_windows(''hours'')',
				'clickstream.open_windows(''rolling'')', 'clickstream.open_windows(''metrics'')', 'clickstream.open_funnels(''funnel'')'] LOOP
				afterwards := afterwards || '; ' || outcome(r);
			END LOOP;
		END IF;
		RETURN substr(readers, 3) || ' / ' || discarded || ' / ' || substr(afterwards, 3);
	END
	$$;
	SQL
is(query('SELECT outcomes()', 'shop'), join(' / ', join('; ', ('reads') x 6), 'reads', join('; ', ('reads') x 5)),
	'before anything is damaged all can be read');

my @cases = map { damage() } 1 .. $rounds;
my $script = join "\n", '\set ON_ERROR_STOP 0', 'SET client_min_messages = error;', map {
	"BEGIN; SET LOCAL statement_timeout = '60s'; $cases[$_]; SELECT 'case $_ / ' || outcomes(); ROLLBACK;" } 0 .. $#cases;
my ($out, $err);
my $code = $node->psql('shop', $script, stdout => \$out, stderr => \$err);
my (%outcome_of, %seen);
/^case (\d+) \/ (.*)/ and $outcome_of{$1} = $2 for split /\n/, $out;
is($code, 0, 'the server has not crashed');
my @wrong;
for my $case (0 .. $#cases)
{
	# a case that its own SQL does not allow (two rows of one key) is none
	next if !defined $outcome_of{$case} && $code == 0;
	my ($readers, $discarded, $afterwards) = split / \/ /, $outcome_of{$case} // 'nothing / nothing / ', -1;

	push @wrong, $case if grep { !/^(?:reads|XX001 )/ } split(/; /, $readers), $discarded;
	push @wrong, $case if $discarded eq 'reads' && grep { $_ ne 'reads' } split /; /, $afterwards;
	$seen{ $readers =~ /XX001/ ? 'damaged' : 'readable' }++;
	$seen{'given up'}++ if $discarded eq 'reads' && $readers =~ /XX001/;
}
is(scalar @wrong, 0, 'damage is said as such, or what is there can be read; and what was given up does no harm')
	or diag(map { "case $_ of seed $seed: " . ($outcome_of{$_} // 'nothing') . "\n" . substr($cases[$_], 0, 3000) . "\n" } @wrong[ 0 .. ($#wrong > 4 ? 4 : $#wrong) ]);
note(join ', ', map { "$_: $seen{$_}" } sort keys %seen);
cmp_ok($seen{$_} // 0, '>', $rounds / 25, "many are $_") for 'damaged', 'readable';
cmp_ok($seen{'given up'} // 0, '>', 0, 'and some can be given up');

# ---- the engine

my @engine_wrong;
my %engine;
for my $round (1 .. $batches)
{
	my $case = damage();

	alone($node, "CREATE DATABASE fuzzed TEMPLATE shop");
	$err = '';
	$code = $node->psql('fuzzed', <<~END, stderr => \$err);
		\\set ON_ERROR_STOP 0
		\\set VERBOSITY verbose
		SET client_min_messages = error;
		$case;
		SELECT count(clickstream.produce('web', json_build_object('user_id', 'v' || i % 12, 'event_type', 'view', 'event_time', '2025-03-01 14:00:00+00'::timestamptz + i * interval '1 minute',
			'page_url', '/page/' || i, 'page_title', 't', 'device_type', 'd' || i % 4)::text)) FROM generate_series(1, 150) AS i;
		CALL clickstream.process('web');
		CALL clickstream.finish('web');
		END
	my @states = $err =~ /ERROR:  (\w{5}):/g;
	$engine{ @states ? $states[0] : 'goes on' }++;
	# what is readable and not true may collide with rows that are
	push @engine_wrong, "round $round: $case\n$err" if $code != 0 || grep { !/^(?:XX001|23505)$/ } @states;
	alone($node, "DROP DATABASE fuzzed");
}
is(scalar @engine_wrong, 0, 'so does the engine') or diag(@engine_wrong);
note(join ', ', map { "$_: $engine{$_}" } sort keys %engine);
unlike(slurp_file($node->logfile), qr/terminated by signal|TRAP:/, 'no process has crashed');

$node->stop;
done_testing();
