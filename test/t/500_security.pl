# Kafka as it is secured: SASL and TLS against a real server, secrets in files.
# What is wrong with a password or a certificate is said in words, and mended
# without a start(); files that change while a stream runs are taken over and no
# message is lost or doubled; and no secret is in a log, a view, an error, a dump.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use ClickstreamTest;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $certificates = "$directory/certificates";
my $secrets = "$directory/secrets";
my $errors = '';    # everything that psql said
my $sent = 0;       # messages in topic web

mkdir $certificates or die $!;
mkdir $secrets, 0700 or die $!;

# ---- certificates

sub openssl { system_or_bail('sh', '-c', 'exec openssl "$@" >/dev/null 2>&1', 'sh', @_) }

sub authority
{
	my ($name) = @_;
	openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$certificates/$name.key", '-out',
		"$certificates/$name.pem", '-subj', "/CN=$name", '-days', 30);
}

# By an authority, for a name ("IP:..." or "DNS:..."), for so many days.
sub certificate
{
	my ($name, $authority, $for, $days) = @_;
	my $file = "$certificates/$name";

	append_to_file("$file.ext", "subjectAltName=$for\n");
	openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$file.key", '-out', "$file.csr", '-subj', "/CN=$name");
	openssl('x509', '-req', '-in', "$file.csr", '-CA', "$certificates/$authority.pem", '-CAkey',
		"$certificates/$authority.key", '-CAcreateserial', '-out', "$file.pem", '-days', $days, '-extfile', "$file.ext");
	append_to_file("$file.store", slurp_file("$file.key") . slurp_file("$file.pem"));
}

authority($_) for qw(ours foreign);
certificate('broker', 'ours', 'IP:127.0.0.1', 30);
certificate('elsewhere', 'ours', 'DNS:elsewhere.example', 30);
certificate('client', 'ours', 'DNS:client', 30);
certificate('another', 'ours', 'DNS:client', 30);
certificate('stranger', 'foreign', 'DNS:client', 30);
certificate('expired', 'ours', 'DNS:client', -1);

# ---- secrets

# A secret comes into the world whole, as whoever rotates one should see to.
sub secret
{
	my ($name, $content, $mode) = @_;

	append_to_file("$secrets/.new", $content);
	chmod $mode // 0600, "$secrets/.new" or die $!;
	rename "$secrets/.new", "$secrets/$name" or die $!;
}

# Certificate and key of a stream's own, so that each can be mended by itself.
sub pair
{
	my ($name, $which) = @_;
	secret("$name.key", slurp_file("$certificates/$which.key"));
	secret("$name.pem", slurp_file("$certificates/$which.pem"));
}

sub ca { secret("$_[0].ca", slurp_file("$certificates/$_[1].pem"), 0644) }

my %password = (paula => 'Pwd-plain-71c', sam => 'Pwd-scram-5e2', rita => 'Pwd-first-e90', new => 'Pwd-second-a13');
my $wrong = 'Pwd-wrong-0b4';

# ---- broker and server

my $plain = 'org.apache.kafka.common.security.plain.PlainLoginModule required';
my $scram = 'org.apache.kafka.common.security.scram.ScramLoginModule required;';
my $kafka = start_kafka(
	web => 2, results => 2,
	'--listeners' => { SASL => 'SASL_PLAINTEXT', SASLTLS => 'SASL_SSL', TLS => 'SSL', ELSEWHERE => 'SSL', SHORT => 'SASL_PLAINTEXT' },
	'--format' => join(' ',
		map { my $user = $_; map { "--add-scram $_=[name=$user,password=$password{$user}]" } 'SCRAM-SHA-256', 'SCRAM-SHA-512' } qw(sam rita)),
	'--properties' => [
		'sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
		(map { my $at = $_;
			("listener.name.$at.plain.sasl.jaas.config=$plain user_paula=\"$password{paula}\";",
			 map { "listener.name.$at.$_.sasl.jaas.config=$scram" } 'scram-sha-256', 'scram-sha-512') } qw(sasl sasltls short)),
		'listener.name.short.connections.max.reauth.ms=1000',
		'ssl.keystore.type=PEM', "ssl.keystore.location=$certificates/broker.store",
		'ssl.truststore.type=PEM', "ssl.truststore.location=$certificates/ours.pem",
		'listener.name.tls.ssl.client.auth=required',
		"listener.name.elsewhere.ssl.keystore.location=$certificates/elsewhere.store",
		'authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer',
		'allow.everyone.if.no.acl.found=true', 'super.users=User:ANONYMOUS',
	]);
