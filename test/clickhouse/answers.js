// Random events, random questions, and what ClickHouse answers: tab-separated
// lines that compare.sql reads.
//
//   node answers.js DIRECTORY-OF-chdb SEED SETS GROUPS PATTERNS
//
//   e  set  group  time:mask ...            a group's rows as they come; bit k-1: meets condition k
//   q  question  set  function  conditions  argument  mode
//   a  question  answers of groups 1, 2, ... separated by commas
//
// Times are seconds.  Each set has other shapes: more or fewer ties, rows that
// meet several conditions or none, unordered rows.  Every valid combination of
// windowFunnel's modes is asked of every set.
'use strict'
const [chdb, seed, sets, groups, patterns] = process.argv.slice(2).map((a, i) => (i === 0 ? a : Number(a)))
const { Session } = require(chdb)

let state = BigInt(seed)
function below(n) {
	// splitmix64
	const mask = (1n << 64n) - 1n
	state = (state + 0x9e3779b97f4a7c15n) & mask
	let z = state
	z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask
	z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask
	return Number((z ^ (z >> 31n)) % BigInt(n))
}

const words = ['strict_deduplication', 'strict_order', 'strict_increase', 'strict_once', 'allow_reentry']
const modes = []
for (let bits = 0; bits < 32; bits++) {
	const chosen = words.filter((_, i) => (bits >> i) & 1)
	if (!chosen.includes('allow_reentry') || chosen.includes('strict_order')) modes.push(chosen)
}

function makeGroup(n, shape) {
	const rows = []
	for (let left = 1 + below(shape.rows); left > 0; left--) {
		let mask = 0
		for (let k = below(shape.density + 1); k > 0; k--) mask |= 1 << below(n)
		// mostly on the way: the condition that comes next
		if (below(3) === 0) mask = 1 << rows.length % n
		rows.push([100 + below(shape.times), mask])
	}
	if (shape.ordered) rows.sort((a, b) => a[0] - b[0])
	return rows
}

function makePattern(n) {
	let pattern = ''
	let timed = false
	for (let left = below(6); left > 0; left--) {
		const what = below(10)
		if (what < 4) pattern += `(?${1 + below(n)})`
		else if (what < 5) pattern += '.'
		else if (what < 7) pattern += '.*'
		else {
			if (!timed) pattern += `(?t${['<=', '<', '>=', '>', '=='][below(5)]}${below(6)})`
			timed = true
			continue
		}
		timed = false
	}
	return pattern
}

function conditions(n) {
	return Array.from({ length: n }, (_, k) => `bitTest(m, ${k})`).join(', ')
}

const session = new Session()
const out = []
let question = 0
session.query('CREATE DATABASE d ENGINE = Memory')
for (let set = 1; set <= sets; set++) {
	const n = 2 + below(5)
	const shape = { rows: 2 + below(11), times: 1 + below(14), density: 1 + below(3), ordered: below(2) === 0 }
	const values = []
	for (let g = 1; g <= groups; g++) {
		const rows = makeGroup(n, shape)
		rows.forEach((r) => values.push(`(${g},${r[0]},${r[1]})`))
		out.push(['e', set, g, rows.map((r) => r.join(':')).join(' ')])
	}
	session.query(`CREATE TABLE d.s${set} (g UInt32, t UInt64, m UInt32) ENGINE = Memory`)
	session.query(`INSERT INTO d.s${set} VALUES ${values.join(',')}`)
	const ask = (name, argument, mode, count, sql) => {
		const answers = session.query(`SELECT toString(a) FROM (SELECT g, ${sql} AS a FROM d.s${set} GROUP BY g) ORDER BY g
			SETTINGS max_threads = 1`, 'TSVRaw').trim().split('\n')
		out.push(['q', ++question, set, name, count, argument, mode])
		out.push(['a', question, answers.map((a) => a.replace(/,/g, '').replace(/[[\]]/g, '')).join(',')])
	}
	for (const mode of modes) {
		const within = below(shape.times + 2)
		const count = 1 + below(n)
		ask('window_funnel', within, mode.join(','), count,
			`windowFunnel(${[within, ...mode.map((w) => `'${w}'`)].join(', ')})(t, ${conditions(count)})`)
	}
	for (let i = 0; i < patterns; i++) {
		const pattern = makePattern(n)
		ask('sequence_match', pattern, '', n, `sequenceMatch('${pattern}')(t, ${conditions(n)})`)
		ask('sequence_count', pattern, '', n, `sequenceCount('${pattern}')(t, ${conditions(n)})`)
	}
	ask('retention', '', '', n, `retention(${conditions(n)})`)
}
process.stdout.write(out.map((line) => line.join('\t') + '\n').join(''))
session.cleanup()
