#!/usr/bin/perl
# A TCP proxy on 127.0.0.1 that can be told to behave like a bad network.
# Prints the port it listens at, then obeys commands from its standard input,
# each answered by "ok"; its end is the proxy's.
#
#   to HOST:PORT    where connections go from now on
#   good            everything passes
#   cut             all connections are closed, once
#   cut after N     each connection is closed when N bytes have come from the other side; 0: no more
#   rate N          so many bytes a second come from the other side, over all connections; 0: as many as there are
#   silent          nothing passes, no connection is closed, new ones are taken
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(time);

my $PIECE = 16384;

$| = 1;
my $listener;
for (1 .. 1000)
{
	$listener = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', LocalPort => 10000 + int rand 20000) and last;
}
$listener or die "no free port: $!";
print $listener->sockport, "\n";

my ($target, $silent, $cut_after, $rate) = ('', 0, 0, 0);
my ($allowance, $counted_at) = (0, time);
my %link;                              # by file number: {socket, peer, from_far, passed}
my $reading = IO::Select->new($listener, \*STDIN);

sub end_link
{
	my ($one) = @_;
	for my $end ($one, $one->{peer})
	{
		delete $link{ fileno $end->{socket} };
		$reading->remove($end->{socket});
		close $end->{socket};
	}
}

sub take
{
	my $near = $listener->accept or return;
	my $far = IO::Socket::INET->new(PeerAddr => $target, Timeout => 5);
	return close $near unless $far;

	my %near = (socket => $near, from_far => 0, passed => 0);
	my %far = (socket => $far, from_far => 1, passed => 0, peer => \%near);
	$near{peer} = \%far;
	$link{ fileno $_->{socket} } = $_ for \%near, \%far;
	$reading->add($near, $far);
}

# What may come from the far side now; it gathers for a tenth of a second at most.
sub allowed
{
	return $PIECE unless $rate;
	my $now = time;
	$allowance += ($now - $counted_at) * $rate;
	$allowance = $rate / 10 if $allowance > $rate / 10;
	$counted_at = $now;
	return $allowance < $PIECE ? int $allowance : $PIECE;
}

sub pass
{
	my ($one) = @_;
	my $max = $one->{from_far} ? allowed() : $PIECE;
	return if $max < 1;

	my $bytes;
	my $n = sysread $one->{socket}, $bytes, $max;
	return end_link($one) unless $n;
	$allowance -= $n if $rate && $one->{from_far};
	for (my $done = 0; $done < $n;)
	{
		my $written = syswrite $one->{peer}{socket}, $bytes, $n - $done, $done;
		return end_link($one) unless defined $written;
		$done += $written;
	}
	$one->{passed} += $n;
	end_link($one) if $cut_after && $one->{from_far} && $one->{passed} >= $cut_after;
}

sub cut { while (my ($one) = values %link) { end_link($one) } }

sub obey
{
	my ($command) = @_;
	if ($command =~ /^to (\S+)$/) { $target = $1 }
	elsif ($command eq 'good') { ($silent, $cut_after, $rate) = (0, 0, 0) }
	elsif ($command eq 'cut') { cut() }
	elsif ($command =~ /^cut after (\d+)$/) { $cut_after = $1 }
	elsif ($command =~ /^rate (\d+)$/) { ($rate, $allowance, $counted_at) = ($1, 0, time) }
	elsif ($command eq 'silent') { $silent = 1 }
	else { return print "error: $command\n" }
	print "ok\n";
}

$SIG{PIPE} = 'IGNORE';
for (;;)
{
	for my $ready ($reading->can_read($rate ? 0.01 : 1))
	{
		if ($ready == $listener) { take() }
		elsif ($ready == \*STDIN)
		{
			my $line = readline STDIN;
			exit 0 unless defined $line;
			chomp $line;
			obey($line);
		}
		elsif (!$silent && $link{ fileno($ready) // -1 }) { pass($link{ fileno $ready }) }
	}
	# What waits to be read is no reason to be busy.
	select undef, undef, undef, 0.01 if $silent || ($rate && allowed() < 1);
}