my $node = new_node('main',
	"clickstream.commit_interval = '50ms'",
	"clickstream.restart_delay = '50ms'",
	"clickstream.metadata_refresh_interval = '200ms'",
	'clickstream.max_workers = 16', 'max_worker_processes = 30',
	"clickstream.secrets_directory = '$secrets'",
	'log_min_messages = debug1', 'log_statement = all');

sub query { return $node->safe_psql('postgres', $_[0]) }

sub sasl
{
	my ($protocol, $mechanism, $user, $secret, @more) = @_;
	return join ', ', "\"security.protocol\": \"$protocol\"", "\"sasl.mechanism\": \"$mechanism\"", "\"sasl.username\": \"$user\"",
		"\"sasl.password\": {\"secret\": \"$secret\"}", @more;
}

sub tls
{
	my ($name, @pair) = @_;
	return join ', ', '"security.protocol": "SSL"', "\"ssl.ca.pem\": {\"secret\": \"$name.ca\"}",
		map { "\"$_->[0]\": {\"secret\": \"$name.$_->[1]\"}" } @pair ? (['ssl.certificate.pem', 'pem'], ['ssl.key.pem', 'key']) : ();
}

sub create_call
{
	my ($stream, $listener, $options, $check) = @_;
	my $address = $kafka->address($listener);
	return "SELECT clickstream.create_stream('$stream', brokers => '$address', topic => 'web', start_from => 'earliest',"
		. " options => '{$options}', check_broker => $check)";
}

# A stream that counts, started.
sub make_stream
{
	my ($stream, $listener, $options) = @_;

	query(create_call($stream, $listener, $options, 'false'));
	query(<<~END);
		SELECT clickstream.create_window('${stream}_hours', stream => '$stream', size => '1 hour', measures => 'count(*) AS n');
		SELECT clickstream.start('$stream');
		END
}

# The call is refused with this error, and nothing is made.
sub is_refused
{
	my ($listener, $options, $error, $name) = @_;
	my (undef, undef, $err) = $node->psql('postgres', create_call('refused', $listener, $options, 'true'));

	$errors .= $err;
	like($err, $error, $name);
	is(query("SELECT count(*) FROM clickstream.stream WHERE name = 'refused'"), '0', "$name: nothing was made");
}

# Its words, wherever they stand: an answer to a question has the topic's name before them, one to a fetch has not.
sub has_problem
{
	my ($stream, $words, $name) = @_;

	wait_until($node, "SELECT strpos(problem, \$\$$words\$\$) > 0 AND state = 'waiting for broker' FROM clickstream.stat_stream WHERE stream = '$stream'");
	pass("$name: $words");
	$errors .= query("SELECT problem FROM clickstream.stat_stream WHERE stream = '$stream'");
}

# Waits for a line of the server's log.
sub logged
{
	my ($line, $name) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if slurp_file($node->logfile) =~ $line;
		Time::HiRes::usleep(100_000);
	}
	like(slurp_file($node->logfile), $line, $name);
}

sub send_lines
{
	my ($n) = @_;
	produce($kafka, 'web', [ map { qq(k$_\t{"event_type": "page_view", "user_id": "u", "event_time": "2025-06-01T12:00:00Z"}) } 1 .. $n ]);
	$sent += $n;
}

# Everything that is in the topic has been counted, once.
sub is_counted
{
	my ($stream, $name) = @_;

	wait_for($node, $stream);
	is(query("SELECT sum(consumed), bool_and(balanced) FROM clickstream.audit('$stream')"), "$sent|t", "$name: each message was counted once");
}

