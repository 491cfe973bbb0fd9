# The state log as bytes: what its records are, and how to damage one in a way
# that the checksum of its row does not tell.  The format is described in
# src/state/record.h and src/state/delta.c.
package StateLog;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(log_records log_counts row_of put_varint get_varint put_zigzag parse_delta put_delta);

my %names = (1 => 'image', 2 => 'delta', 3 => 'delete', 4 => 'set_add', 5 => 'set_drop',
	6 => 'spilled', 7 => 'set_spilled');

# CRC-32C, as the server's COMP_CRC32C.
my @crc_table = map {
	my $crc = $_;
	$crc = $crc & 1 ? ($crc >> 1) ^ 0x82F63B78 : $crc >> 1 for 1 .. 8;
	$crc;
} 0 .. 255;

sub crc32c
{
	my $crc = 0xFFFFFFFF;
	$crc = $crc_table[ ($crc ^ $_) & 0xFF ] ^ ($crc >> 8) for unpack 'C*', $_[0];
	return $crc ^ 0xFFFFFFFF;
}

# A row's data, in hex, for bytes of the stream of records.
sub row_of
{
	my ($bytes) = @_;
	return unpack 'H*', pack('L', crc32c($bytes)) . $bytes;
}

sub put_varint
{
	my ($value) = @_;
	my $bytes = '';
	while ($value >= 0x80)
	{
		$bytes .= chr(($value & 0x7F) | 0x80);
		$value >>= 7;
	}
	return $bytes . chr $value;
}

sub put_zigzag
{
	my ($value) = @_;
	return put_varint($value < 0 ? -2 * $value - 1 : 2 * $value);
}

# Takes a varint off the front of a string.
sub get_varint
{
	my ($bytes) = @_;
	my ($value, $shift) = (0, 0);
	while (1)
	{
		die 'a varint is cut' if $$bytes eq '';
		my $byte = ord substr $$bytes, 0, 1, '';
		$value |= ($byte & 0x7F) << $shift;
		return $value if $byte < 0x80;
		$shift += 7;
	}
}

# All records of a half: { commit, kind, body }, in order; body without the kind's byte.
sub log_records
{
	my ($node, $table) = @_;
	my (%stream, @records);

	for (split /\n/, $node->safe_psql('postgres',
		"SELECT commit_number, encode(data, 'hex') FROM $table ORDER BY commit_number, seq"))
	{
		my ($commit, $hex) = split /\|/;
		my ($crc, $bytes) = unpack 'L a*', pack 'H*', $hex;
		die "checksum of a row of commit $commit" if $crc != crc32c($bytes);
		$stream{$commit} .= $bytes;
	}
	for my $commit (sort { $a <=> $b } keys %stream)
	{
		while ($stream{$commit} ne '')
		{
			my $length = get_varint(\$stream{$commit});
			my $record = substr $stream{$commit}, 0, $length, '';
			my $kind = ord substr $record, 0, 1, '';
			push @records, { commit => $commit, kind => $names{$kind} // $kind, body => $record };
		}
	}
	return @records;
}

# How many records of each kind a half holds.
sub log_counts
{
	my %counts = map { $_ => 0 } values %names;
	$counts{ $_->{kind} }++ for log_records(@_);
	return \%counts;
}

# A delta record's body in parts: key, sum, length, and steps [ new bytes, skip, copied ].
sub parse_delta
{
	my ($body) = @_;
	my $bytes = $body;
	my %delta = (steps => []);
	my $done = 0;

	my $head = get_varint(\$bytes);
	get_varint(\$bytes) unless $head & 1;    # the bucket
	substr $bytes, 0, 16, '';
	$delta{key} = substr $body, 0, length($body) - length $bytes;
	$delta{sum} = substr $bytes, 0, 2, '';
	$delta{length} = get_varint(\$bytes);
	while ($done < $delta{length})
	{
		my $fresh = substr $bytes, 0, get_varint(\$bytes), '';
		my @copy;

		$done += length $fresh;
		if ($done < $delta{length})
		{
			my $zigzag = get_varint(\$bytes);
			@copy = ($zigzag & 1 ? -(($zigzag + 1) >> 1) : $zigzag >> 1, get_varint(\$bytes));
			$done += $copy[1];
		}
		push @{ $delta{steps} }, [ $fresh, @copy ];
	}
	die 'a delta has more bytes than it says' if $bytes ne '';
	return \%delta;
}

# The record again, with its own length before it.
sub put_delta
{
	my ($delta) = @_;
	my $body = "\x02$delta->{key}$delta->{sum}" . put_varint($delta->{length});

	for (@{ $delta->{steps} })
	{
		my ($fresh, $skip, $copied) = @$_;
		$body .= put_varint(length $fresh) . $fresh;
		$body .= put_zigzag($skip) . put_varint($copied) if defined $copied;
	}
	return put_varint(length $body) . $body;
}

1;
