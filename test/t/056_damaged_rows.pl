# Damaged rows of the spill table and of the state log: the stream stops with
# the row and its key named, also in stat_stream, while others go on; what
# lies in the spill table is given up by key, and a damaged log by reset().
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main',
	'clickstream.force_spill = 0',
	"clickstream.commit_interval = '10ms'",
	"clickstream.restart_delay = '10ms'");

sub query { return $node->safe_psql('postgres', $_[0]) }

# Runs it and returns the error, in a transaction that is rolled back.
sub error_of
{
	my ($sql) = @_;
	my ($out, $err);

	$node->psql('postgres', "\\set VERBOSITY verbose\nBEGIN;\n$sql;\nROLLBACK;", stdout => \$out, stderr => \$err);
	return $err =~ /ERROR:\s+(.*)/ ? $1 : "no error: $out";
}

# Events of visitors, with as long a title as is wanted; minutes from noon on.
sub produce_some
{
	my ($stream, $minute, $visitors, $pages, $title) = @_;
	query(<<~END);
		SELECT count(clickstream.produce('$stream', json_build_object('user_id', v, 'event_type', 'view', 'page_title', repeat('t', $title),
			'event_time', '2025-03-01 12:00:00+00'::timestamptz + $minute * interval '1 minute', 'page_url', '/page/' || p)::text))
		FROM unnest('{$visitors}'::text[]) AS v, generate_series(1, $pages) AS p
		END
}

for my $stream ('web', 'other')
{
	query(<<~END);
		SELECT clickstream.create_stream('$stream', idle_timeout => '1 day');
		SELECT clickstream.create_session('${stream}_sessions', stream => '$stream', gap => '1 hour',
			measures => 'count(*) AS event_count, count(DISTINCT page_url) AS pages, length(max(repeat(page_title, 100))) AS length');
		SELECT clickstream.create_window('${stream}_days', stream => '$stream', size => '1 day', group_by => 'user_id',
			measures => 'count(*) AS events');
		END
}
my ($id, $sessions) = split /\|/, query(<<~'END');
	SELECT stream_id, definition_id FROM clickstream.definition WHERE table_oid = 'web_sessions'::regclass
	END
my $spill = "clickstream.state_spill_$id";
my $open = q(SELECT visitor, event_count, measures->>'pages' FROM clickstream.open_sessions('web_sessions') ORDER BY 1);

# ann and bob have a row each, long and tall three pieces, many a distinct set; the last batch is another's
produce_some('web', 0, 'ann,bob', 1, 1);
produce_some('web', 0, 'long,tall', 1, 200);
produce_some('web', 0, 'many', 60, 1);
produce_some('other', 0, 'ann', 1, 1);
query("SELECT clickstream.start('web'), clickstream.start('other')");
wait_for($node, $_) for 'web', 'other';
for my $minute (1 .. 2)
{
	produce_some('web', $minute, 'last', 1, 1);
	wait_for($node, 'web');
}
query("SELECT clickstream.stop('web')");
wait_until($node, "SELECT state = 'stopped' FROM clickstream.stat_stream WHERE stream = 'web'");

# The key of a visitor's session, whose first piece has his name.
sub key_of
{
	my ($visitor) = @_;
	return query("SELECT who FROM $spill WHERE definition = $sessions AND piece = 0 AND position('$visitor'::bytea IN data) > 0");
}

my %key = map { $_ => key_of($_) } qw(bob long tall many);
like($key{$_}, qr/^[0-9a-f-]{36}$/, "$_ lies in the spill table") for sort keys %key;
is(query("SELECT count(*) > 1 FROM $spill WHERE who = '$key{long}' AND definition = $sessions"), 't', 'long in pieces');
is(query("SELECT count(*) FROM $spill WHERE definition = ~$sessions"), '1', 'and one distinct set');
my $set = query("SELECT bucket FROM $spill WHERE definition = ~$sessions");

# ---- what is said

my $flip = 'data = set_byte(data, 9, get_byte(data, 9) # 1)';
my %damage = (
	bob => "UPDATE $spill SET $flip WHERE definition = $sessions AND who = '$key{bob}'",
	long => "DELETE FROM $spill WHERE definition = $sessions AND who = '$key{long}' AND piece = pieces - 1",
	tall => "DELETE FROM $spill WHERE definition = $sessions AND who = '$key{tall}' AND piece = 0",
	many => "UPDATE $spill SET $flip WHERE definition = ~$sessions");

sub damaged { my ($key) = @_; return "XX001: stored state of public.web_sessions for key $key is damaged:" }

my $last = query("SELECT max(piece) FROM $spill WHERE definition = $sessions AND who = '$key{long}'");
is(error_of("$damage{bob}; $open"), damaged($key{bob}) . " the checksum of a row of the spill table does not match ($spill, piece 0)",
	'a row');
is(error_of("UPDATE $spill SET data = '\\x01' WHERE definition = $sessions AND who = '$key{bob}'; $open"),
	damaged($key{bob}) . " a row of the spill table is too short ($spill, piece 0)", 'a row that is cut');
is(error_of("$damage{long}; $open"),
	damaged($key{long}) . " the last piece of an entry of the spill table is missing ($spill, piece $last)", 'the last piece is lost');
