# ClickstreamTwins: the same topic in two servers, one of which is left in
# peace while the other one is hurt.  After each fault both have the same
# tables, byte for byte, and each ledger is balanced.
#
#   my $twins = ClickstreamTwins->new($seed, 'clickstream.batch_messages = 100');
#   $twins->fault('mid_publication:kill:3');    # core/fault.h; set in the server that is hurt
#   $twins->feed(sub { $twins->fault_happened });
#   $twins->clear_fault;
#   $twins->are_same('killed in the middle of publication');
#   ...
#   $twins->finish;
#   $twins->stop;
#
# Events are made and produced slice by slice, so what differs after a fault
# is known by that fault's name.  The hurt server may be down at any moment:
# whoever asks it asks again.
package ClickstreamTwins;

use strict;
use warnings;

use ClickstreamSite;
use ClickstreamTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $slice = 400;
my $made_at_once = 20_000;

# Two servers and a stream in each.
sub new
{
	my ($class, $seed, @lines) = @_;
	my $self = $class->servers(@lines);

	$self->begin($seed, start_broker(web => 4));
	return $self;
}

# The servers alone, for several topics one after the other.
sub servers
{
	my ($class, @lines) = @_;
	my $self = bless { slice => $slice }, $class;

	$self->{calm} = new_node('calm', @lines);
	$self->{hurt} = new_node('hurt', @lines, 'restart_after_crash = on', "include_if_exists = 'fault.conf'");
	$self->restart_with_full_disk;
	return $self;
}

# A new topic and a stream over it in each of them.  With a second broker the
# servers read a broker each, with the same topic in it.
sub begin
{
	my ($self, $seed, $calm_broker, $hurt_broker) = @_;

	note "CLICKSTREAM_SEED=$seed";
	$self->{seed} = $seed;
	$self->{calm_broker} = $calm_broker;
	$self->{hurt_broker} = $hurt_broker // $calm_broker;
	$self->{produced} = $self->{rounds} = 0;
	$self->{events} = [];
	$self->{slice} = $slice;
	for my $name (qw(calm hurt))
	{
		create_site($self->{$name}, 'web', 't',
			"brokers => '" . $self->{"${name}_broker"}->address . "', topic => 'web', start_from => 'earliest'",
			within => '1 minute', rolling => '2 minutes', unruly => 1);
	}
	site_tables($self->{calm}, 't');    # remembers which columns there are, before any user adds one to the hurt server's
	$self->produce_slice;    # nobody waits for a partition that is empty, so what is late would be a matter of luck
	$_->safe_psql('postgres', "SELECT clickstream.start('web')") for $self->calm, $self->hurt;
}

sub calm { return $_[0]{calm} }
sub hurt { return $_[0]{hurt} }

# Asks the hurt server until it answers.
sub query
{
	my ($self, $sql) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($code, $out) = ask($self->hurt, $sql);
		return $out if $code == 0;
		sleep 0.1;
	}
	die "the server does not answer: $sql";
}

# Polls until it is true.
sub poll
{
	my ($self, $what, $is_true) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	while (time < $end)
	{
		return 1 if $is_true->();
		sleep 0.02;
	}
	my (undef, $stream) = ask($self->hurt, 'SELECT row_to_json(s) FROM clickstream.stat_stream s');
	diag $stream // "no answer";
	die "timed out waiting for $what";
}

# ---- injected faults

sub fault_file
{
	my ($self, $fault) = @_;
	my ($point) = split /:/, $fault;
	return $self->hurt->data_dir . "/clickstream_fault.$point";
}

sub configure
{
	my ($self, @lines) = @_;
	my $file = $self->hurt->data_dir . '/fault.conf';

	open my $out, '>', "$file.new" or die "could not write $file: $!";
	print $out map { "$_\n" } @lines;
	close $out or die "could not write $file: $!";
	rename "$file.new", $file or die "could not write $file: $!";
	kill 'HUP', $self->hurt->{_pid} if $self->hurt->{_pid};
}

# More lines are settings for as long.
sub fault
{
	my ($self, $fault, @lines) = @_;

	unlink $self->fault_file($fault);
	$self->{fault} = $fault;
	$self->configure("clickstream.fault = '$fault'", @lines);
}

sub clear_fault
{
	my ($self) = @_;
	$self->configure;
}

# Of a fault that was a pause, and has been cleared: whoever is held up goes on.
sub end_pause
{
	my ($self) = @_;
	unlink $self->fault_file($self->{fault});
}

sub fault_happened
{
	my ($self) = @_;
	return -e $self->fault_file($self->{fault});
}

# ---- a full disk (test/chaos/full_disk.c)

# The hurt server's disk can be filled from now on.
sub restart_with_full_disk
{
	my ($self) = @_;
	my $library = PostgreSQL::Test::Utils::tempdir() . '/full_disk.so';

	system_or_bail('cc', '-std=gnu11', '-O2', '-D_GNU_SOURCE', '-shared', '-fPIC', '-o', $library,
		"$ClickstreamTest::top/test/chaos/full_disk.c", '-ldl');
	$self->hurt->stop;
	$self->{environment} = { LD_PRELOAD => join(':', grep { $_ } $ENV{LD_PRELOAD}, $library), CLICKSTREAM_FULL_DISK => "$library.flag" };
	$self->start_hurt;
}

