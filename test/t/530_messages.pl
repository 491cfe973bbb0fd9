# What only a broker can bring: headers, as a column and in dead letters, and
# messages framed for a schema registry, whose bytes are no text; and a stream
# of two partitions that stops at what it cannot use.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $node = new_node('main');
my $broker = start_broker(web => 1, stops => 2);
my $address = $broker->address;

sub query { return $node->safe_psql('postgres', $_[0]) }

# One message of any bytes: kcat reads a file as a message.
sub send_bytes
{
	my ($bytes, @options) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/message';

	append_to_file($file, $bytes);
	system_or_bail('kcat', '-P', '-b', $address, '-t', 'web', '-q', @options, $file);
	unlink $file;
}

sub event { return "{\"event_time\": \"2024-06-01T10:00:00Z\", \"page_url\": \"$_[0]\"}" }

send_bytes(event('/both'), '-H', 'tenant=acme', '-H', 'trace=7');
send_bytes(event('/none'));
send_bytes("no JSON", '-H', 'tenant=acme');
send_bytes("\0\0\0\1\2" . event('/framed'));
send_bytes("\0\0\0\1\3" . "\x0a/home\x02\x80\xff");
send_bytes("\0\0\0\1\4{\"event_time\"");
send_bytes("\0\0\0\1\5");
send_bytes("\0");
query(<<~END);
	SELECT clickstream.create_stream('web', brokers => '$address', topic => 'web', start_from => 'earliest');
	SELECT clickstream.create_window('tenants', stream => 'web', size => '1 day',
		group_by => \$\$message_headers->>'tenant' AS tenant, message_headers->>'trace' AS trace, page_url\$\$, measures => 'count(*) AS events');
	SELECT clickstream.create_event_log('log', stream => 'web');
	SELECT clickstream.start('web');
	END
wait_for($node, 'web');
is(query("SELECT page_url, tenant, trace, events FROM tenants ORDER BY 1"), "/both|acme|7|1\n/framed|||1\n/none|||1", 'headers are a column; JSON is read behind a frame');
is(query("SELECT page_url, message_headers FROM log ORDER BY message_offset"), "/both|{\"trace\": \"7\", \"tenant\": \"acme\"}\n/none|\n/framed|",
	'headers are in the event log');
is( query("SELECT message_offset, cause, headers, sqlstate FROM clickstream.dead_letter ORDER BY 1"),
	join("\n",
		'2|not JSON|{"tenant": "acme"}|22032', '4|framed for a schema registry||0A000', '5|framed for a schema registry||0A000',
		'6|framed for a schema registry||0A000', '7|not JSON||22032'),
	'what is framed and no JSON is a dead letter with that reason');
is(query("SELECT error FROM clickstream.dead_letter WHERE message_offset = 4"),
	'The message is framed for a schema registry (schema 259) and holds no JSON.', 'the schema is named');
query("SELECT * FROM clickstream.audit('web')");
query("SELECT clickstream.stop('web')");

# A stream that stops at what it cannot use has consumed what came before, and is led on by hand.
sub plain { return map { "k\t" . event("/$_") } 1 .. $_[0] }

produce($broker, 'stops', [ plain(700) ], partition => 1);
produce($broker, 'stops', [ plain(500), "k\tno JSON", plain(700) ], partition => 0);
query(<<~END);
	SELECT clickstream.create_stream('stops', brokers => '$address', topic => 'stops', start_from => 'earliest', on_error => 'stop');
	SELECT clickstream.create_window('days', stream => 'stops', size => '1 day', measures => 'count(*) AS events');
	SELECT clickstream.create_event_log('stops_log', stream => 'stops');
	SELECT clickstream.start('stops');
	END
wait_until($node, q(SELECT state = 'failed' FROM clickstream.stat_stream WHERE stream = 'stops'));
like(query(q(SELECT last_error FROM clickstream.stat_stream WHERE stream = 'stops')), qr{message stops/0/500 cannot be used}, 'it says where it stopped');
query(q(SELECT clickstream.skip_message('stops', 0, 500); SELECT clickstream.start('stops')));
wait_for($node, 'stops');
is(query(q(SELECT partition, consumed, used, dead, skipped, balanced FROM clickstream.audit('stops') ORDER BY 1)),
	"0|1201|1200|0|1|t\n1|700|700|0|0|t", 'all others are counted');
is(query('SELECT count(*), count(DISTINCT (partition, message_offset)) FROM stops_log'), '1900|1900', 'once each');
query("SELECT clickstream.stop('stops')");
$node->stop;
done_testing();
