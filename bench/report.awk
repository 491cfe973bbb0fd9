# Turns the runs' counters into the bench's table and its JSON.
#
# Each input file is one run (MODE-N.txt) of "name value" lines
# written by run.sh; "begin." and "end." are the two samples of the part that
# counts.  Ends with status 1 when a run is no valid figure, unless it was
# called a quick look.
#
# -v json=FILE ticks=PER_SECOND closed_min=N open_min=N start_min=N live_rate=N
#    live_seconds=N settings="name=value ..." machine=TEXT server=TEXT

FNR == 1 {
	mode = FILENAME
	sub(/^.*\//, "", mode)
	sub(/-.*$/, "", mode)
	run = ++runs[mode]
}

{ value[mode, run, $1] = $2 }

# How the cost of an event goes on: of each slice what the cluster and the worker have taken since the one before.
$1 ~ /^slice\.[0-9]+$/ {
	slice_events[mode, run, $1] = $2
	slice_cpu[mode, run, $1] = $3
	slice_worker_cpu[mode, run, $1] = $4
}

$1 ~ /^rows\./ && !(($1) in seen) {
	seen[$1] = 1
	tables[++table_count] = $1
}

# The largest of what was seen between the two samples and at them.
$1 ~ /\.(log|spill)_bytes$/ {
	name = $1
	sub(/^.*\./, "most.", name)
	if ($2 > value[mode, run, name])
		value[mode, run, name] = $2
}

# All modes, in the order in which they are shown; and of those that catch up what they are called, and their mark.
BEGIN {
	mode_count = split("catchup sessions readers cheap eventlog definitions onecore cores streams plain spill live latency start hostile flink", modes, " ")
	title["catchup"] = "catch-up"; mark["catchup"] = "0.20"
	title["sessions"] = "catch-up, sessions only"; mark["sessions"] = "0.45"
	title["readers"] = "catch-up, sessions only, with readers of all that is open"
	title["cheap"] = "catch-up, two tables of few rows only"
	title["eventlog"] = "catch-up with the event log kept"; mark["eventlog"] = "0.11"
	title["definitions"] = "catch-up, windows alike and nothing else"
	title["onecore"] = "catch-up on one core"
	title["cores"] = "catch-up on two cores, with decode workers"
	title["streams"] = "catch-up on two cores, with two streams"
	title["plain"] = "catch-up with plenty of memory for state"
	title["spill"] = "catch-up with a tenth of that"; mark["spill"] = "0.10"
}

END {
	for (m = 1; m <= mode_count; m++) {
		mode = modes[m]
		for (i = 1; i <= runs[mode]; i++)
			derive(mode, i)
		if (runs[mode]) {
			any = 1
			print_mode(mode)
		}
	}
	if (!any) {
		print "report: no run has ended" > "/dev/stderr"
		exit 1
	}
	print_remarks()
	write_json()
	exit bad
}

function derive(mode, run) {
	if (mode in title)
		derive_catchup(mode, run)
	else if (mode == "live")
		derive_live(run)
	else if (mode == "latency")
		derive_latency(run)
	else if (mode == "hostile")
		derive_hostile(run)
	else if (mode == "flink")
		derive_flink(run)
	else
		derive_start(run)
}

function print_mode(mode) {
	if (mode == "spill")
		print_spill()
	else if (mode == "cores" || mode == "streams")
		print_cores(mode)
	else if (mode in title)
		print_catchup(mode)
	else if (mode == "live")
		print_live()
	else if (mode == "latency")
		print_latency()
	else if (mode == "hostile")
		print_hostile()
	else if (mode == "flink")
		print_flink()
	else
		print_start()
}

function difference(mode, run, name) {
	return value[mode, run, "end." name] - value[mode, run, "begin." name]
}

function figure(mode, run, name, x) {
	if (!((mode, name) in known)) {
		known[mode, name] = 1
		names[mode, ++name_count[mode]] = name
	}
	result[mode, run, name] = x
}

function ratio(a, b) { return b > 0 ? a / b : 0 }

# A run that is not the load we mean says so; a quick look is never one.
function remark(mode, run, text) {
	remarks[++remark_count] = mode " run " run ": " text
	valid[mode, run] = 0
	if (!value[mode, run, "quick"])
		bad = 1
}

function derive_common(mode, run,	events, cpu, wall, yardstick) {
	valid[mode, run] = 1
	if (value[mode, run, "quick"])
		remark(mode, run, "a quick look with a short warm-up: NOT a valid figure")
	events = difference(mode, run, "events")
	cpu = difference(mode, run, "cpu") / ticks
	wall = difference(mode, run, "wall")
	figure(mode, run, "measured_events", events)
	figure(mode, run, "wall_seconds", wall)
	figure(mode, run, "cpu_seconds", cpu)
	figure(mode, run, "cpu_us_per_event", ratio(cpu * 1e6, events))
	figure(mode, run, "worker_cpu_us_per_event", ratio(difference(mode, run, "worker_cpu") / ticks * 1e6, events))
	figure(mode, run, "wal_bytes_per_event", ratio(difference(mode, run, "wal"), events))
	figure(mode, run, "worker_peak_mb", value[mode, run, "peak_kb"] / 1024)
	figure(mode, run, "worker_anonymous_mb", value[mode, run, "anonymous_kb"] / 1024)
	figure(mode, run, "commits_per_second", ratio(difference(mode, run, "commits"), wall))
	figure(mode, run, "event_seconds_per_second", ratio(difference(mode, run, "event_time"), wall))
	figure(mode, run, "state_mb", value[mode, run, "state_mb"])
	derive_sizes(mode, run, "log")
	derive_sizes(mode, run, "spill")
	yardstick = (value[mode, run, "yardstick.before"] + value[mode, run, "yardstick.after"]) / 2
	figure(mode, run, "yardstick_us_per_event", yardstick)
	figure(mode, run, "of_yardstick", ratio(yardstick * events, cpu * 1e6))
	figure(mode, run, "times_yardstick", ratio(cpu * 1e6, yardstick * events))
	if (!((mode, run, "opened") in value))
		return
	figure(mode, run, "sessions_opened", value[mode, run, "opened"])
	figure(mode, run, "sessions_closed", difference(mode, run, "closed"))
	figure(mode, run, "sessions_open_at_end", value[mode, run, "open"])
}

# MB on disk before and after the measured part, and at most.
function derive_sizes(mode, run, what,	when, i, n) {
	n = split("begin end most", when, " ")
	for (i = 1; i <= n; i++)
		figure(mode, run, what "_mb_" when[i], value[mode, run, when[i] "." what "_bytes"] / 1048576)
}

function derive_catchup(mode, run,	closed) {
	derive_common(mode, run)
	figure(mode, run, "events_per_cpu_second", ratio(1e6, result[mode, run, "cpu_us_per_event"]))
	figure(mode, run, "events_per_second", ratio(difference(mode, run, "events"), difference(mode, run, "wall")))
	if ((mode, run, "opened") in value) {
		closed = ratio(difference(mode, run, "closed") * 1e6, difference(mode, run, "events"))
		figure(mode, run, "closed_per_million", closed)
		if (closed < closed_min)
			remark(mode, run, sprintf("INVALID: %d sessions closed per million events, at least %d are the load we mean",
				closed, closed_min))
	}
	if (mode == "readers") {
		figure(mode, run, "looks_per_second", ratio(value[mode, run, "looks"], difference(mode, run, "wall")))
		if (value[mode, run, "looks"] < 4)
			remark(mode, run, "INVALID: hardly anybody has looked")
	}
	figure(mode, run, "spilled_rows", value[mode, run, "spilled"])
	if (mode == "spill" && value[mode, run, "spilled"] == 0)
		remark(mode, run, "INVALID: nothing was spilled")
}

function derive_live(run,	mode, wall, rate, commits) {
	mode = "live"
	derive_common(mode, run)
	wall = difference(mode, run, "wall")
	rate = ratio(difference(mode, run, "events"), wall)
	commits = result[mode, run, "commits_per_second"]
	figure(mode, run, "events_per_second", rate)
	figure(mode, run, "percent_of_core", 100 * ratio(difference(mode, run, "cpu") / ticks, wall))
	if (rate < 0.98 * live_rate)
		remark(mode, run, sprintf("INVALID: only %d events/s were consumed of %d", rate, live_rate))
	if (value[mode, run, "open"] < open_min)
		remark(mode, run, sprintf("INVALID: %d sessions were open, at least %d are the load we mean",
			value[mode, run, "open"], open_min))
	if (commits < 0.8)
		remark(mode, run, sprintf("INVALID: %.2f commits a second, one is the mode we mean", commits))
}

function slices(cpu, mode, run,	i, now, before, text) {
	for (i = 1; (mode, run, "slice." i) in cpu; i++) {
		now = "slice." i
		before = "slice." (i - 1)
		text = text sprintf("%s%.1f", (i > 1) ? ", " : "", ratio((cpu[mode, run, now] - cpu[mode, run, before]) * 1e6 / ticks,
			slice_events[mode, run, now] - slice_events[mode, run, before]))
	}
	return text
}

function derive_latency(run) {
	valid["latency", run] = 1
	figure("latency", run, "commit_interval_ms", value["latency", run, "interval_ms"])
	figure("latency", run, "rows_measured", value["latency", run, "rows_measured"])
	figure("latency", run, "p50_ms", value["latency", run, "p50_ms"])
	figure("latency", run, "p99_ms", value["latency", run, "p99_ms"])
	figure("latency", run, "max_ms", value["latency", run, "max_ms"])
	if (value["latency", run, "rows_measured"] == 0) {
		remark("latency", run, "INVALID: no row was made")
		bad = 1
	}
}

function derive_start(run) {
	valid["start", run] = 1
	figure("start", run, "seconds_to_first_commit", value["start", run, "seconds"])
	figure("start", run, "seconds_least", value["start", run, "least"])
	figure("start", run, "seconds_most", value["start", run, "most"])
	figure("start", run, "sessions_open", value["start", run, "open"])
	figure("start", run, "state_mb", value["start", run, "state_mb"])
	figure("start", run, "log_mb", value["start", run, "log_mb"])
	if (value["start", run, "open"] < start_min) {
		value["start", run, "quick"] = 1
		remark("start", run, sprintf("%d sessions were open, %d are what we mean: NOT a valid figure",
			value["start", run, "open"], start_min))
	}
}

# CPU us of a message between two samples.
function slice_cost(mode, run, from, to) {
	return ratio((slice_cpu[mode, run, "slice." to] - slice_cpu[mode, run, "slice." from]) * 1e6 / ticks,
		slice_events[mode, run, "slice." to] - slice_events[mode, run, "slice." from])
}

function derive_hostile(run) {
	valid["hostile", run] = 1
	figure("hostile", run, "messages", value["hostile", run, "messages"])
	figure("hostile", run, "cpu_us_per_message", slice_cost("hostile", run, 0, 2))
	figure("hostile", run, "cpu_us_first_half", slice_cost("hostile", run, 0, 1))
	figure("hostile", run, "cpu_us_second_half", slice_cost("hostile", run, 1, 2))
	figure("hostile", run, "messages_per_second", ratio(value["hostile", run, "messages"], value["hostile", run, "wall"]))
	figure("hostile", run, "worker_peak_mb", value["hostile", run, "peak_kb"] / 1024)
	figure("hostile", run, "used", value["hostile", run, "used"])
	figure("hostile", run, "late", value["hostile", run, "late"])
	figure("hostile", run, "dead", value["hostile", run, "dead"])
}

function derive_flink(run,	small, large, cpu) {
	valid["flink", run] = 1
	small = value["flink", run, "small"]
	large = value["flink", run, "large"]
	cpu = value["flink", run, "cpu." large] - value["flink", run, "cpu." small]
	figure("flink", run, "cpu_us_per_event", ratio(cpu * 1e6, large - small))
	figure("flink", run, "cpu_us_per_event_with_start", ratio(value["flink", run, "cpu." large] * 1e6, large))
	figure("flink", run, "events_per_cpu_second", ratio(large - small, cpu))
	figure("flink", run, "events_per_second", ratio(large - small, value["flink", run, "wall." large] - value["flink", run, "wall." small]))
	figure("flink", run, "peak_mb", value["flink", run, "peak_kb." large] / 1024)
	if (runs["catchup"])
		figure("flink", run, "times_ours", ratio(result["flink", run, "cpu_us_per_event"], median("catchup", "cpu_us_per_event")))
}

# Sorts the figure's runs into sorted[1..n] and returns n.
function sort_runs(mode, name,	i, j, x) {
	for (i = 1; i <= runs[mode]; i++) {
		x = result[mode, i, name]
		for (j = i; j > 1 && sorted[j - 1] > x; j--)
			sorted[j] = sorted[j - 1]
		sorted[j] = x
	}
	return runs[mode]
}

function median(mode, name,	n) {
	n = sort_runs(mode, name)
	return n % 2 ? sorted[(n + 1) / 2] : (sorted[n / 2] + sorted[n / 2 + 1]) / 2
}

function print_figure(mode, label, name, format,	middle, n) {
	middle = median(mode, name)
	n = runs[mode]
	printf "  %-46s" format, label, middle
	if (n > 1)
		printf "   (" format " .. " format ")", sorted[1], sorted[n]
	printf "\n"
}

function print_common(mode) {
	print_figure(mode, "CPU us per event, only fetched and parsed", "yardstick_us_per_event", "%12.2f")
	print_figure(mode, "CPU of an event, times the yardstick", "times_yardstick", "%12.2f")
	print_figure(mode, "share of the yardstick" ((mode in mark) ? " (mark: " mark[mode] ")" : ""), "of_yardstick", "%12.3f")
	print_figure(mode, "WAL bytes per event", "wal_bytes_per_event", "%12.1f")
	print_figure(mode, "peak memory of the worker, MB", "worker_peak_mb", "%12.0f")
	print_figure(mode, "  without shared memory and files, at the end", "worker_anonymous_mb", "%12.0f")
	print_figure(mode, "commits a second", "commits_per_second", "%12.2f")
	print_figure(mode, "seconds of event time in a second", "event_seconds_per_second", "%12.2f")
	print_figure(mode, "state in memory at the end, MB", "state_mb", "%12.0f")
	print_sizes(mode, "state log, MB", "log")
	print_sizes(mode, "spill table, MB", "spill")
	if (!((mode, "sessions_opened") in known))
		return
	print_figure(mode, "sessions opened", "sessions_opened", "%12.0f")
	print_figure(mode, "sessions closed", "sessions_closed", "%12.0f")
	print_figure(mode, "sessions open at the end", "sessions_open_at_end", "%12.0f")
}

function print_sizes(mode, label, what) {
	printf "  %-46s%12.1f%12.1f after%9.1f at most\n", label ", before the measured part", median(mode, what "_mb_begin"),
		median(mode, what "_mb_end"), median(mode, what "_mb_most")
}

function print_rows(mode,	i, name) {
	for (i = 1; i <= table_count; i++) {
		name = tables[i]
		if ((mode, runs[mode], name) in value)
			printf "  %-46s%12d%12d rewritten\n", "rows in " substr(name, 6) ", at the end", value[mode, runs[mode], name],
				value[mode, runs[mode], "rewritten" substr(name, 5)]
	}
}

function print_catchup(mode) {
	printf "%s, steady part, median of %d (min .. max)\n", title[mode], runs[mode]
	print_figure(mode, "events/s of CPU time", "events_per_cpu_second", "%12.0f")
	print_figure(mode, "CPU us per event, whole cluster", "cpu_us_per_event", "%12.2f")
	print_figure(mode, "  of it the worker", "worker_cpu_us_per_event", "%12.2f")
	print_figure(mode, "events/s by the clock", "events_per_second", "%12.0f")
	print_figure(mode, "events measured", "measured_events", "%12.0f")
	print_common(mode)
	if ((mode, "closed_per_million") in known)
		print_figure(mode, "sessions closed per million events", "closed_per_million", "%12.0f")
	if ((mode, "looks_per_second") in known)
		print_figure(mode, "answers to readers a second", "looks_per_second", "%12.2f")
	print_rows(mode)
}

function print_cores(mode) {
	print_catchup(mode)
	printf "  %-46s%12.2f\n", "by the clock, times what it is on one core" (mode == "cores" ? " (mark: 1.25)" : ""),
		ratio(median(mode, "events_per_second"), median("onecore", "events_per_second"))
}

function print_spill() {
	print_catchup("spill")
	print_figure("spill", "rows in the spill table at the end", "spilled_rows", "%12.0f")
	printf "  %-46s%12.2f\n", "CPU of an event, times what it is with plenty",
		ratio(median("spill", "cpu_us_per_event"), median("plain", "cpu_us_per_event"))
}

# Each run has another interval, so nothing is a median here.
function print_latency(	i) {
	printf "from a message to the commit that shows the first row of its group, %d events/s\n", live_rate
	printf "  %-30s%12s%12s%12s%12s\n", "commit_interval, ms", "rows", "p50, ms", "p99, ms", "longest, ms"
	for (i = 1; i <= runs["latency"]; i++)
		printf "  %-30d%12d%12.0f%12.0f%12.0f\n", result["latency", i, "commit_interval_ms"],
			result["latency", i, "rows_measured"], result["latency", i, "p50_ms"], result["latency", i, "p99_ms"],
			result["latency", i, "max_ms"]
}

function print_start() {
	printf "start of a worker, sessions only\n"
	print_figure("start", "seconds to its first commit, median (mark: 3)", "seconds_to_first_commit", "%12.2f")
	print_figure("start", "  the fastest", "seconds_least", "%12.2f")
	print_figure("start", "  the slowest", "seconds_most", "%12.2f")
	print_figure("start", "sessions open", "sessions_open", "%12.0f")
	print_figure("start", "state in memory before, MB", "state_mb", "%12.0f")
	print_figure("start", "state log, MB", "log_mb", "%12.0f")
}

function print_hostile(	i) {
	printf "messages that are bad in one way\n"
	printf "  %-12s%10s%12s%12s%12s%12s%10s%10s%10s%10s\n", "kind", "messages", "CPU us each", "first half", "second half",
		"a second", "peak MB", "used", "late", "dead"
	for (i = 1; i <= runs["hostile"]; i++)
		printf "  %-12s%10d%12.2f%12.2f%12.2f%12d%10d%10d%10d%10d\n", value["hostile", i, "kind"], result["hostile", i, "messages"],
			result["hostile", i, "cpu_us_per_message"], result["hostile", i, "cpu_us_first_half"],
			result["hostile", i, "cpu_us_second_half"], result["hostile", i, "messages_per_second"],
			result["hostile", i, "worker_peak_mb"], result["hostile", i, "used"], result["hostile", i, "late"], result["hostile", i, "dead"]
}

function print_flink() {
	printf "Flink, the same statements over the same topic, rows thrown away; the large topic less the small one\n"
	print_figure("flink", "events/s of CPU time", "events_per_cpu_second", "%12.0f")
	print_figure("flink", "CPU us per event", "cpu_us_per_event", "%12.2f")
	print_figure("flink", "  the whole job, start included", "cpu_us_per_event_with_start", "%12.2f")
	print_figure("flink", "events/s by the clock", "events_per_second", "%12.0f")
	print_figure("flink", "peak memory, MB", "peak_mb", "%12.0f")
	if (("flink", "times_ours") in known)
		print_figure("flink", "CPU of an event, times ours in this run", "times_ours", "%12.1f")
}

function print_live() {
	printf "live, %d events/s for %d s, median of %d (min .. max)\n", live_rate, live_seconds, runs["live"]
	print_figure("live", "CPU, percent of a core (mark: 5)", "percent_of_core", "%12.2f")
	print_figure("live", "CPU us per event, whole cluster", "cpu_us_per_event", "%12.2f")
	print_figure("live", "  of it the worker", "worker_cpu_us_per_event", "%12.2f")
	print_figure("live", "events/s consumed", "events_per_second", "%12.0f")
	print_common("live")
	printf "  CPU us per event, 20 s after the other: %s\n    of it the worker: %s\n", slices(slice_cpu, "live", runs["live"]),
		slices(slice_worker_cpu, "live", runs["live"])
	print_rows("live")
}

function print_remarks(	i) {
	for (i = 1; i <= remark_count; i++)
		print remarks[i]
}

function json_runs(mode,	i, j) {
	for (i = 1; i <= runs[mode]; i++) {
		printf("%s\n    {\"mode\": \"%s\", \"run\": %d, \"valid\": %s", comma, mode, i,
			valid[mode, i] ? "true" : "false") > json
		if ((mode, i, "kind") in value)
			printf(", \"kind\": \"%s\"", value[mode, i, "kind"]) > json
		comma = ","
		for (j = 1; j <= name_count[mode]; j++)
			printf ", \"%s\": %.6g", names[mode, j], result[mode, i, names[mode, j]] > json
		for (j = 1; j <= table_count; j++)
			if ((mode, i, tables[j]) in value)
				printf(", \"%s\": %d, \"rewritten%s\": %d", tables[j], value[mode, i, tables[j]], substr(tables[j], 5),
					value[mode, i, "rewritten" substr(tables[j], 5)]) > json
		if (mode == "live")
			printf(", \"cpu_us_by_20_s\": [%s], \"worker_cpu_us_by_20_s\": [%s]", slices(slice_cpu, mode, i),
				slices(slice_worker_cpu, mode, i)) > json
		else if (mode in title)
			printf(", \"cpu_us_by_tenth\": [%s]", slices(slice_cpu, mode, i)) > json
		printf "}" > json
	}
}

function json_medians(mode,	j) {
	if (!runs[mode] || mode == "latency" || mode == "hostile")
		return
	printf "%s\n    \"%s\": {", comma, mode > json
	comma = ","
	for (j = 1; j <= name_count[mode]; j++)
		printf("%s\"%s\": %.6g", (j > 1) ? ", " : "", names[mode, j], median(mode, names[mode, j])) > json
	printf "}" > json
}

function write_json(	i, n, pair, part) {
	gsub(/["\\]/, "", machine)
	printf "{\n  \"machine\": \"%s\", \"server\": \"%s\",\n  \"settings\": {", machine, server > json
	n = split(settings, pair, /[ \t\n]+/)
	for (i = 1; i <= n; i++)
		if (split(pair[i], part, "=") == 2)
			printf("%s\"%s\": %s", (i > 1) ? ", " : "", part[1], part[2]) > json
	printf "},\n  \"runs\": [" > json
	comma = ""
	for (i = 1; i <= mode_count; i++)
		json_runs(modes[i])
	printf "\n  ],\n  \"medians\": {" > json
	comma = ""
	for (i = 1; i <= mode_count; i++)
		json_medians(modes[i])
	printf "\n  }\n}\n" > json
}