# Starts the hurt server; again, as long as what is left of the last one is in the way, or a full disk, on which no server can recover.
sub start_hurt
{
	my ($self) = @_;

	local %ENV = (%ENV, %{ $self->{environment} });
	$self->poll('the server', sub {
		$self->hurt->{_pid} = undef;
		return 1 if $self->hurt->start(fail_ok => 1);
		$self->empty_disk;
		return 0;
	});
}

# A server that came to recover while its disk was full has ended by itself.
sub revive_hurt
{
	my ($self) = @_;
	my $pid_file = $self->hurt->data_dir . '/postmaster.pid';

	$self->poll('the server', sub {
		return 1 if defined eval { $self->hurt->safe_psql('postgres', 'SELECT 1') };
		$self->start_hurt unless -e $pid_file;
		return 0;
	});
}

sub fill_disk
{
	my ($self) = @_;
	open my $flag, '>', $self->{environment}{CLICKSTREAM_FULL_DISK} or die "could not make the flag: $!";
	close $flag;
}

sub empty_disk
{
	my ($self) = @_;
	unlink $self->{environment}{CLICKSTREAM_FULL_DISK};
}

# ---- events

sub produce_slice
{
	my ($self) = @_;

	$self->{events} = site_events_from($self->{produced}, $made_at_once, $self->{seed}, unruly => 1) unless @{ $self->{events} };
	my $events = [ splice @{ $self->{events} }, 0, $self->{slice} ];
	produce_site($self->{calm_broker}, 'web', $events, by_key => 1);
	produce_site($self->{hurt_broker}, 'web', $events, by_key => 1) if $self->{hurt_broker} != $self->{calm_broker};
	$self->{produced} += @$events;
}

# And what that closes is closed.
sub all_is_read
{
	my ($self, $node) = @_;
	my ($code, $out) = ask($node, 'SELECT (SELECT sum(next_offset) FROM clickstream.partition), bool_and(closed = watermark) FROM clickstream.progress');
	return $code == 0 && $out eq "$self->{produced}|t";
}

# Slices until it is true, each read by the stream unless it becomes true before.
sub feed
{
	my ($self, $is_true) = @_;

	for (1 .. 200)
	{
		$self->produce_slice;
		$self->poll('the fault, or the end of the topic', sub { $is_true->() || $self->all_is_read($self->hurt) });
		return 1 if $is_true->();
	}
	return 0;
}

# ---- comparing

sub ledger
{
	my ($self, $node) = @_;
	return $node->safe_psql('postgres', "SELECT bool_and(balanced), sum(consumed), sum(used), sum(dead), sum(late), sum(duplicate) FROM clickstream.audit('web')");
}

# What its tables hold when it has read all.  A server that was killed answers,
# until it has noticed; so who is interrupted begins again.
sub outcome
{
	my ($self, $node, $name) = @_;
	my $outcome;

	$self->poll("the end of the topic after: $name", sub {
		return 0 unless $self->all_is_read($node);
		# What is not final yet may show as of an earlier batch.
		$outcome = eval { site_tables($node, 't', 'is_final') . "\n" . $self->ledger($node) };
		return defined $outcome;
	});
	return $outcome;
}

# Both read what is there; then they are the same.
sub are_same
{
	my ($self, $name) = @_;

	$self->{rounds}++;
	my @outcomes = map { $self->outcome($_, $name) } $self->hurt, $self->calm;
	return is($outcomes[0], $outcomes[1], $name);
}

sub finish
{
	my ($self) = @_;

	for my $node ($self->calm, $self->hurt)
	{
		wait_for($node, 'web');
		$node->safe_psql('postgres', "CALL clickstream.finish('web')");
	}
	$self->are_same("the end: $self->{produced} events, $self->{rounds} rounds");
	like($self->ledger($self->hurt), qr/^t\|$self->{produced}\|\d+\|\d+\|0\|[1-9]\d*$/, 'each of them counted once, copies as duplicates');
	# So that it is known to be there.
	for my $table (qw(slow_sessions slow_pages slow_funnel))
	{
		is($self->query("SELECT count(*) > 0 FROM t_$table WHERE revision > 0"), 't', "late events have changed rows of $table");
	}
	for my $table (qw(dead_letter late_event))
	{
		my @same = map {
			digest($_, "clickstream.$table", $table eq 'dead_letter' ? 'topic, partition, message_offset, cause, error, payload'
				: 'topic, partition, message_offset, event_time')
		} $self->hurt, $self->calm;
		is($same[0], $same[1], "and $table");
	}
}

sub stop
{
	my ($self) = @_;
	$_->stop for $self->calm, $self->hurt;
}

1;
