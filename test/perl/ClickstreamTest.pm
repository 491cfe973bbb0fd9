# ClickstreamTest: what the TAP tests share.
#
#   use ClickstreamTest;
#   my $seed = seed_of(123);                        # if anything in it is random
#   my $node = new_node('main', 'clickstream.commit_interval = 100ms');
#   my $broker = start_broker(web => 4);            # embedded; or start_kafka()
#   produce($broker, 'web', ["visitor\t{...}"]);
#   wait_for($node, 'web');
#   is(digest($node, 'user_sessions'), ...);
#
# Brokers are objects with address() and stop().  Whatever a test started is
# stopped when it ends, also when it dies.  Nothing here sleeps for the sake of
# a result: it waits for a thing to become true, and dies when it does not.
package ClickstreamTest;

use strict;
use warnings;

use Exporter 'import';
use File::Basename qw(dirname);
use File::Spec;
use IO::Uncompress::Gunzip qw($GunzipError);
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

our @EXPORT = qw(seed_of new_node start_broker start_kafka start_proxy start_tokens produce ask wait_for wait_until worker_of background is_soon alone digest
	read_csv);

our $top = dirname(dirname(dirname(File::Spec->rel2abs(__FILE__))));

my @running;

# What is random in a test follows from its seed, Perl's own numbers too.  It is
# always the same, so that what passes once passes again, unless CLICKSTREAM_SEED
# names another: "make random" does that for every test that calls this.
sub seed_of
{
	my ($usual) = @_;
	my $seed = $ENV{CLICKSTREAM_SEED} // $usual;

	note "CLICKSTREAM_SEED=$seed";
	srand $seed;
	return $seed;
}

# A server with clickstream preloaded and made in database postgres.  Further
# arguments are lines for postgresql.conf.
sub new_node
{
	my ($name, @lines) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	push @lines, "clickstream.force_decode_workers = $ENV{CLICKSTREAM_DECODE_WORKERS}", 'max_worker_processes = 64'
	  if $ENV{CLICKSTREAM_DECODE_WORKERS};

	$node->init;
	$node->append_conf('postgresql.conf', join("\n", <<~'END', @lines, ''));
		shared_preload_libraries = 'clickstream'
		max_worker_processes = 16
		log_min_messages = info
		END
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION clickstream');
	return $node;
}

# The embedded broker with topics (name => partitions, ...); '--brokers' => N: as a cluster of N.
sub start_broker
{
	my $broker = ClickstreamTest::Broker->new(@_);
	push @running, $broker;
	return $broker;
}

# A real Kafka server with topics (name => partitions, ...).  '--listeners' => {NAME => PROTOCOL, ...}: these as well;
# '--properties' => [lines of its configuration]; '--format' => options of the tool that formats its disk.
sub start_kafka
{
	my (%topics) = @_;
	my %options = map { $_ => delete $topics{"--$_"} } qw(listeners properties format);
	my $kafka = ClickstreamTest::Kafka->new(%options);

	push @running, $kafka;
	$kafka->start;
	$kafka->create_topic($_, $topics{$_}) for sort keys %topics;
	return $kafka;
}

# A script of test/kafka that prints its port and obeys commands.
sub start_servant
{
	my ($script) = @_;
	my $servant = ClickstreamTest::Servant->new($script);

	push @running, $servant;
	return $servant;
}

# A proxy that behaves like a bad network when told so; proxy.pl describes its commands.
sub start_proxy { return start_servant('proxy.pl') }

# A token endpoint for OAUTHBEARER; tokens.pl describes its commands.
sub start_tokens { return start_servant('tokens.pl') }

