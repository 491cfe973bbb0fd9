# Turns the runs' counters into the bench's table and its JSON.
#
# Each input file is one run (catchup-N.txt, plain-N.txt, spill-N.txt, live-N.txt) of "name value" lines
# written by run.sh; "begin." and "end." are the two samples of the part that
# counts.  Ends with status 1 when a run is no valid figure, unless it was
# called a quick look.
#
# -v json=FILE ticks=PER_SECOND closed_min=N open_min=N live_rate=N
#    live_seconds=N settings="name=value ..." machine=TEXT server=TEXT

FNR == 1 {
	mode = FILENAME
	sub(/^.*\//, "", mode)
	sub(/-.*$/, "", mode)
	run = ++runs[mode]
}

{ value[mode, run, $1] = $2 }

$1 ~ /^rows\./ && !(($1) in seen) {
	seen[$1] = 1
	tables[++table_count] = $1
}

END {
	if (runs["catchup"] + runs["spill"] + runs["live"] == 0) {
		print "report: no run has ended" > "/dev/stderr"
		exit 1
	}
	for (i = 1; i <= runs["catchup"]; i++)
		derive_catchup("catchup", i)
	for (i = 1; i <= runs["plain"]; i++)
		derive_spill("plain", i)
	for (i = 1; i <= runs["spill"]; i++)
		derive_spill("spill", i)
	for (i = 1; i <= runs["live"]; i++)
		derive_live(i)
	if (runs["catchup"])
		print_catchup("catchup", "catch-up")
	if (runs["plain"])
		print_catchup("plain", "catch-up with plenty of memory for state")
	if (runs["spill"])
		print_spill()
	if (runs["live"])
		print_live()
	print_remarks()
	write_json()
	exit bad
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

function derive_common(mode, run,	events, cpu, wall) {
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
	figure(mode, run, "sessions_opened", value[mode, run, "opened"])
	figure(mode, run, "sessions_closed", difference(mode, run, "closed"))
	figure(mode, run, "sessions_open_at_end", value[mode, run, "open"])
}

function derive_catchup(mode, run,	us, closed, yardstick) {
	derive_common(mode, run)
	us = result[mode, run, "cpu_us_per_event"]
	figure(mode, run, "events_per_cpu_second", ratio(1e6, us))
	figure(mode, run, "events_per_second", ratio(difference(mode, run, "events"), difference(mode, run, "wall")))
	yardstick = (value[mode, run, "yardstick.before"] + value[mode, run, "yardstick.after"]) / 2
	figure(mode, run, "yardstick_us_per_event", yardstick)
	figure(mode, run, "of_yardstick", ratio(yardstick, us))
	closed = ratio(difference(mode, run, "closed") * 1e6, difference(mode, run, "events"))
	figure(mode, run, "closed_per_million", closed)
	if (closed < closed_min)
		remark(mode, run, sprintf("INVALID: %d sessions closed per million events, at least %d are the load we mean",
			closed, closed_min))
}

function derive_spill(mode, run) {
	derive_catchup(mode, run)
	figure(mode, run, "state_mb", value[mode, run, "state_mb"])
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
	print_figure(mode, "WAL bytes per event", "wal_bytes_per_event", "%12.1f")
	print_figure(mode, "peak memory of the worker, MB", "worker_peak_mb", "%12.0f")
	print_figure(mode, "  without shared memory and files, at the end", "worker_anonymous_mb", "%12.0f")
	print_figure(mode, "commits a second", "commits_per_second", "%12.2f")
	print_figure(mode, "seconds of event time in a second", "event_seconds_per_second", "%12.2f")
	print_figure(mode, "sessions opened", "sessions_opened", "%12.0f")
	print_figure(mode, "sessions closed", "sessions_closed", "%12.0f")
	print_figure(mode, "sessions open at the end", "sessions_open_at_end", "%12.0f")
}

function print_rows(mode,	i, name) {
	for (i = 1; i <= table_count; i++) {
		name = tables[i]
		printf "  %-46s%12d\n", "rows in " substr(name, 6) ", at the end", value[mode, runs[mode], name]
	}
}

function print_catchup(mode, title) {
	printf "%s, steady part, median of %d (min .. max)\n", title, runs[mode]
	print_figure(mode, "events/s of CPU time", "events_per_cpu_second", "%12.0f")
	print_figure(mode, "CPU us per event, whole cluster", "cpu_us_per_event", "%12.2f")
	print_figure(mode, "  of it the worker", "worker_cpu_us_per_event", "%12.2f")
	print_figure(mode, "CPU us per event, only fetched and parsed", "yardstick_us_per_event", "%12.2f")
	print_figure(mode, "share of the yardstick (mark: 0.10)", "of_yardstick", "%12.3f")
	print_figure(mode, "events/s by the clock", "events_per_second", "%12.0f")
	print_figure(mode, "events measured", "measured_events", "%12.0f")
	print_common(mode)
	print_figure(mode, "sessions closed per million events", "closed_per_million", "%12.0f")
	print_rows(mode)
}

function print_spill() {
	print_catchup("spill", "catch-up with a tenth of that")
	print_figure("plain", "state in memory with plenty, MB", "state_mb", "%12.0f")
	print_figure("spill", "state in memory with little, MB", "state_mb", "%12.0f")
	print_figure("spill", "rows in the spill table at the end", "spilled_rows", "%12.0f")
	printf "  %-46s%12.2f\n", "CPU of an event, times what it is with plenty",
		ratio(median("spill", "cpu_us_per_event"), median("plain", "cpu_us_per_event"))
}

function print_live() {
	printf "live, %d events/s for %d s, median of %d (min .. max)\n", live_rate, live_seconds, runs["live"]
	print_figure("live", "CPU, percent of a core (mark: 10)", "percent_of_core", "%12.2f")
	print_figure("live", "CPU us per event, whole cluster", "cpu_us_per_event", "%12.2f")
	print_figure("live", "  of it the worker", "worker_cpu_us_per_event", "%12.2f")
	print_figure("live", "events/s consumed", "events_per_second", "%12.0f")
	print_common("live")
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
		comma = ","
		for (j = 1; j <= name_count[mode]; j++)
			printf ", \"%s\": %.6g", names[mode, j], result[mode, i, names[mode, j]] > json
		for (j = 1; j <= table_count; j++)
			printf ", \"%s\": %d", tables[j], value[mode, i, tables[j]] > json
		printf "}" > json
	}
}

function json_medians(mode,	j) {
	if (!runs[mode])
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
	json_runs("catchup")
	json_runs("plain")
	json_runs("spill")
	json_runs("live")
	printf "\n  ],\n  \"medians\": {" > json
	comma = ""
	json_medians("catchup")
	json_medians("plain")
	json_medians("spill")
	json_medians("live")
	printf "\n  }\n}\n" > json
}
