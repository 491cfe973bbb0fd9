# What the state log says of an entry that changed, and what it says when it
# is damaged: a clear error, where a reader and where the engine meets it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;
use StateLog;

my $node = new_node('main');
my $log = 'clickstream.state_log_1_a';
my $sessions = q(SELECT visitor, event_count, measures->>'pages' FROM clickstream.open_sessions('sessions') ORDER BY 1);

sub query { return $node->safe_psql('postgres', $_[0]) }

# Runs it and returns the error, with its SQLSTATE; in one transaction that is rolled back.
sub error_of
{
	my ($sql) = @_;
	my ($out, $err);

	$node->psql('postgres', "\\set VERBOSITY verbose\nBEGIN;\n$sql;\nROLLBACK;", stdout => \$out, stderr => \$err);
	return $err =~ /ERROR:\s+(.*)/ ? $1 : "no error: $out";
}

# One commit: an event of each of six visitors.
sub commit
{
	my ($n) = @_;
	query(<<~END);
		SELECT count(clickstream.produce('web', json_build_object('user_id', 'visitor ' || v, 'event_type', 'view',
			'event_time', '2025-03-01 12:00:00+00'::timestamptz + $n * interval '10 s', 'page_title', repeat('title ', 20),
			'page_url', 'https://shop.example/page/' || $n * 1000 + v)::text))
		FROM generate_series(1, 6) AS v;
		END
	query("CALL clickstream.process('web')");
}