# Sends lines, each KEY<TAB>PAYLOAD, in this order.  Without an option the
# key decides the partition.  Options: partition => N; kcat => [more arguments].
sub produce
{
	my ($broker, $topic, $lines, %option) = @_;
	my $address = ref $broker ? $broker->address : $broker;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/lines';

	open my $out, '>:raw', $file or die "could not write $file: $!";
	print $out map { "$_\n" } @$lines;
	close $out or die "could not write $file: $!";

	my @command = ('kcat', '-P', '-b', $address, '-t', $topic, '-K', "\t", '-q');
	push @command, '-p', $option{partition} if defined $option{partition};
	push @command, @{ $option{kcat} // [] };
	system_or_bail('sh', '-c', 'file=$1; shift; exec "$@" <"$file"', 'sh', $file, @command);
	unlink $file;
	return scalar @$lines;
}

# Waits until everything that is in the topic now has been committed.
sub wait_for
{
	my ($node, $stream, $database, $timeout) = @_;
	$database //= 'postgres';
	$timeout //= "$PostgreSQL::Test::Utils::timeout_default seconds";

	my ($code, $out, $err) =
	  $node->psql($database, "CALL clickstream.wait_for('$stream', '$timeout')");
	return if $code == 0;
	for my $view (qw(stat_stream stat_partition))
	{
		my (undef, $rows) = $node->psql($database, "SELECT row_to_json(v) FROM clickstream.$view v");
		diag("$view: $rows");
	}
	die "wait_for('$stream') failed: $err";
}

# Asks a server that may be down: (psql's exit code, its output).  A psql that
# is turned away ends before it has read the query, and whoever was writing that
# dies of the broken pipe: no answer, like any other.
sub ask
{
	my ($node, $sql, $database) = @_;
	my ($code, $out) = eval { $node->psql($database // 'postgres', $sql) };
	return ($code // -1, $out);
}

# Waits until the query says true, also through a crash of the server.
sub wait_until
{
	my ($node, $query, $database) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($code, $out) = ask($node, $query, $database);
		return if $code == 0 && $out eq 't';
		sleep 0.1;
	}
	die "this did not become true: $query";
}

# The process that runs a stream, when there is one.
sub worker_of
{
	my ($node, $stream) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($code, $out) = ask($node, "SELECT pid FROM clickstream.stat_stream WHERE stream = '$stream' AND state = 'running'");
		return $out if $code == 0 && $out =~ /^\d+$/;
		sleep 0.1;
	}
	die "no worker runs $stream";
}

# A psql that stays.  Each of its queries may take as long as anything else does here, not all of them together.
sub background
{
	my ($node, %option) = @_;
	my $psql = $node->background_psql('postgres', %option);

	$psql->set_query_timer_restart;
	return $psql;
}

# Is it so, or will it be?  What a stream is doing is shown a moment after what it has done.
sub is_soon
{
	my ($node, $query, $expected, $name, $database) = @_;
	my ($code, $out);

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		($code, $out) = ask($node, $query, $database);
		last if $code == 0 && $out eq $expected;
		sleep 0.1;
	}
	return is($out, $expected, $name);
}

# Runs what PostgreSQL does only while nobody else is connected to a database.
# It waits five seconds for the session of the last query, which a busy machine
# may not have ended by then; workers have got out of the way.
sub alone
{
	my ($node, $sql) = @_;
	my ($code, $out, $err);

	for (1 .. $PostgreSQL::Test::Utils::timeout_default / 5)
	{
		($code, $out, $err) = $node->psql('postgres', $sql);
		last if $code == 0 || $err !~ /is being accessed by other users/;
	}
	die "$sql: $err" if $code != 0;
	return;
}

# A table's rows as "count md5": equal for equal content, whatever the order.
# What comes second names the columns (all).
sub digest
{
	my ($node, $table, $columns) = @_;
	$columns //= '*';
	return $node->safe_psql('postgres', <<~END);
		SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE "C")), '-')
		FROM (SELECT $columns FROM $table) t
		END
}

# Rows of a gzipped CSV file with a header, as hashes of strings.
sub read_csv
{
	my ($file) = @_;
	my ($text, @rows, @row);

	IO::Uncompress::Gunzip::gunzip($file => \$text) or die "could not read $file: $GunzipError";
	utf8::decode($text);
	# A field, quoted (then it may hold anything, line ends too) or not, and
	# what ends it.
	while ($text =~ /\G(?:"((?:[^"]|"")*)"|([^,\r\n]*))(,|\r?\n|\z)/g)
	{
		my ($quoted, $plain, $end) = ($1, $2, $3);
		last if $end eq '' && !@row && !defined $quoted && $plain eq '';
		$quoted =~ s/""/"/g if defined $quoted;
		push @row, $quoted // $plain;
		next if $end eq ',';
		push @rows, [@row];
		@row = ();
	}
	my $header = shift @rows;
	return map { my %hash; @hash{@$header} = @$_; \%hash } @rows;
}

# Runs a script of test/kafka; returns what it printed.
sub kafka_script
{
	my ($script, @arguments) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ "$top/test/kafka/$script", @arguments ], '<', \undef, '>', \$out, '2>', \$err)
	  or die "test/kafka/$script @arguments failed: $err";
	chomp $out;
	return $out;
}

END
{
	my $code = $?;
	$_->stop for reverse @running;
	$? = $code;
}

# ---- a process that obeys commands, one a line, each answered by "ok"
package ClickstreamTest::Servant;

use IPC::Open2 qw(open2);

sub new
{
	my ($class, $script) = @_;
	my $self = bless {}, $class;

	$self->{pid} = open2($self->{out}, $self->{in}, "$ClickstreamTest::top/test/kafka/$script");
	chomp(my $port = readline $self->{out});
	$self->{address} = "127.0.0.1:$port";
	return $self;
}