is(error_of("$damage{tall}; $open"), damaged($key{tall}) . " a piece of the spill table is missing ($spill, piece 0)",
	'the first piece is lost');
is(error_of("UPDATE $spill SET $flip WHERE who = '$key{long}' AND piece = 1; $open"),
	damaged($key{long}) . " the checksum of a row of the spill table does not match ($spill, piece 1)", 'a piece between is damaged');
is(error_of("$damage{many}; $open"), "XX001: stored state of public.web_sessions is damaged: "
	. "the checksum of a row of the spill table does not match ($spill, distinct set $set, piece 0)", 'a distinct set');
# of a definition that is not there, nobody asks
unlike(error_of("UPDATE $spill SET definition = 4711, $flip WHERE definition = $sessions AND who = '$key{bob}'; $open"), qr/XX001/,
	'a row that is nobody\'s');

# ---- a worker meets it

query(join '; ', $damage{bob}, "SELECT clickstream.start('web')");
wait_until($node, "SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = 'web'");
like(query("SELECT last_error_sqlstate || ': ' || last_error || ' ' || last_hint FROM clickstream.stat_stream WHERE stream = 'web'"),
	qr/^\Q@{[ damaged($key{bob}) ]}\E .* \(\Q$spill\E, piece 0\) .*discard_damaged_state\(\) gives it up/, 'the stream has failed and says so');
produce_some('other', 3, 'ann', 1, 1);
wait_for($node, 'other');
is(query(q(SELECT event_count FROM clickstream.open_sessions('other_sessions'))), '2', 'another one goes on');

# The way out.  The others are damaged, too, by then.
query($damage{$_}) for qw(long tall many);
my $list = "SELECT definition || ' ' || state_key || ' ' || problem || '; ' || loss FROM clickstream.%s('web') ORDER BY state_key";
my $shown = query(sprintf $list, 'damaged_state');
is(scalar(split /\n/, $shown), 4, 'what is damaged is shown') or diag($shown);
like($shown, qr/^web_sessions $key{$_} stored state of .*; the open sessions of the key/m, "that of $_") for sort keys %key;
is(query(sprintf $list, 'discard_damaged_state'), $shown, 'and given up');
is(query("SELECT count(*) FROM clickstream.damaged_state('web')"), '0', 'then there is no more of it');
is(query("SELECT count(*) FROM $spill WHERE definition IN ($sessions, ~$sessions) AND who IN ('$key{bob}', '$key{long}', '$key{tall}', '$key{many}')
	OR definition = ~$sessions"), '0', 'nor of its rows');
produce_some('web', 4, 'ann,bob', 1, 1);
query("SELECT clickstream.start('web')");
wait_for($node, 'web');
is(query($open), join("\n", 'ann|2|1', 'bob|1|1', 'last|2|1'), 'the stream goes on, and whoever was not damaged is as he was');
is(query(q(SELECT user_id, events FROM web_days WHERE user_id IN ('bob', 'many') ORDER BY 1)), join("\n", 'bob|2', 'many|60'),
	'so is another definition');
is(query("SELECT count(*) FROM clickstream.audit('web') WHERE NOT balanced"), '0', 'the ledger is balanced');

# a set that no entry has any more
query("SELECT clickstream.stop('web')");
wait_until($node, "SELECT state = 'stopped' FROM clickstream.stat_stream WHERE stream = 'web'");
query("INSERT INTO $spill SELECT ~$sessions, 999, '00000000-0000-0000-0000-000000000000', 0, 2147483647, commit_number, '\\x0000' FROM $spill LIMIT 1");
like(query("SELECT definition || ' ' || (state_key IS NULL) || ' ' || problem || '; ' || loss FROM clickstream.discard_damaged_state('web')"),
	qr/^web_sessions true .*distinct set 999 .*; nothing/, 'a damaged set that nobody has');
is(query("SELECT count(*) FROM $spill WHERE definition = ~$sessions"), '0', 'goes, too');

# ---- the log

my ($log, $commit, $seq) = split /\|/, query(<<~END);
	SELECT tableoid::regclass, commit_number, seq FROM (SELECT tableoid, * FROM clickstream.state_log_${id}_a
		UNION ALL SELECT tableoid, * FROM clickstream.state_log_${id}_b) AS l ORDER BY commit_number DESC, seq LIMIT 1
	END
query("UPDATE $log SET $flip WHERE commit_number = $commit AND seq = $seq");
my $of_row = "stored state is damaged: the checksum of a row of the state log does not match ($log, commit_number $commit, seq $seq)";
query("SELECT clickstream.start('web')");
wait_until($node, "SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = 'web'");
is(query("SELECT last_error FROM clickstream.stat_stream WHERE stream = 'web'"), $of_row, 'of the log the row is named');
like(query("SELECT last_hint FROM clickstream.stat_stream WHERE stream = 'web'"), qr/cannot be given up alone.*backup.*reset\(\)/,
	'and what helps');
is(error_of("SELECT * FROM clickstream.discard_damaged_state('web')"), "XX001: $of_row", 'that function says the same');
query("SELECT clickstream.reset('web'); SELECT clickstream.start('web')");
wait_for($node, 'web');
is(query($open), join("\n", 'ann|2|1', 'bob|2|1', 'last|2|1', 'long|1|1', 'many|60|60', 'tall|1|1'), 'after reset() all is there again');

$node->stop;
done_testing();
