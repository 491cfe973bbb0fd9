# OAUTHBEARER, with a librdkafka that has it, which Debian 12's has not: tokens
# from an endpoint, which a client gets for its id and secret; what is wrong is
# said and mended without a start(); and the secret is nowhere to be read.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use ClickstreamTest;

my $secrets = PostgreSQL::Test::Utils::tempdir() . '/secrets';
my %secret = (first => 'Sec-first-3b1', second => 'Sec-second-9d7', wrong => 'Sec-wrong-11f');
my $module = 'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";';
my $tokens = start_tokens();
my $kafka = start_kafka(
	web => 2,
	'--listeners' => { OAUTH => 'SASL_PLAINTEXT' },
	'--properties' => [ 'sasl.enabled.mechanisms=OAUTHBEARER', "listener.name.oauth.oauthbearer.sasl.jaas.config=$module" ]);
my $sent = 0;

mkdir $secrets, 0700 or die $!;

# The server alone gets the other library.
my $library = "$ENV{CLICKSTREAM_KAFKA_LIBS}/client";
-f "$library/librdkafka.so.1" or die "there is no $library/librdkafka.so.1";
my $node;
{
	local $ENV{LD_LIBRARY_PATH} = $library;
	$node = new_node('main', "clickstream.commit_interval = '50ms'", "clickstream.restart_delay = '50ms'",
		"clickstream.secrets_directory = '$secrets'", 'log_min_messages = debug1', 'log_statement = all');
}

sub query { return $node->safe_psql('postgres', $_[0]) }

sub keep_secret
{
	my ($content) = @_;

	append_to_file("$secrets/.new", $content);
	chmod 0600, "$secrets/.new" or die $!;
	rename "$secrets/.new", "$secrets/oauth" or die $!;
}

sub is_counted
{
	my ($name) = @_;

	$sent += produce($kafka, 'web', [ map { qq(k\t{"event_type": "page_view", "user_id": "u$_", "event_time": "2025-06-01T12:00:00Z"}) } 1 .. 5 ]);
	wait_for($node, 'web');
	is(query("SELECT sum(consumed), bool_and(balanced) FROM clickstream.audit('web')"), "$sent|t", $name);
}

sub given { return (split / /, ($tokens->command('count'))[0])[0] }

my $address = $kafka->address('OAUTH');
my $endpoint = 'http://' . $tokens->address . '/token';
my $create = <<~END;
	SELECT clickstream.create_stream('web', brokers => '$address', topic => 'web', start_from => 'earliest', options => '{
		"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER",
		"sasl.oauthbearer.client.id": "reader", "sasl.oauthbearer.client.secret": {"secret": "oauth"},
		"sasl.oauthbearer.token.endpoint.url": "$endpoint"}')
	END

$tokens->command("client reader $secret{first}");
keep_secret($secret{wrong});
my (undef, undef, $error) = $node->psql('postgres', $create);
like($error, qr/could not reach the broker.*no token from sasl\.oauthbearer\.token\.endpoint\.url/s, 'a wrong secret is refused, and why');
unlike($error, qr/Sec-/, 'the error does not say it');

keep_secret($secret{first});
query($create);
query(<<~'END');
	SELECT clickstream.create_window('hours', stream => 'web', size => '1 hour', measures => 'count(*) AS n');
	SELECT clickstream.start('web');
	END
is_counted('the right one is taken');

# Once more with short-lived tokens: the client asks for the next one before the last has expired.
$tokens->command('lifetime 6');
query("SELECT clickstream.stop('web')");
is_soon($node, 'SELECT state FROM clickstream.stat_stream', 'stopped', 'stopped');
query("SELECT clickstream.start('web')");
is_counted('with tokens that live for six seconds');
my $given = given();
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if given() >= $given + 3;
	select undef, undef, undef, 0.1;
}
cmp_ok(given(), '>=', $given + 3, 'more of them are fetched');
is_counted('and the stream goes on');

# The secret changes at the provider, then here.
$tokens->command("client reader $secret{second}");
is_soon($node, "SELECT problem LIKE '%token%sasl.oauthbearer.token.endpoint.url%' FROM clickstream.stat_stream", 't', 'a secret that counts no more: the reason is said');
keep_secret($secret{second});
is_counted('the new one in its file: it goes on by itself');
is_soon($node, 'SELECT state, problem IS NULL FROM clickstream.stat_stream', 'running|t', 'and nothing is wrong');

$node->stop;
unlike(slurp_file($node->logfile), qr/Sec-/, 'no secret is in the log');
done_testing();
