// The questions of bench/aggregates.sh to a ClickHouse in this process.
//
//   node aggregates.js DIRECTORY-OF-chdb FILE.csv RUNS SECONDS-WITHIN
//
// Prints for each: its name, ms with one thread, with two, and the answer.
'use strict'
const [chdb, file, runs, within] = process.argv.slice(2)
const { Session } = require(chdb)

const session = new Session()
session.query('CREATE DATABASE d')
session.query('CREATE TABLE d.event (who UInt32, t DateTime, what UInt8) ENGINE = MergeTree ORDER BY t')
session.query(`INSERT INTO d.event SELECT * FROM file('${file}', CSV, 'who UInt32, t UInt32, what UInt8')`)
session.query('OPTIMIZE TABLE d.event FINAL')

const steps = 't, what = 0, what = 1, what = 2, what = 3'
const questions = {
	funnel: `windowFunnel(${within})(${steps})`,
	funnel_strict: `windowFunnel(${within}, 'strict_order')(${steps})`,
	funnel_once: `windowFunnel(${within}, 'strict_once')(${steps})`,
	sequence: `sequenceMatch('(?1)(?t<=${within})(?2)')(${steps})`,
	count: `sequenceCount('(?1).*(?2)')(${steps})`,
	retention: `retention(${steps.slice(3)})[2]`,
}

function ask(sql, threads) {
	let least = Infinity
	let answer
	for (let i = 0; i <= Number(runs); i++) {
		const start = process.hrtime.bigint()
		answer = session.query(`SELECT a, count() FROM (SELECT ${sql} AS a FROM d.event GROUP BY who) GROUP BY a ORDER BY a
			SETTINGS max_threads = ${threads}`, 'TSV')
		if (i > 0) least = Math.min(least, Number(process.hrtime.bigint() - start) / 1e6)
	}
	return [Math.max(1, Math.round(least)), answer.trim().split('\n').map((line) => line.replace('\t', ':')).join(' ')]
}

for (const [name, sql] of Object.entries(questions)) {
	const [one, answer] = ask(sql, 1)
	const [two] = ask(sql, 2)
	console.log([name, one, two, answer].join('\t'))
}
session.cleanup()