sub address { return $_[0]{address} }

# Gives one command; returns the lines before its "ok".
sub command
{
	my ($self, $command) = @_;
	my @lines;

	print { $self->{in} } "$command\n";
	$self->{in}->flush;
	while (defined(my $line = readline $self->{out}))
	{
		chomp $line;
		return @lines if $line eq 'ok';
		die "$command: $line" if $line =~ /^error/;
		push @lines, $line;
	}
	die "$command: no answer";
}

sub stop
{
	my ($self, $signal) = @_;
	my $pid = delete $self->{pid} or return;

	kill $signal // 'TERM', $pid;
	waitpid $pid, 0;
}

# ---- the embedded broker: demo/broker.c, which describes its commands
package ClickstreamTest::Broker;

use IPC::Open2 qw(open2);
use Time::HiRes qw(usleep);
our @ISA = ('ClickstreamTest::Servant');

sub new
{
	my ($class, %topics) = @_;
	my $self = bless {}, $class;
	my $ready = PostgreSQL::Test::Utils::tempdir() . '/ready';
	my @brokers = map { defined $_ ? ('--brokers', $_) : () } delete $topics{'--brokers'};
	my @topics = map { ('--topic', "$_:$topics{$_}") } sort keys %topics;

	$self->{pid} = open2($self->{out}, $self->{in},
		"$ClickstreamTest::top/demo/bin/clickstream-broker",
		@topics, @brokers, '--ready-file', $ready, '--commands');
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if -s $ready;
		waitpid($self->{pid}, 1) == 0 or die 'the embedded broker ended';    # 1: WNOHANG
		usleep(100_000);
	}
	$self->{address} = PostgreSQL::Test::Utils::slurp_file($ready);
	$self->{address} =~ s/\s+//g;
	readline $self->{out};    # the address, once more
	return $self;
}

# ---- a real Kafka server
package ClickstreamTest::Kafka;

my $started = 0;

sub new
{
	my ($class, %options) = @_;
	my $directory = File::Spec->rel2abs("$PostgreSQL::Test::Utils::tmp_check/kafka" . ($started++ || ''));
	my $self = bless { directory => $directory }, $class;
	my $listeners = $options{listeners} // {};

	mkdir $directory or die "could not make $directory: $!";
	$self->keep('listeners', map { "$_ $listeners->{$_}" } sort keys %$listeners) if %$listeners;
	$self->keep('more.properties', @{ $options{properties} }) if $options{properties};
	$self->keep('format.options', $options{format}) if $options{format};
	return $self;
}

# Writes a file of start.sh's directory.
sub keep
{
	my ($self, $name, @lines) = @_;
	PostgreSQL::Test::Utils::append_to_file("$self->{directory}/$name", join('', map { "$_\n" } @lines));
}

# Starts it, again with the data and the addresses that it had.
sub start
{
	my ($self) = @_;
	$self->{address} = ClickstreamTest::kafka_script('start.sh', $self->{directory});
	return unless -f "$self->{directory}/addresses";
	for (split /\n/, PostgreSQL::Test::Utils::slurp_file("$self->{directory}/addresses"))
	{
		my ($name, $protocol, $address) = split;
		$self->{addresses}{$name} = $address;
	}
}

# Where clients reach it: without a name, in the clear.
sub address
{
	my ($self, $listener) = @_;
	return $listener ? $self->{addresses}{$listener} : $self->{address};
}

# Runs a tool of Kafka's by its class; returns what it printed.
sub tool
{
	my ($self, $class, @arguments) = @_;
	return ClickstreamTest::kafka_script('tool.sh', $class, '--bootstrap-server', $self->{address}, @arguments);
}

sub create_topic
{
	my ($self, $topic, $partitions, @settings) = @_;
	ClickstreamTest::kafka_script('topic.sh', 'create', $self->{address}, $topic, $partitions, @settings);
}

sub widen_topic
{
	my ($self, $topic, $partitions) = @_;
	ClickstreamTest::kafka_script('topic.sh', 'widen', $self->{address}, $topic, $partitions);
}

# Deletes what lies before an offset in a partition, as retention does.
sub trim_topic
{
	my ($self, $topic, $partition, $offset) = @_;
	ClickstreamTest::kafka_script('topic.sh', 'trim', $self->{address}, $topic, $partition, $offset);
}

sub delete_topic
{
	my ($self, $topic) = @_;
	ClickstreamTest::kafka_script('topic.sh', 'delete', $self->{address}, $topic);
}

# Stops it; stop('KILL') is a crash.
sub stop
{
	my ($self, @signal) = @_;
	ClickstreamTest::kafka_script('stop.sh', $self->{directory}, @signal);
}

1;
