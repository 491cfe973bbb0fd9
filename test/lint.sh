#!/bin/bash
# The house style that a program can check.  Each rule prints the lines that
# break it; the exit code says whether any did.
set -u
cd "$(dirname "$0")/.." || exit 2
export LC_ALL=C.UTF-8

FUNCTION_MAX=120
FILE_MAX=800
bad=0

# rule NAME COMMAND...: what the command prints breaks the rule.
rule() {
	local name=$1 lines
	shift
	lines=$("$@" 2>&1)
	[ -n "$lines" ] || return 0
	printf '%s:\n%s\n\n' "$name" "$lines"
	bad=$((bad + 1))
}

c_files() { find src demo bench test \( -name '*.c' -o -name '*.h' -o -name '*.cpp' \) 2>/dev/null | sort; }
scripts() { find test demo bench .ci -type f \( -name '*.sh' -o -path .ci/run \) 2>/dev/null | sort; }
perl_files() { find test \( -name '*.pl' -o -name '*.pm' \) | sort; }

# Arrows point down only; the rooms of rank 4 never look into each other.
layers() {
	find src \( -name '*.c' -o -name '*.h' -o -name '*.cpp' \) | sort | xargs awk '
		BEGIN {
			rank["compat.h"] = 1; rank["core"] = 2; rank["state"] = 3
			rank["source"] = rank["decode"] = rank["operator"] = rank["sink"] = 4
			rank["engine"] = 5; rank["worker"] = 6; rank["stats"] = 7; rank["api"] = 8; rank["clickstream.c"] = 9
		}
		FNR == 1 { split(FILENAME, part, "/"); room = part[2] }
		FNR == 1 && !(room in rank) { print FILENAME ": in no known room" }
		/^[ \t]*#[ \t]*include[ \t]*"/ {
			split($0, quoted, "\""); split(quoted[2], target, "/")
			if (target[1] == "..")
				print FILENAME ":" FNR ": " $0
			else if (target[1] in rank && target[1] != room && rank[target[1]] >= rank[room])
				print FILENAME ":" FNR ": " $0
		}'
}

rdkafka_users() { grep -rnI 'include.*rdkafka' src | grep -v -e '^src/source/' -e '^src/sink/topic'; }
spi_users() { grep -rnE 'executor/spi\.h|\bSPI_[a-z_]+ *\(' src | grep -v -e '^src/sink/' -e '^src/state/' -e '^src/core/'; }

# Versions differ in compat.h only.  What a later one has no more, or only in
# the header named for it, builds here and fails there.
other_versions() {
	grep -rnE --include='*.[ch]' --include='*.cpp' 'PG_VERSION_NUM|pg_attribute_noreturn|IsBackgroundWorker' src | grep -v '^src/compat\.h:'
	grep -rlE --include='*.c' '\bpg_(add|sub|mul)_[su](16|32|64)_overflow\b' src | xargs -r grep -L '"common/int\.h"' |
		sed 's,$,: no #include "common/int.h",'
}

# Functions by their braces in column 0, as the style sets them.
long_functions() {
	c_files | xargs -r awk -v max=$FUNCTION_MAX '
		/^\{/ { start = (before ~ /^(extern "C"|namespace)/) ? 0 : FNR }
		/^\}/ { if (start && FNR - start > max) printf "%s:%d: %d lines\n", FILENAME, start, FNR - start; start = 0 }
		{ before = $0 }'
}

long_files() {
	{ c_files; scripts; perl_files; } | xargs -r awk -v max=$FILE_MAX '
		FNR == max + 1 { print FILENAME ": more than " max " lines" }'
}

# Each test has what is expected of it (alternatives: name_1.out), and the
# other way round.
orphans() { # DIRECTORY-OF-TESTS SUFFIX DIRECTORY-OF-EXPECTED
	local f name
	for f in "$1"/*."$2"; do
		[ -e "$f" ] || continue
		name=$(basename "$f" ".$2")
		[ -e "$3/$name.out" ] || echo "$f: no $3/$name.out"
	done
	for f in "$3"/*.out; do
		[ -e "$f" ] || continue
		name=$(basename "$f" .out)
		[ -e "$1/$name.$2" ] || [ -e "$1/${name%_[0-9]}.$2" ] || echo "$f: no $1/$name.$2"
	done
}

format() {
	command -v clang-format-14 >/dev/null || { echo "clang-format-14 is not installed"; return; }
	c_files | xargs -r clang-format-14 --dry-run -Werror 2>&1 | awk -F: '
		/ error: / { if (!n[$1]++) first[$1] = $2 }
		END { for (f in n) print f ":" first[f] ": the first of " n[f] " places" }' | sort
}

# Work left for later says what it waits for: "TODO when …", "TODO once …".
todos() {
	grep -rnwE 'TODO|FIXME|XXX' src demo bench test sql clickstream--*.sql 2>/dev/null |
		grep -v -e '^test/lint.sh:' -e '^Binary file' | grep -vE 'TODO:? (when|once|after|until|if) '
}

shell_syntax() {
	local f shell
	for f in $(scripts); do
		shell=$(head -n 1 "$f" | grep -oE '(ba|da)?sh$')
		[ -n "$shell" ] && "$shell" -n "$f"
		[ -n "$shell" ] || echo "$f: no shell named in its first line"
		[ -x "$f" ] || echo "$f: not executable"
	done
}

perl_syntax() {
	local f tests
	tests=$(dirname "$(${PG_CONFIG:-pg_config} --pgxs)")/../test/perl
	for f in $(perl_files); do
		perl -I test/perl -I "$tests" -c "$f" 2>&1 | grep -v ' syntax OK$'
	done
}

meta() {
	perl -MJSON::PP -e '
		local $/;
		open my $f, "<", "META.json" or die "META.json: $!\n";
		my $m = eval { decode_json(<$f>) } or die "META.json: $@";
		for (qw(name version abstract maintainer license provides meta-spec)) {
			print "META.json: no \"$_\"\n" unless defined $m->{$_};
		}
		for (values %{ $m->{provides} }) {
			print "META.json: provides $_->{file}, which is not there\n" unless -e $_->{file};
		}'
}

versions() {
	local version
	version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" clickstream.control)
	[ -e "clickstream--$version.sql" ] || echo "clickstream.control: no clickstream--$version.sql"
}

rule "an #include that points up or sideways" layers
rule "librdkafka outside source/ and sink/topic" rdkafka_users
rule "SPI outside sink/, state/ and core/" spi_users
rule "what another version of PostgreSQL does not take" other_versions
rule "a function of more than $FUNCTION_MAX lines" long_functions
rule "a file of more than $FILE_MAX lines" long_files
rule "a test without its expected file, or the reverse" orphans sql sql expected
rule "an isolation test without its expected file, or the reverse" orphans test/isolation/specs spec test/isolation/expected
rule "not as clang-format sets it (make format)" format
rule "a TODO that does not say what it waits for" todos
rule "a script its shell cannot read" shell_syntax
rule "a Perl file that Perl cannot read" perl_syntax
rule "META.json" meta
rule "versions that differ" versions

[ "$bad" = 0 ] || echo "lint: $bad rules broken"
[ "$bad" = 0 ]