# A sink of a stream's rows, over the stream's own way to the broker.
sub make_sink { query("SELECT clickstream.create_sink('$_[0]', '$_[0]_hours', 'results', backfill => true, check_broker => false)") }

sub sink_has_problem
{
	my ($sink, $words, $name) = @_;

	wait_until($node, "SELECT starts_with(problem, \$\$$words\$\$) FROM clickstream.stat_sink WHERE sink = '$sink'");
	pass("$name: the sink says $words");
	$errors .= query("SELECT problem FROM clickstream.stat_sink WHERE sink = '$sink'");
}

# In the topic is each row of a sink, once.
sub is_in_topic
{
	my ($sink) = @_;
	my $id = query("SELECT producer_id FROM clickstream.sink WHERE name = '$sink'");
	my ($out, $err);

	query("SELECT clickstream.stop_sink('$sink')");
	wait_until($node, "SELECT pid IS NULL FROM clickstream.stat_sink WHERE sink = '$sink'");
	IPC::Run::run([ 'kcat', '-C', '-q', '-e', '-b', $kafka->address, '-t', 'results', '-o', 'beginning', '-X', 'isolation.level=read_committed',
		'-f', '%h\n' ], '<', '/dev/null', '>', \$out, '2>', \$err) or die "kcat: $err";
	my %times;
	$times{$1}++ while $out =~ m{clickstream\.id=$id/(\d+)$}gm;
	is(join(',', map { "$_:$times{$_}" } sort { $a <=> $b } keys %times),
		query("SELECT string_agg(i || ':1', ',' ORDER BY i) FROM clickstream.stat_sink, generate_series(1, sent) AS i WHERE sink = '$sink'"), "$sink: each row is in the topic once");
}

sub is_sent
{
	my ($sink, $name) = @_;

	wait_until($node, "SELECT state = 'running' AND waiting = 0 AND sent > 0 FROM clickstream.stat_sink WHERE sink = '$sink'");
	pass("$name: rows are sent");
}

# ---- secrets that are none

my $simple = sasl('SASL_PLAINTEXT', 'PLAIN', 'paula', 'paula');

is_refused('SASL', $simple, qr/could not read secret "paula" of option "sasl\.password": No such file.*HINT:/s, 'a secret that is not there');
secret('paula', $password{paula}, 0644);
is_refused('SASL', $simple, qr/secret "paula" of option "sasl\.password" is refused: others may read or write it.*0600/s, 'a secret that all may read');
secret('paula', '');
is_refused('SASL', $simple, qr/secret "paula" .* is refused: it is empty/, 'an empty one');
secret('paula', "$password{paula}\0");
is_refused('SASL', $simple, qr/secret "paula" .* is refused: it is too long, or holds a zero byte/, 'one with a zero byte');
secret('paula', "$password{paula}\n");
mkdir "$secrets/folder" or die $!;
is_refused('SASL', sasl('SASL_PLAINTEXT', 'PLAIN', 'paula', 'folder'), qr/secret "folder" .* is refused: it is not a regular file/, 'a directory');
is_refused('SASL', '"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "paula"',
	qr/option "sasl\.password" is missing/, 'no password');
is_refused('SASL', '"security.protocol": "SSL", "sasl.mechanism": "PLAIN"', qr/option "sasl\.mechanism" has no effect without SASL/,
	'SASL without SASL');
is_refused('SASL', '"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER"',
	qr/"OAUTHBEARER" is not supported by this librdkafka.*libcurl|option "sasl\.oauthbearer\.client\.id" is missing/s, 'tokens');
secret('wrong', $wrong);
is_refused('SASL', sasl('SASL_PLAINTEXT', 'PLAIN', 'paula', 'wrong'),
	qr/could not reach the broker/, 'a wrong password');

# ---- each way in