query(<<~'END');
	SELECT clickstream.create_stream('web', idle_timeout => '1 hour');
	SELECT clickstream.create_session('sessions', stream => 'web', gap => '30 minutes',
		measures => 'count(*) AS event_count, count(DISTINCT page_url) AS pages, first(page_url) AS landing,
			last(page_url) AS exit, max(page_title) AS title');
	SELECT clickstream.create_window('days', stream => 'web', size => '1 day', group_by => 'user_id',
		measures => 'count(*) AS events');
	END
my $session = query("SELECT definition_id FROM clickstream.definition WHERE kind = 'session'");
commit($_) for 1 .. 4;

# ---- what is written

my @records = log_records($node, $log);
my @images = grep { $_->{kind} eq 'image' } @records;
my @deltas = grep { $_->{kind} eq 'delta' } @records;
my %commits = map { $_->{commit} => 1 } grep { state_of($_) == $session } @records;
my ($first, $second, $third, $fourth) = sort { $a <=> $b } keys %commits;

# The definition that a record is of.
sub state_of
{
	my $body = $_[0]{body};
	return get_varint(\$body) >> 1;
}

is(scalar @images, 12, 'what is new is written whole: six visitors, six groups');
is(scalar(grep { $_->{commit} == $first } @images), 12, 'by the first commit');
is(scalar(grep { state_of($_) == $session } @deltas), 18, 'later commits write what changed');
my $of_images = 0;
my $of_deltas = 0;
$of_images += length $_->{body} for grep { state_of($_) == $session } @images;
$of_deltas += length $_->{body} for grep { state_of($_) == $session } @deltas;
cmp_ok($of_deltas / 18, '<', 0.5 * $of_images / 6, 'which is less than half of a session')
	or diag(sprintf '%.1f and %.1f bytes', $of_deltas / 18, $of_images / 6);
is(query($sessions), join("\n", map { "visitor $_|4|4" } 1 .. 6), 'a reader folds images and deltas');
query("CALL clickstream.process('web')");
$node->stop('immediate');
$node->start;
is(query($sessions), join("\n", map { "visitor $_|4|4" } 1 .. 6), 'also after a crash');

# ---- rows that lie in another order, as where VACUUM gave back the place of what an aborted commit left

sub moved
{
	my ($commit) = @_;
	return "UPDATE $log SET data = data WHERE commit_number = $commit";
}

like(error_of(moved($_) . "; SELECT string_agg(visitor || ' ' || event_count, ', ' ORDER BY 1) FROM clickstream.open_sessions('sessions')"),
	qr/^no error: visitor 1 4, .*, visitor 6 4$/, "commit $_ at the end") for $first, $second, $third;

# ---- damage that no checksum of a row tells

my $damaged = qr/^XX001: stored state (?:of public\.\w+ for key [0-9a-f-]{36} )?is damaged: /;

# Where it was read.
sub in_commit
{
	my ($commit) = @_;
	return qr/ \(\Q$log\E, commit_number $commit, seq 0\)$/;
}

like(error_of("DELETE FROM $log WHERE commit_number = $first; $sessions"),
	qr/${damaged}what a change is a change of is missing${\in_commit($second)}/, 'the commit with the images is lost');
like(error_of("DELETE FROM $log WHERE commit_number = $third; $sessions"),
	qr/${damaged}a change (?:does not fit the entry that it changes|copies what is not there)${\in_commit($fourth)}/, 'a commit between is lost');
unlike(error_of("DELETE FROM $log WHERE commit_number = $fourth; $sessions"), $damaged,
	'(of the newest one the log alone cannot tell)');

# The rows of a commit with its first session's delta as it is made by a function.
sub with_delta
{
	my ($commit, $change) = @_;
	my $bytes = '';
	my $done = 0;

	for my $record (grep { $_->{commit} == $commit } @records)
	{
		my %of = (image => 1, delta => 2);
		my $whole = chr($of{ $record->{kind} }) . $record->{body};

		if (!$done && $record->{kind} eq 'delta' && state_of($record) == $session)
		{
			my $delta = parse_delta($record->{body});
			$done = 1;
			$bytes .= $change->($delta) // put_delta($delta);
		}
		else
		{
			$bytes .= put_varint(length $whole) . $whole;
		}
	}
	die 'no delta in that commit' if !$done;
	die 'more than a row' if length $bytes > 8000;
	return "UPDATE $log SET data = '\\x" . row_of($bytes) . "' WHERE commit_number = $commit";
}

unlike(error_of(with_delta($third, sub { return undef }) . "; $sessions"), $damaged, 'the same delta written again is none');

my %damage = (
	'a sum that is wrong' => [ sub { $_[0]{sum} ^= "\x01\x00"; undef }, 'a change does not fit the entry that it changes' ],
	'another byte' => [ sub { $_->[0] =~ s/(.)$/$1 ^ "\x20"/se for grep { length $_->[0] > 8 } @{ $_[0]{steps} }; undef },
		'a change does not fit the entry that it changes' ],
	'a greater length' => [ sub { $_[0]{length}++; undef }, 'it ends early' ],
	'a smaller length' => [ sub { $_[0]{length}--; undef }, 'a change makes an entry longer than it says' ],
	'a length of a terabyte' => [ sub { $_[0]{length} = 1 << 40; undef }, 'a changed entry is too long' ],
	'a copy from behind the end' => [ sub { $_[0]{steps}[-1][1] += 1000; undef }, 'a change copies what is not there' ],
	'a copy from before the begin' => [ sub { $_[0]{steps}[-1][1] -= 5000; undef }, 'a change copies what is not there' ],
	'a copy from nowhere' => [ sub { $_[0]{steps}[-1][1] = 1 << 60; undef }, 'a change copies what is not there' ],
	'a copy of nothing' => [ sub { $_[0]{steps}[0][2] = 0; undef }, 'a change makes an entry longer than it says' ],
	'bytes left over' => [ sub { my $r = put_delta($_[0]); get_varint(\$r); put_varint(1 + length $r) . "$r\0" },
		'a change does not fit the entry that it changes' ],
	'a delta of another entry' => [ sub { $_[0]{key} ^= "\0" x (length($_[0]{key}) - 1) . "\x01"; undef },
		'what a change is a change of is missing' ],
	'an unknown operation' => [ sub { "\x01\x63" }, 'a record of the state log is of no known kind' ],
	'a record of a terabyte' => [ sub { put_varint(1 << 34) }, 'a record of the state log is too long' ],
	'a record that does not end' => [ sub { put_varint(5000) . "\x02" }, 'a commit of the state log ends within a record' ]);
for my $what (sort keys %damage)
{
	my ($change, $error) = @{ $damage{$what} };

	like(error_of(with_delta($third, $change) . "; $sessions"), qr/$damaged\Q$error\E${\in_commit($third)}/, $what);
}
like(error_of("UPDATE $log SET data = set_byte(data, 40, get_byte(data, 40) # 1) WHERE commit_number = $third; $sessions"),
	qr/${damaged}the checksum of a row of the state log does not match${\in_commit($third)}/, 'a bit of a row');

# The engine meets the same, and leaves all as it is.
query("CREATE TABLE kept AS SELECT * FROM $log; " . with_delta($third, $damage{'another byte'}[0]));
my ($out, $err);
query(q(SELECT clickstream.produce('web', '{"user_id": "visitor 1", "event_time": "2025-03-01T12:01:00Z"}')));
$node->psql('postgres', "CALL clickstream.process('web')", stdout => \$out, stderr => \$err);
like($err, qr/stored state of public.sessions for key [0-9a-f-]{36} is damaged: a change does not fit the entry that it changes/, 'the engine does not run on damaged state');
query("TRUNCATE $log; INSERT INTO $log SELECT * FROM kept");
query("CALL clickstream.process('web')");
is(query($sessions), join("\n", 'visitor 1|5|4', map { "visitor $_|4|4" } 2 .. 6), 'and goes on when it is whole again');

# So does a worker, whose state is shared with readers, where rows lie in another order.
query(moved($second));
query("SELECT clickstream.start('web')");
$node->poll_query_until('postgres', "SELECT state = 'running' FROM clickstream.stat_stream") or die 'the worker does not run';
is(query($sessions), join("\n", 'visitor 1|5|4', map { "visitor $_|4|4" } 2 .. 6), 'a worker starts where rows lie in another order');
query("SELECT clickstream.stop('web')");
$node->poll_query_until('postgres', 'SELECT count(pid) = 0 FROM clickstream.stat_stream') or die 'the worker does not stop';
commit(5);
is(query($sessions), join("\n", 'visitor 1|6|5', map { "visitor $_|5|5" } 2 .. 6), 'and goes on');

# ---- an entry that changes over the size to which entries are one piece of memory, 8,192 bytes, and back

query(<<~'END');
	SELECT clickstream.create_stream('long', idle_timeout => '1 hour');
	SELECT clickstream.create_session('long_sessions', stream => 'long', gap => '30 minutes',
		measures => 'count(*) AS event_count, max(page_title) AS title, last(page_url) AS exit');
	END

# One commit: an event of one visitor, who has a title of 7,850 characters from the first one on.
sub grow
{
	my ($n, $length) = @_;
	query(<<~END);
		SELECT clickstream.produce('long', json_build_object('user_id', 'one', 'event_type', 'view', 'page_title', repeat('a', ${\($n == 1 ? 7850 : 1)}),
			'event_time', '2025-03-01 12:00:00+00'::timestamptz + $n * interval '10 s', 'page_url', repeat('/', $length))::text)
		END
	query("CALL clickstream.process('long')");
}

my @exits = (100, 110, 600, 700, 120, 800, 90);
grow($_, $exits[ $_ - 1 ]) for 1 .. @exits;
my ($long_log) = split ' ', query(q(SELECT array_to_string(log_relations, ' ') FROM clickstream.stream WHERE name = 'long'));
my @long = log_records($node, $long_log);
is(join(' ', map { $_->{kind} } @long), 'image' . ' delta' x 6, 'a long session is written whole once');
my @lengths = map { parse_delta($_->{body})->{length} } @long[ 1 .. 6 ];
is(join('', map { $_ > 8192 ? 'l' : 's' } @lengths), 'sllsls', "it grows over the limit and comes back: @lengths");
$node->stop;
done_testing();
