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

sub new
{
	my ($class, $seed, @lines) = @_;
	my $self = bless { seed => $seed, produced => 0, events => [], rounds => 0 }, $class;

	note "CLICKSTREAM_SEED=$seed";
	$self->{broker} = start_broker(web => 4);
	$self->{calm} = new_node('calm', @lines);
	$self->{hurt} = new_node('hurt', @lines, 'restart_after_crash = on', "include_if_exists = 'fault.conf'");
	for my $node ($self->calm, $self->hurt)
	{
		create_site($node, 'web', 't', "brokers => '" . $self->{broker}->address . "', topic => 'web', start_from => 'earliest'",
			within => '1 minute', rolling => '2 minutes');
		$node->safe_psql('postgres', "SELECT clickstream.start('web')");
	}
	return $self;
}

sub calm { return $_[0]{calm} }
sub hurt { return $_[0]{hurt} }

# Asks the hurt server until it answers.
sub query
{
	my ($self, $sql) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($code, $out) = $self->hurt->psql('postgres', $sql);
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
	diag $self->query("SELECT row_to_json(s) FROM clickstream.stat_stream s");
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
	kill 'HUP', $self->hurt->{_pid};
}

sub fault
{
	my ($self, $fault) = @_;

	unlink $self->fault_file($fault);
	$self->{fault} = $fault;
	$self->configure("clickstream.fault = '$fault'");
}

sub clear_fault
{
	my ($self) = @_;
	$self->configure;
}

sub fault_happened
{
	my ($self) = @_;
	return -e $self->fault_file($self->{fault});
}

# ---- events

sub produce_slice
{
	my ($self) = @_;

	$self->{events} = site_events_from($self->{produced}, $made_at_once, $self->{seed}) unless @{ $self->{events} };
	produce_site($self->{broker}, 'web', [ splice @{ $self->{events} }, 0, $slice ], by_key => 1);
	$self->{produced} += $slice;
}

sub all_is_read
{
	my ($self, $node) = @_;
	my ($code, $out) = $node->psql('postgres', 'SELECT sum(next_offset) FROM clickstream.partition');
	return $code == 0 && $out eq $self->{produced};
}

# Slices until it is true, each read by the stream unless it becomes true before.
sub feed
{
	my ($self, $is_true) = @_;

	for (1 .. 50)
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
	return $node->safe_psql('postgres', "SELECT bool_and(balanced), sum(consumed), sum(used), sum(dead), sum(late) FROM clickstream.audit('web')");
}

# Both read what is there; then they are the same.
sub are_same
{
	my ($self, $name) = @_;

	$self->{rounds}++;
	$self->poll("the end of the topic after: $name", sub { $self->all_is_read($self->hurt) && $self->all_is_read($self->calm) });
	# What is not final yet may show as of an earlier batch.
	is(site_tables($self->hurt, 't', 'is_final') . "\n" . $self->ledger($self->hurt),
		site_tables($self->calm, 't', 'is_final') . "\n" . $self->ledger($self->calm), $name);
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
	like($self->ledger($self->hurt), qr/^t\|$self->{produced}\|/, 'each of them counted once');
	for my $table (qw(dead_letter late_event))
	{
		my @same = map {
			digest($_, "clickstream.$table", $table eq 'dead_letter' ? 'topic, partition, message_offset, cause, error, payload'
				: 'topic, partition, message_offset, event_time')
		} $self->hurt, $self->calm;
		is($same[0], $same[1], "and $table");
	}
	$_->stop for $self->calm, $self->hurt;
}

1;