ca('tls', 'ours');
pair('tls', 'client');
secret('sam', $password{sam});
make_stream('plain', 'SASL', $simple);
make_stream('scram_256', 'SASLTLS', sasl('SASL_SSL', 'SCRAM-SHA-256', 'sam', 'sam', '"ssl.ca.pem": {"secret": "tls.ca"}'));
make_stream('scram_512', 'SASL', sasl('SASL_PLAINTEXT', 'SCRAM-SHA-512', 'sam', 'sam'));
make_stream('scram_file', 'SASLTLS', sasl('SASL_SSL', 'SCRAM-SHA-512', 'sam', 'sam', "\"ssl.ca.location\": \"$certificates/ours.pem\""));
make_stream('tls', 'TLS', tls('tls', 'with a certificate'));
send_lines(20);
is_counted('plain', 'SASL PLAIN');
is_counted('scram_256', 'SCRAM-SHA-256 over TLS');
is_counted('scram_512', 'SCRAM-SHA-512');
is_counted('scram_file', 'an authority in a file of the server');
is_counted('tls', 'a client certificate');

make_sink($_) for qw(tls scram_256);
is_sent('tls', 'a client certificate');
is_sent('scram_256', 'SCRAM-SHA-256 over TLS');

# ---- what is wrong is said, and mended without a start()

ca($_, 'ours') for qw(naked expired stranger name);
ca('foreign', 'foreign');
pair('expired', 'expired');
pair('stranger', 'stranger');
secret('late', $wrong);
make_stream('late', 'SASL', sasl('SASL_PLAINTEXT', 'SCRAM-SHA-256', 'sam', 'late'));
make_stream('foreign', 'SASLTLS', sasl('SASL_SSL', 'PLAIN', 'paula', 'paula', '"ssl.ca.pem": {"secret": "foreign.ca"}'));
make_stream('expired', 'TLS', tls('expired', 'with'));
make_stream('stranger', 'TLS', tls('stranger', 'with'));
make_stream('naked', 'TLS', tls('naked'));
make_stream('name', 'ELSEWHERE', tls('name'));
make_stream('protocol', 'TLS', '"security.protocol": "PLAINTEXT"');

