#!/bin/bash
# Part of test/check.sh: with CLICKSTREAM_INSTRUMENT servers are run so that
# more is noticed.  test/instrumented.sh says which server that needs.
#
# sanitizers   The extension is built with AddressSanitizer and
#              UndefinedBehaviorSanitizer.  The server is as it was, so their
#              library is loaded before it, and it alone: initdb and psql wait
#              in setlocale() for ever with that.  What the server allocates they
#              know as whole blocks, and palloc's pieces of these they do not.
#              What a process has when it ends is not lost: contexts would
#              have freed it.
# valgrind     The server runs in valgrind's memcheck, which it tells of
#              palloc's pieces and of what is not there any more.
# instrument_server: called when the server's copy is there.
copt="$copt -O1 -fno-omit-frame-pointer"
reports=$work/reports
mkdir -m 1777 "$reports"

case $CLICKSTREAM_INSTRUMENT in
	sanitizers)
		copt="$copt -fsanitize=address,undefined"
		instrument_server() {
			mv "$bindir/postgres" "$bindir/postgres.plain" &&
				cat >"$bindir/postgres" <<-END &&
					#!/bin/bash
					export ASAN_OPTIONS="detect_leaks=0:disable_coredump=1:log_path=$reports/report"
					export UBSAN_OPTIONS="print_stacktrace=1:log_path=$reports/report"
					LD_PRELOAD="$(readlink -f "$(gcc -print-file-name=libasan.so)")" exec -a "$bindir/postgres" "$bindir/postgres.plain" "\$@"
				END
				chmod 755 "$bindir/postgres"
		}
		;;
	valgrind)
		cat >"$work/valgrind" <<-END
			#!/bin/sh
			exec valgrind --quiet --leak-check=no --gen-suppressions=no --trace-children=yes --num-callers=30 \\
				--error-markers=REPORT-BEGIN,REPORT-END --suppressions="$work/server$("$pg_config" --sharedir)/valgrind.supp" \\
				--log-file="$reports/report.%p" "$work/server$("$pg_config" --bindir)/postgres" "\$@"
		END
		chmod 755 "$work/valgrind"
		instrument_server() { server_options=(-p "$work/valgrind" -t 600); }
		;;
	*)
		echo "CLICKSTREAM_INSTRUMENT is sanitizers or valgrind" >&2
		exit 2
		;;
esac

# A report is a failure, whatever the tests saw; some are in the server's log.
no_reports() {
	local logs
	logs=$(find "$work/regress" "$work/isolation" "$work/tap" -name '*.log' -not -path '*_data/*')
	# shellcheck disable=SC2086
	! grep -E -h -A 40 'ERROR: AddressSanitizer|: runtime error: |REPORT-BEGIN' -r "$reports" $logs
}
