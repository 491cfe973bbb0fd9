#!/usr/bin/perl
# A token endpoint on 127.0.0.1 as OIDC providers have one: hands out a token to
# whoever brings a client's id and secret (RFC 6749, 4.4).  The tokens are not
# signed: the broker's own validator for tests takes such ones.
#
# Prints the port it listens at, then obeys commands from its standard input,
# each answered by "ok"; its end is the endpoint's.
#
#   client ID SECRET     who gets tokens from now on
#   lifetime SECONDS     of tokens from now on
#   count                how many tokens it has given out, and how often it has refused
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use MIME::Base64 qw(encode_base64 encode_base64url);

$| = 1;
my $listener;
for (1 .. 1000)
{
	$listener = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', LocalPort => 10000 + int rand 20000) and last;
}
$listener or die "no free port: $!";
print $listener->sockport, "\n";

my ($client, $lifetime, $given, $refused) = (':', 3600, 0, 0);

sub token
{
	my $now = time;
	my $claims = sprintf '{"sub":"reader","iat":%d,"exp":%d}', $now, $now + $lifetime;
	return encode_base64url('{"alg":"none"}') . '.' . encode_base64url($claims) . '.';
}

# Is it the whole of a request?
sub is_whole
{
	my ($text) = @_;
	return 0 unless $text =~ /\r\n\r\n/;
	my $body = $+[0];
	return length($text) >= $body + ($text =~ /^content-length: *(\d+)/mi ? $1 : 0);
}

sub request
{
	my ($socket) = @_;
	my $text = '';

	while (!is_whole($text)) { sysread $socket, $text, 4096, length $text or last }
	return $text;
}

sub answer
{
	my ($socket) = @_;
	my ($basic) = request($socket) =~ /^authorization: *basic (\S+)/mi;
	my $good = defined $basic && $basic eq encode_base64($client, '');
	my $body = $good ? sprintf '{"access_token":"%s","token_type":"Bearer","expires_in":%d}', token(), $lifetime : '{"error":"invalid_client"}';

	$good ? $given++ : $refused++;
	print $socket 'HTTP/1.1 ' . ($good ? '200 OK' : '401 Unauthorized') . "\r\ncontent-type: application/json\r\nconnection: close\r\n"
		. 'content-length: ' . length($body) . "\r\n\r\n$body";
	close $socket;
}

sub obey
{
	my ($command) = @_;

	if ($command =~ /^client (\S+) (\S+)$/) { $client = "$1:$2" }
	elsif ($command =~ /^lifetime (\d+)$/) { $lifetime = $1 }
	elsif ($command eq 'count') { print "$given $refused\n" }
	else { return print "error: $command\n" }
	print "ok\n";
}

$SIG{PIPE} = 'IGNORE';
my $reading = IO::Select->new($listener, \*STDIN);
for (;;)
{
	for my $ready ($reading->can_read)
	{
		if ($ready == $listener)
		{
			my $socket = $listener->accept;
			answer($socket) if $socket;
			next;
		}
		my $line = readline STDIN;
		exit 0 unless defined $line;
		chomp $line;
		obey($line);
	}
}