make_sink('late');
has_problem('late', 'the broker refuses the user', 'a wrong password');
sink_has_problem('late', 'the broker refuses the user', 'a wrong password');
has_problem('foreign', q(the broker's certificate is not trusted), 'another authority than that of the broker');
has_problem('name', q(the broker's certificate is not trusted), 'a certificate for another host');
has_problem('expired', 'the broker refuses the client certificate', 'an expired certificate');
has_problem('stranger', 'the broker refuses the client certificate', 'a certificate by another authority');
has_problem('naked', 'the broker wants a client certificate', 'no certificate');
has_problem('protocol', 'security.protocol does not fit this port', 'another protocol');

secret('late', $password{sam});
ca('foreign', 'ours');
pair('expired', 'client');
pair('stranger', 'client');
is_counted('late', 'the right password in its place');
is_sent('late', 'the right password in its place');
is_counted('foreign', 'the right authority in its place');
is_counted('expired', 'a valid certificate in its place');
is_counted('stranger', 'a known certificate in its place');
query("SELECT clickstream.drop_stream(name) FROM unnest('{late,foreign,expired,stranger,naked,name,protocol,scram_file,scram_512}'::text[]) AS name");

# A file that goes while the stream stands does not end it either.
query("SELECT clickstream.stop('plain')");
wait_until($node, "SELECT state = 'stopped' FROM clickstream.stat_stream WHERE stream = 'plain'");
rename "$secrets/paula", "$secrets/away" or die $!;
query("SELECT clickstream.start('plain')");
wait_until($node, "SELECT state = 'backing off' AND last_error LIKE 'could not read secret \"paula\"%' FROM clickstream.stat_stream WHERE stream = 'plain'");
pass('a secret that is gone: the stream waits for it');
send_lines(5);
rename "$secrets/away", "$secrets/paula" or die $!;
is_counted('plain', 'and goes on when it is there');

# ---- files that change while a stream runs

send_lines(50);
pair('tls', 'another');
logged(qr/stream "tls" connects anew: a file that its options name has changed/, 'another certificate is taken over');
send_lines(50);
is_counted('tls', 'a certificate changed on the way');

chmod 0644, "$secrets/sam" or die $!;
logged(qr/WARNING:  the changed file of option "sasl\.password" of stream "scram_256" is not used: others may read or write it/,
	'a file that became readable is not taken over');
send_lines(10);
wait_until($node, "SELECT sum(consumed) = $sent FROM clickstream.audit('scram_256')");
pass('and does not cost the connection');
chmod 0600, "$secrets/sam" or die $!;
is_counted('scram_256', 'nor does its return');

# Half a certificate, then a key that is not its own: nothing that a client could be made with.
secret('tls.pem', substr(slurp_file("$certificates/client.pem"), 0, 300));
logged(qr/WARNING:  a changed file of stream "tls" is not used: could not make a Kafka client/, 'half a file is not taken over');
send_lines(10);
wait_until($node, "SELECT sum(consumed) = $sent FROM clickstream.audit('tls')");
pass('and does not cost the connection');
secret('tls.pem', slurp_file("$certificates/client.pem"));
logged(qr/(?s:(?:not used: could not make a Kafka client.*){2})/, 'nor a certificate without its key');
send_lines(10);
wait_until($node, "SELECT sum(consumed) = $sent FROM clickstream.audit('tls')");
pass('which does not cost it either');
secret('tls.key', slurp_file("$certificates/client.key"));
logged(qr/(?s:stream "tls" connects anew.*not used.*stream "tls" connects anew)/, 'both together are');
send_lines(10);
is_counted('tls', 'and nothing was lost on the way');

# ---- a password that changes at the broker, rights that are taken away

secret('rita', $password{rita});
make_stream('rita', 'SHORT', sasl('SASL_PLAINTEXT', 'SCRAM-SHA-512', 'rita', 'rita'));
is_counted('rita', 'before the password changes');
$kafka->tool('kafka.admin.ConfigCommand', '--alter', '--entity-type', 'users', '--entity-name', 'rita',
	'--add-config', "SCRAM-SHA-512=[password=$password{new}]");
send_lines(30);
has_problem('rita', 'the broker refuses the user', 'the password was changed at the broker');
secret('rita', $password{new});
is_counted('rita', 'the new one in its file');
make_sink('rita');
my @may_not = ('--allow-principal', 'User:*', '--deny-principal', 'User:rita', '--operation', 'Read', '--operation', 'Write', '--topic', 'results');
$kafka->tool('kafka.admin.AclCommand', '--add', @may_not);
send_lines(30);
sink_has_problem('rita', 'the user may not write to the topic', 'the right to write was taken away');
$kafka->tool('kafka.admin.AclCommand', '--remove', '--force', @may_not);
is_sent('rita', 'and given back');
$kafka->tool('kafka.admin.AclCommand', '--add', '--deny-principal', 'User:rita', '--operation', 'Read', '--topic', 'web');
has_problem('rita', 'the user may not read the topic', 'the right to read was taken away');
send_lines(30);
$kafka->tool('kafka.admin.AclCommand', '--remove', '--force', '--deny-principal', 'User:rita', '--operation', 'Read', '--topic', 'web');
is_counted('rita', 'and given back');

is_in_topic($_) for qw(tls scram_256 rita);

# ---- no secret anywhere

my $rows = '';

for my $relation (split /\n/, query(<<~'END'))
	SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'clickstream'::regnamespace AND c.relkind IN ('r', 'v')
	END
{
	my (undef, $out) = $node->psql('postgres', "SELECT v::text FROM $relation v");
	$rows .= $out;
}
$node->command_ok([ 'pg_dump', '-f', "$directory/dump.sql", '-d', $node->connstr('postgres') ], 'a dump');
my %place = (log => slurp_file($node->logfile), rows => $rows, errors => $errors, dump => slurp_file("$directory/dump.sql"));
for my $place (sort keys %place)
{
	my @found = grep { index($place{$place}, $_) >= 0 } values %password, $wrong, (split /\n/, slurp_file("$certificates/client.key"))[ 1 .. 3 ];

	cmp_ok(length $place{$place}, '>', 1000, "$place: something to look through");
	is(scalar @found, 0, "$place: no secret is in it");
}
like($place{dump}, qr/"secret": "rita"/, 'the dump has its name');

$node->stop;
done_testing();
