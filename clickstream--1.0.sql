/* clickstream 1.0: installed by CREATE EXTENSION clickstream */
\echo Use "CREATE EXTENSION clickstream" to load this file. \quit

-- ---------------------------------------------------------------------
-- catalog: what is defined, where we are, what went wrong
-- ---------------------------------------------------------------------

CREATE TABLE stream (
	stream_id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name            text NOT NULL UNIQUE,
	owner           regrole NOT NULL,
	brokers         text,
	topic           text NOT NULL,
	start_from      text NOT NULL,
	start_time      timestamptz,
	start_offsets   jsonb,
	partitions      integer[],
	watermark_delay interval NOT NULL,
	idle_timeout    interval NOT NULL,
	max_future      interval,
	max_drift       interval,
	visitor         text NOT NULL,
	preset          text NOT NULL,
	mapping         jsonb,
	extra_columns   text,
	filter          text,
	dedupe_by       text,
	dedupe_horizon  interval NOT NULL,
	options         jsonb,
	on_error        text NOT NULL,
	decode_workers  integer NOT NULL DEFAULT 0,
	retention       interval,
	letter_retention interval,
	alert_retention interval,
	enabled         boolean NOT NULL DEFAULT false,
	time_zone       text NOT NULL,
	event_relation  regclass NOT NULL,
	stream_view     regclass NOT NULL,
	log_relations   regclass[] NOT NULL,
	spill_relation  regclass NOT NULL,
	version         integer NOT NULL DEFAULT 1,
	created_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE stream IS 'streams of events: a topic, how it is read and decoded, who owns it';
COMMENT ON COLUMN stream.stream_id IS 'number of the stream; part of the names of what belongs to it';
COMMENT ON COLUMN stream.name IS 'name of the stream';
COMMENT ON COLUMN stream.owner IS 'role as which its expressions run and to which its tables belong';
COMMENT ON COLUMN stream.brokers IS 'bootstrap servers; NULL: the built-in local topic';
COMMENT ON COLUMN stream.topic IS 'topics, separated by commas';
COMMENT ON COLUMN stream.start_from IS 'where it begins: earliest, latest, timestamp, offsets';
COMMENT ON COLUMN stream.start_time IS 'for start_from timestamp';
COMMENT ON COLUMN stream.start_offsets IS 'for start_from offsets: offset by partition, below 0 from the end';
COMMENT ON COLUMN stream.partitions IS 'partitions that are read of each topic; NULL: all';
COMMENT ON COLUMN stream.watermark_delay IS 'how far the watermark stays behind the newest event';
COMMENT ON COLUMN stream.idle_timeout IS 'silence after which a partition no longer holds the others back';
COMMENT ON COLUMN stream.max_future IS 'an event further ahead of its message is a dead letter; NULL: never';
COMMENT ON COLUMN stream.max_drift IS 'a partition further ahead of the slowest waits; NULL: never';
COMMENT ON COLUMN stream.visitor IS 'SQL expression that tells who it was';
COMMENT ON COLUMN stream.preset IS 'mapping that the stream''s own builds on';
COMMENT ON COLUMN stream.mapping IS 'column to JSON pointers, over the preset';
COMMENT ON COLUMN stream.extra_columns IS 'columns beyond the usual ones, as given';
COMMENT ON COLUMN stream.filter IS 'condition without which an event is not used';
COMMENT ON COLUMN stream.dedupe_by IS 'expression whose equal values mark duplicates';
COMMENT ON COLUMN stream.dedupe_horizon IS 'how long duplicates are looked for, in event time';
COMMENT ON COLUMN stream.options IS 'librdkafka properties; secrets by name';
COMMENT ON COLUMN stream.on_error IS 'dead_letter or stop';
COMMENT ON COLUMN stream.decode_workers IS 'processes that fetch and decode for its worker';
COMMENT ON COLUMN stream.retention IS 'local topic: how long consumed messages are kept; NULL: for ever';
COMMENT ON COLUMN stream.letter_retention IS 'how long dead letters and late events are kept by maintain(); NULL: for ever';
COMMENT ON COLUMN stream.alert_retention IS 'how long alert_history keeps alerts that have ended; NULL: for ever';
COMMENT ON COLUMN stream.enabled IS 'shall it run?';
COMMENT ON COLUMN stream.time_zone IS 'TimeZone when it was made';
COMMENT ON COLUMN stream.event_relation IS 'view whose columns are those of an event';
COMMENT ON COLUMN stream.stream_view IS 'view of visitor, filter and dedupe_by';
COMMENT ON COLUMN stream.log_relations IS 'the two halves of the state log';
COMMENT ON COLUMN stream.spill_relation IS 'table of the open state that has no room in memory';
COMMENT ON COLUMN stream.created_at IS 'when it was made';
COMMENT ON COLUMN stream.version IS 'counts changes of the stream or its definitions: a running worker that sees another one loads them again';

CREATE TABLE stream_home (
	stream_id       integer PRIMARY KEY,
	database_oid    oid NOT NULL
);
COMMENT ON TABLE stream_home IS 'the database in which a stream was made or last started; where another one stands (a copied database), or none (a restored one: this table is not dumped), it does not run until start()';
COMMENT ON COLUMN stream_home.stream_id IS 'the stream';
COMMENT ON COLUMN stream_home.database_oid IS 'the database';

CREATE TABLE definition (
	definition_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream_id       integer NOT NULL,
	kind            "char" NOT NULL CHECK (kind IN ('s', 'w', 'f', 'r', 'l')),
	table_oid       regclass NOT NULL UNIQUE,
	view_oid        regclass,
	live_view       regclass,
	source_id       integer,
	start_column    text,
	size            interval,
	slide           interval,
	step            interval,
	origin          timestamptz,
	gap             interval,
	max_length      interval,
	within          interval,
	mode            text,
	within_exclusive boolean,
	strict_increase boolean,
	steps           text[],
	optional_steps  integer[],
	exclusions      integer[],
	emit            text,
	emit_interval   interval,
	group_limit     bigint,
	allowed_lateness interval,
	time_zone       text,
	retention       interval,
	deleted_before  timestamptz,
	notify_channel  text,
	filter          text,
	group_by        text,
	measures        text,
	key             text,
	split_on        text,
	end_when        text,
	created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON definition (stream_id);
CREATE INDEX ON definition (source_id);
COMMENT ON TABLE definition IS 'sessions, windows, funnels, rollups and event logs over a stream, each with its result table';
COMMENT ON COLUMN definition.definition_id IS 'number of the definition; part of its view''s name';
COMMENT ON COLUMN definition.stream_id IS 'stream it belongs to';
COMMENT ON COLUMN definition.kind IS 's session, w window, f funnel, r rollup, l event log';
COMMENT ON COLUMN definition.table_oid IS 'result table';
COMMENT ON COLUMN definition.view_oid IS 'view of its expressions; NULL for event logs';
COMMENT ON COLUMN definition.live_view IS 'view of the result and what is open, together; NULL for event logs';
COMMENT ON COLUMN definition.start_column IS 'column of the result that says when a row started';
COMMENT ON COLUMN definition.size IS 'window, rollup: length';
COMMENT ON COLUMN definition.slide IS 'window: distance between starts';
COMMENT ON COLUMN definition.step IS 'window: by how much each cumulative window is longer than the one before it; NULL: not cumulative';
COMMENT ON COLUMN definition.origin IS 'window, rollup: a start from which all others follow';
COMMENT ON COLUMN definition.gap IS 'session: longest pause';
COMMENT ON COLUMN definition.max_length IS 'session, funnel: length at which it is cut; NULL: none';
COMMENT ON COLUMN definition.within IS 'funnel: time from the first step to the last';
COMMENT ON COLUMN definition.mode IS 'funnel: ordered, strict, unordered';
COMMENT ON COLUMN definition.within_exclusive IS 'funnel: is a step at exactly that time too late?';
COMMENT ON COLUMN definition.optional_steps IS 'funnel: numbers of the steps that may be left out';
COMMENT ON COLUMN definition.exclusions IS 'funnel: from and to of each exclusion, as numbers of steps';
COMMENT ON COLUMN definition.strict_increase IS 'funnel: must steps have different times?';
COMMENT ON COLUMN definition.steps IS 'funnel: names of the steps';
COMMENT ON COLUMN definition.emit IS 'changes: rows show while they grow; closed: when closed';
COMMENT ON COLUMN definition.emit_interval IS 'shortest time between two rewrites of a row';
COMMENT ON COLUMN definition.group_limit IS 'window: groups kept apart in one window';
COMMENT ON COLUMN definition.allowed_lateness IS 'how long after closing late events still change a row; NULL: not at all';
COMMENT ON COLUMN definition.retention IS 'how long events, or final rows, are kept; NULL: for ever';
COMMENT ON COLUMN definition.notify_channel IS 'channel that is told of each batch that wrote rows; NULL: none';
COMMENT ON COLUMN definition.deleted_before IS 'final rows that started before may have been deleted by retention; NULL: none';
COMMENT ON COLUMN definition.filter IS 'condition, as given';
COMMENT ON COLUMN definition.group_by IS 'group columns, or breakdown of a funnel, as given';
COMMENT ON COLUMN definition.measures IS 'measures, as given';
COMMENT ON COLUMN definition.key IS 'key expression, as given; NULL: the visitor';
COMMENT ON COLUMN definition.split_on IS 'session: expression whose change cuts, as given';
COMMENT ON COLUMN definition.end_when IS 'session: condition of the last event, as given';
COMMENT ON COLUMN definition.time_zone IS 'window: zone whose days and months it follows; NULL: lengths are fixed, months are those of UTC; session: cut at midnights of this zone; NULL: not';
COMMENT ON COLUMN definition.created_at IS 'when it was made';
COMMENT ON COLUMN definition.source_id IS 'rollup: definition whose table it reads; no foreign key, because pg_dump warns of one that leads to its own table';

CREATE TABLE lookup (
	lookup_id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream_id       integer NOT NULL,
	name            text NOT NULL,
	source          regclass NOT NULL,
	key             text NOT NULL,
	event_key       text,
	columns         text[] NOT NULL,
	rows_view       regclass NOT NULL,
	key_view        regclass NOT NULL,
	created_at      timestamptz NOT NULL DEFAULT now(),
	UNIQUE (stream_id, name)
);
COMMENT ON TABLE lookup IS 'tables and views whose columns a stream''s definitions use, as name.column';
COMMENT ON COLUMN lookup.lookup_id IS 'number of the lookup; part of the names of its views';
COMMENT ON COLUMN lookup.stream_id IS 'stream whose definitions use it';
COMMENT ON COLUMN lookup.name IS 'name of the lookup';
COMMENT ON COLUMN lookup.source IS 'table or view that it reads';
COMMENT ON COLUMN lookup.key IS 'column of the source by which rows are found';
COMMENT ON COLUMN lookup.event_key IS 'expression over the event that gives the key, as given; NULL: the event''s column that is called like the source''s';
COMMENT ON COLUMN lookup.columns IS 'columns of the source that definitions can use';
COMMENT ON COLUMN lookup.rows_view IS 'view of the key and these columns';
COMMENT ON COLUMN lookup.key_view IS 'view of the key''s expression';
COMMENT ON COLUMN lookup.created_at IS 'when it was made';
GRANT SELECT ON lookup TO PUBLIC;

CREATE TABLE lookup_table (
	stream_id       integer PRIMARY KEY,
	table_oid       regclass NOT NULL,
	key             text NOT NULL,
	columns         text[] NOT NULL
);
COMMENT ON TABLE lookup_table IS 'streams that keep a table in step with an upsert topic, for lookups';
COMMENT ON COLUMN lookup_table.stream_id IS 'stream that reads the topic';
COMMENT ON COLUMN lookup_table.table_oid IS 'table that it keeps';
COMMENT ON COLUMN lookup_table.key IS 'the table''s key';
COMMENT ON COLUMN lookup_table.columns IS 'columns that messages fill, the key among them';
GRANT SELECT ON lookup_table TO PUBLIC;

CREATE TABLE partition (
	stream_id       integer NOT NULL,
	topic           text NOT NULL,
	partition       integer NOT NULL,
	next_offset     bigint NOT NULL,
	end_offset      bigint,
	max_time        timestamptz,
	last_event_time timestamptz,
	idle            boolean NOT NULL DEFAULT false,
	spoke_at        timestamptz,
	moved_at        timestamptz,
	used            bigint NOT NULL DEFAULT 0,
	filtered        bigint NOT NULL DEFAULT 0,
	late            bigint NOT NULL DEFAULT 0,
	duplicate       bigint NOT NULL DEFAULT 0,
	dead            bigint NOT NULL DEFAULT 0,
	empty           bigint NOT NULL DEFAULT 0,
	skipped         bigint NOT NULL DEFAULT 0,
	start_offset    bigint NOT NULL,
	repaired        bigint NOT NULL DEFAULT 0,
	paused          boolean NOT NULL DEFAULT false,
	by_definition   bigint[] NOT NULL DEFAULT '{}',
	last_offset     bigint,
	last_checksum   bigint,
	PRIMARY KEY (stream_id, topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE partition IS 'position, watermark and ledger of each partition; changes with each commit of its stream';
COMMENT ON COLUMN partition.stream_id IS 'stream';
COMMENT ON COLUMN partition.topic IS 'topic';
COMMENT ON COLUMN partition.partition IS 'partition of the topic';
COMMENT ON COLUMN partition.next_offset IS 'offset to read next';
COMMENT ON COLUMN partition.end_offset IS 'end of the partition when last seen';
COMMENT ON COLUMN partition.last_event_time IS 'newest event time';
COMMENT ON COLUMN partition.idle IS 'does it no longer hold the watermark back?';
COMMENT ON COLUMN partition.spoke_at IS 'when the partition last delivered a message: it is silent since';
COMMENT ON COLUMN partition.moved_at IS 'when max_time last moved';
COMMENT ON COLUMN partition.used IS 'offsets used by a definition';
COMMENT ON COLUMN partition.filtered IS 'offsets wanted by no definition';
COMMENT ON COLUMN partition.late IS 'offsets too late for those that wanted them';
COMMENT ON COLUMN partition.duplicate IS 'offsets seen before';
COMMENT ON COLUMN partition.dead IS 'dead letters';
COMMENT ON COLUMN partition.empty IS 'messages without payload';
COMMENT ON COLUMN partition.skipped IS 'offsets without a message, or passed over by hand';
COMMENT ON COLUMN partition.start_offset IS 'offset at which reading began';
COMMENT ON COLUMN partition.repaired IS 'offsets that are used only since they were applied again';
COMMENT ON COLUMN partition.paused IS 'does it wait because it is too far ahead of the others?';
COMMENT ON COLUMN partition.by_definition IS 'six numbers for each definition: its id, the offset from which on it counts, used, late, dead, without key; read view stat_definition_partition';
COMMENT ON COLUMN partition.last_offset IS 'offset of the message consumed last; NULL: none, or of the local topic';
COMMENT ON COLUMN partition.last_checksum IS 'checksum of that message: a topic that was made anew holds another one there';
COMMENT ON COLUMN partition.max_time IS 'max of min(event_time, message timestamp): the watermark is this less the stream''s watermark_delay';

CREATE TABLE stream_topic (
	stream_id       integer NOT NULL,
	number          integer NOT NULL,
	topic           text NOT NULL,
	is_first        boolean NOT NULL,
	found_at        timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	gone_at         timestamptz,
	PRIMARY KEY (stream_id, number),
	UNIQUE (stream_id, topic)
);
COMMENT ON TABLE stream_topic IS 'topics that the pattern of a stream has found';
COMMENT ON COLUMN stream_topic.stream_id IS 'stream';
COMMENT ON COLUMN stream_topic.number IS 'what stands for the topic in the stream''s state: the first is 0, the next one found 1';
COMMENT ON COLUMN stream_topic.topic IS 'topic';
COMMENT ON COLUMN stream_topic.is_first IS 'was it there when the stream first looked? It is read from where the stream begins, later ones from their beginning';
COMMENT ON COLUMN stream_topic.found_at IS 'when it was found';
COMMENT ON COLUMN stream_topic.gone_at IS 'since when it is no longer on the broker; NULL: it is';

CREATE TABLE progress (
	stream_id       integer PRIMARY KEY,
	commit_number   bigint NOT NULL DEFAULT 0,
	watermark       timestamptz,
	closed          timestamptz,
	shown           timestamptz,
	advanced        timestamptz,
	finished        boolean NOT NULL DEFAULT false,
	log_half        smallint NOT NULL DEFAULT 0,
	log_copied      boolean NOT NULL DEFAULT true,
	log_copied_xid  xid8,
	next_set_id     bigint NOT NULL DEFAULT 1,
	committed_at    timestamptz,
	by_definition   bigint[],
	looked_at       timestamptz,
	state_format    integer NOT NULL DEFAULT 1
) WITH (fillfactor = 50);
COMMENT ON TABLE progress IS 'number of the newest commit of each stream, its watermark, and which half of the state log is written';
COMMENT ON COLUMN progress.stream_id IS 'stream';
COMMENT ON COLUMN progress.commit_number IS 'number of the newest commit';
COMMENT ON COLUMN progress.log_half IS 'half of the log that is written: 0 or 1';
COMMENT ON COLUMN progress.log_copied IS 'are all live entries in that half?';
COMMENT ON COLUMN progress.log_copied_xid IS 'transaction that finished copying';
COMMENT ON COLUMN progress.state_format IS 'number of the format that state log and spill table are written in: whoever cannot read it touches neither';
COMMENT ON COLUMN progress.next_set_id IS 'number of the next large set';
COMMENT ON COLUMN progress.committed_at IS 'when the newest commit was made';
COMMENT ON COLUMN progress.by_definition IS 'six numbers for each definition: its id, rows written, rows deleted, failed combine or final functions, state entries, of a rollup the start of its first open bucket; read view stat_definition';
COMMENT ON COLUMN progress.looked_at IS 'when topics were first looked for by the stream''s pattern: those found later are read from their beginning';
COMMENT ON COLUMN progress.watermark IS 'the stream''s watermark; NULL before anything was read';
COMMENT ON COLUMN progress.closed IS 'everything up to this watermark is closed; behind watermark while a large closing goes on';
COMMENT ON COLUMN progress.shown IS 'the furthest moment as of which rows were shown while the topic was silent; NULL: never';
COMMENT ON COLUMN progress.advanced IS 'the watermark as last moved by hand, by advance_watermark()';
COMMENT ON COLUMN progress.finished IS 'finish() was called: the watermark is plus infinity';

CREATE TABLE local_partition (
	stream_id       integer NOT NULL,
	partition       integer NOT NULL,
	first_offset    bigint NOT NULL DEFAULT 0,
	next_offset     bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (stream_id, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE local_partition IS 'partitions of the built-in local topic of streams without brokers';
COMMENT ON COLUMN local_partition.stream_id IS 'stream';
COMMENT ON COLUMN local_partition.partition IS 'partition of its local topic';
COMMENT ON COLUMN local_partition.first_offset IS 'oldest offset kept';
COMMENT ON COLUMN local_partition.next_offset IS 'offset of the next message';

CREATE TABLE local_message (
	stream_id       integer NOT NULL,
	partition       integer NOT NULL,
	message_offset  bigint NOT NULL,
	message_key     text,
	payload         text,
	message_timestamp timestamptz NOT NULL,
	headers         jsonb,
	PRIMARY KEY (stream_id, partition, message_offset)
);
COMMENT ON TABLE local_message IS 'messages of the built-in local topic, written by produce()';
COMMENT ON COLUMN local_message.stream_id IS 'stream';
COMMENT ON COLUMN local_message.partition IS 'partition of its local topic';
COMMENT ON COLUMN local_message.message_offset IS 'offset of the message';
COMMENT ON COLUMN local_message.message_key IS 'key';
COMMENT ON COLUMN local_message.payload IS 'payload; NULL: a tombstone';
COMMENT ON COLUMN local_message.message_timestamp IS 'when it was produced';
COMMENT ON COLUMN local_message.headers IS 'headers, as an object';

CREATE TABLE dead_letter_data (
	dead_letter_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream_id       integer NOT NULL,
	definition_id   integer,
	topic           text NOT NULL,
	partition       integer NOT NULL,
	message_offset  bigint NOT NULL,
	message_timestamp timestamptz,
	message_key     bytea,
	payload         bytea,
	headers         jsonb,
	cause           text NOT NULL,
	error           text NOT NULL,
	sqlstate        text NOT NULL,
	arrived_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
	retried_at      timestamptz,
	outcome         text
);
COMMENT ON TABLE dead_letter_data IS 'messages that could not be used, as they came; read view dead_letter';
COMMENT ON COLUMN dead_letter_data.dead_letter_id IS 'number of the dead letter';
COMMENT ON COLUMN dead_letter_data.stream_id IS 'stream';
COMMENT ON COLUMN dead_letter_data.definition_id IS 'definition that failed; NULL: nothing could use the message';
COMMENT ON COLUMN dead_letter_data.topic IS 'topic of the message';
COMMENT ON COLUMN dead_letter_data.partition IS 'partition of the message';
COMMENT ON COLUMN dead_letter_data.message_offset IS 'offset of the message';
COMMENT ON COLUMN dead_letter_data.message_timestamp IS 'the message''s own timestamp';
COMMENT ON COLUMN dead_letter_data.message_key IS 'key, as bytes';
COMMENT ON COLUMN dead_letter_data.payload IS 'payload, as bytes';
COMMENT ON COLUMN dead_letter_data.headers IS 'headers of the message';
COMMENT ON COLUMN dead_letter_data.cause IS 'kind of error, to group by';
COMMENT ON COLUMN dead_letter_data.error IS 'the error in words';
COMMENT ON COLUMN dead_letter_data.sqlstate IS 'SQLSTATE of the error';
COMMENT ON COLUMN dead_letter_data.arrived_at IS 'when it was consumed';
COMMENT ON COLUMN dead_letter_data.retried_at IS 'when retry_dead_letters() last ran it through the stream';
COMMENT ON COLUMN dead_letter_data.outcome IS 'what it became then: used, late, filtered, duplicate or empty; NULL: it is dead';

CREATE TABLE late_event_data (
	late_event_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream_id       integer NOT NULL,
	definition_id   integer NOT NULL,
	topic           text NOT NULL,
	partition       integer NOT NULL,
	message_offset  bigint NOT NULL,
	event_time      timestamptz NOT NULL,
	lateness        interval NOT NULL,
	watermark       timestamptz NOT NULL,
	payload         bytea,
	arrived_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
	applied_at      timestamptz
);
COMMENT ON TABLE late_event_data IS 'events that came too late for a definition; read view late_event';
COMMENT ON COLUMN late_event_data.late_event_id IS 'number of the late event';
COMMENT ON COLUMN late_event_data.stream_id IS 'stream';
COMMENT ON COLUMN late_event_data.definition_id IS 'definition for which it was late';
COMMENT ON COLUMN late_event_data.topic IS 'topic of the message';
COMMENT ON COLUMN late_event_data.partition IS 'partition of the message';
COMMENT ON COLUMN late_event_data.message_offset IS 'offset of the message';
COMMENT ON COLUMN late_event_data.event_time IS 'when it happened';
COMMENT ON COLUMN late_event_data.lateness IS 'how much too late it was';
COMMENT ON COLUMN late_event_data.watermark IS 'the stream''s watermark, as it stood when the event came';
COMMENT ON COLUMN late_event_data.payload IS 'payload, as bytes';
COMMENT ON COLUMN late_event_data.arrived_at IS 'when it was consumed';
COMMENT ON COLUMN late_event_data.applied_at IS 'when apply_late() put it into the definition''s results; NULL: not yet';

CREATE TABLE trimmed_letter (
	stream_id       integer NOT NULL,
	definition_id   integer NOT NULL,
	topic           text NOT NULL,
	partition       integer NOT NULL,
	late            bigint NOT NULL DEFAULT 0,
	dead            bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (stream_id, definition_id, topic, partition)
);
COMMENT ON TABLE trimmed_letter IS 'how many late events and dead letters trim_letters() has deleted: audit() adds them to those that are there';
COMMENT ON COLUMN trimmed_letter.stream_id IS 'stream';
COMMENT ON COLUMN trimmed_letter.definition_id IS 'definition; 0: dead letters of whole messages';
COMMENT ON COLUMN trimmed_letter.topic IS 'topic of the messages';
COMMENT ON COLUMN trimmed_letter.partition IS 'partition of the messages';
COMMENT ON COLUMN trimmed_letter.late IS 'late events deleted that were not applied';
COMMENT ON COLUMN trimmed_letter.dead IS 'dead letters deleted';
GRANT SELECT ON trimmed_letter TO PUBLIC;

CREATE TABLE backfill (
	definition_id   integer PRIMARY KEY,
	stream_id       integer NOT NULL,
	commit_number   bigint NOT NULL DEFAULT -1,
	arrival         integer NOT NULL DEFAULT -1,
	watermark       timestamptz,
	closing         timestamptz,
	bucket          timestamptz,
	done            bigint NOT NULL DEFAULT 0,
	total           bigint NOT NULL,
	logged          bigint,
	log_id          integer,
	from_topic      boolean NOT NULL DEFAULT false,
	from_time       timestamptz,
	begun_at        timestamptz,
	moved_at        timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE backfill IS 'definitions that are being filled with history, and how far each is; changes with the commits of their streams';
COMMENT ON COLUMN backfill.definition_id IS 'definition';
COMMENT ON COLUMN backfill.stream_id IS 'stream';
COMMENT ON COLUMN backfill.commit_number IS 'the event log is done up to this commit; -1: not begun';
COMMENT ON COLUMN backfill.arrival IS 'and to this one of its messages';
COMMENT ON COLUMN backfill.watermark IS 'where the watermark of the definition stands; NULL: nowhere yet';
COMMENT ON COLUMN backfill.closing IS 'where it is to stand when everything before is closed; later than watermark: that is going on, in parts';
COMMENT ON COLUMN backfill.bucket IS 'rollup: buckets before this are made';
COMMENT ON COLUMN backfill.done IS 'events of the log, of a rollup rows of its source, that it has seen';
COMMENT ON COLUMN backfill.total IS 'how many there were when it was made';
COMMENT ON COLUMN backfill.logged IS 'how many events the log had ever had by then';
COMMENT ON COLUMN backfill.log_id IS 'event log that it is filled from; NULL: from the topic, or a rollup from its source';
COMMENT ON COLUMN backfill.from_topic IS 'it is filled from the topic';
COMMENT ON COLUMN backfill.from_time IS 'its history begins, in each partition, with the first message of this time or later; NULL: with the first';
COMMENT ON COLUMN backfill.begun_at IS 'when it began';
COMMENT ON COLUMN backfill.moved_at IS 'when it last moved on';

CREATE TABLE backfill_partition (
	stream_id       integer NOT NULL,
	definition_id   integer NOT NULL,
	topic           text NOT NULL,
	partition       integer NOT NULL,
	first_offset    bigint NOT NULL,
	next_offset     bigint NOT NULL,
	gone            bigint NOT NULL,
	max_time        timestamptz,
	PRIMARY KEY (definition_id, topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE backfill_partition IS 'how far history that is read from a topic is in each partition';
COMMENT ON COLUMN backfill_partition.stream_id IS 'stream';
COMMENT ON COLUMN backfill_partition.definition_id IS 'definition that is being filled';
COMMENT ON COLUMN backfill_partition.topic IS 'topic';
COMMENT ON COLUMN backfill_partition.partition IS 'partition of the topic';
COMMENT ON COLUMN backfill_partition.first_offset IS 'where its history begins';
COMMENT ON COLUMN backfill_partition.next_offset IS 'offset to read next';
COMMENT ON COLUMN backfill_partition.gone IS 'messages before that which the topic did not hold any more';
COMMENT ON COLUMN backfill_partition.max_time IS 'greatest event time that counts for the watermark';
GRANT SELECT ON backfill_partition TO PUBLIC;

CREATE TABLE passed_over (
	stream_id       integer NOT NULL,
	definition_id   integer NOT NULL DEFAULT 0,
	topic           text NOT NULL,
	partition       integer NOT NULL,
	first_offset    bigint NOT NULL,
	next_offset     bigint NOT NULL,
	passed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (stream_id, definition_id, topic, partition, first_offset)
);
COMMENT ON TABLE passed_over IS 'offsets that seek() and skip_message() have passed over: no history takes them either; or that a definition has taken already';
COMMENT ON COLUMN passed_over.stream_id IS 'stream';
COMMENT ON COLUMN passed_over.definition_id IS 'definition that has taken them, as retried dead letters, while it was filled; 0: no history takes them';
COMMENT ON COLUMN passed_over.topic IS 'topic';
COMMENT ON COLUMN passed_over.partition IS 'partition of the topic';
COMMENT ON COLUMN passed_over.first_offset IS 'the first one';
COMMENT ON COLUMN passed_over.next_offset IS 'the one behind the last';
COMMENT ON COLUMN passed_over.passed_at IS 'when that was';
GRANT SELECT ON passed_over TO PUBLIC;

CREATE TABLE alert_definition (
	alert_id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream_id       integer NOT NULL REFERENCES stream ON DELETE CASCADE,
	name            text NOT NULL UNIQUE,
	query           text NOT NULL,
	search_path     text NOT NULL,
	hold_for        interval NOT NULL,
	channel         text,
	enabled         boolean NOT NULL DEFAULT true,
	holds_since     timestamptz,
	alert_event_id  bigint,
	last_error      text,
	last_error_sqlstate text,
	last_error_at   timestamptz,
	failures        integer NOT NULL DEFAULT 0,
	created_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE alert_definition IS 'alerts, each with its query and state; read view alert';
COMMENT ON COLUMN alert_definition.alert_id IS 'number of the alert';
COMMENT ON COLUMN alert_definition.stream_id IS 'stream whose worker evaluates it';
COMMENT ON COLUMN alert_definition.name IS 'name of the alert';
COMMENT ON COLUMN alert_definition.query IS 'query whose rows mean that it is on';
COMMENT ON COLUMN alert_definition.search_path IS 'search_path when it was given';
COMMENT ON COLUMN alert_definition.hold_for IS 'how long the query must have returned rows before it begins';
COMMENT ON COLUMN alert_definition.channel IS 'channel of NOTIFY; NULL: none';
COMMENT ON COLUMN alert_definition.enabled IS 'is it evaluated?';
COMMENT ON COLUMN alert_definition.holds_since IS 'since when the query has returned rows; NULL: it returned none';
COMMENT ON COLUMN alert_definition.alert_event_id IS 'its row in the history, while it is on';
COMMENT ON COLUMN alert_definition.last_error IS 'why it failed, or was disabled';
COMMENT ON COLUMN alert_definition.last_error_sqlstate IS 'SQLSTATE of that';
COMMENT ON COLUMN alert_definition.last_error_at IS 'when that was';
COMMENT ON COLUMN alert_definition.failures IS 'how often in a row it has failed';
COMMENT ON COLUMN alert_definition.created_at IS 'when it was made';
CREATE INDEX ON alert_definition (stream_id);

CREATE TABLE alert_event_data (
	alert_event_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	alert_id        integer NOT NULL REFERENCES alert_definition ON DELETE CASCADE,
	began_at        timestamptz NOT NULL,
	ended_at        timestamptz,
	detail          jsonb
);
COMMENT ON TABLE alert_event_data IS 'when alerts were on; read view alert_history';
COMMENT ON COLUMN alert_event_data.alert_event_id IS 'number of the event';
COMMENT ON COLUMN alert_event_data.alert_id IS 'alert';
COMMENT ON COLUMN alert_event_data.began_at IS 'when it began';
COMMENT ON COLUMN alert_event_data.ended_at IS 'when it ended; NULL: it is on';
COMMENT ON COLUMN alert_event_data.detail IS 'first row of the query as it began';
CREATE INDEX ON alert_event_data (alert_id, began_at);

CREATE TABLE sink (
	sink_id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream_id       integer NOT NULL,
	definition_id   integer NOT NULL,
	name            text NOT NULL UNIQUE,
	topic           text NOT NULL,
	brokers         text,
	options         jsonb,
	final_only      boolean NOT NULL,
	transactional   boolean NOT NULL,
	outbox_limit    bigint NOT NULL,
	enabled         boolean NOT NULL DEFAULT true,
	producer_id     uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
	created_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sink IS 'sinks: where the rows of which definition go; read view stat_sink';
COMMENT ON COLUMN sink.sink_id IS 'number of the sink';
COMMENT ON COLUMN sink.stream_id IS 'stream of the definition';
COMMENT ON COLUMN sink.definition_id IS 'definition whose rows it sends';
COMMENT ON COLUMN sink.name IS 'name of the sink';
COMMENT ON COLUMN sink.topic IS 'topic that they are sent to';
COMMENT ON COLUMN sink.brokers IS 'brokers to begin with; NULL: those of the stream';
COMMENT ON COLUMN sink.options IS 'properties of librdkafka; NULL: those of the stream';
COMMENT ON COLUMN sink.final_only IS 'are only final rows sent?';
COMMENT ON COLUMN sink.transactional IS 'exactly once, by transactions of Kafka; else at least once';
COMMENT ON COLUMN sink.outbox_limit IS 'rows that may wait; one more, and the sink gives up';
COMMENT ON COLUMN sink.enabled IS 'does it run? set by start_sink() and stop_sink()';
COMMENT ON COLUMN sink.producer_id IS 'part of the transactional.id and of the name of the consumer group that holds its position';
COMMENT ON COLUMN sink.created_at IS 'when it was made';

CREATE TABLE sink_end (
	sink_id         integer PRIMARY KEY,
	next_position   bigint NOT NULL DEFAULT 1,
	lost            bigint NOT NULL DEFAULT 0,
	lost_since      timestamptz
);
COMMENT ON TABLE sink_end IS 'how far the outbox of each sink is written, by batches of its stream';
COMMENT ON COLUMN sink_end.sink_id IS 'sink';
COMMENT ON COLUMN sink_end.next_position IS 'position of the next row';
COMMENT ON COLUMN sink_end.lost IS 'rows that found the outbox full';
COMMENT ON COLUMN sink_end.lost_since IS 'when the first of them did';

CREATE TABLE sink_sent (
	sink_id         integer PRIMARY KEY,
	position        bigint NOT NULL DEFAULT 0,
	token           bigint NOT NULL DEFAULT 0,
	sent_at         timestamptz
);
COMMENT ON TABLE sink_sent IS 'how far each sink is sent, by its process';
COMMENT ON COLUMN sink_sent.sink_id IS 'sink';
COMMENT ON COLUMN sink_sent.position IS 'position of the last row that is known to be in the topic';
COMMENT ON COLUMN sink_sent.token IS 'token of that row: the broker has it, too, so that another history is noticed';
COMMENT ON COLUMN sink_sent.sent_at IS 'when that was';

CREATE TABLE outbox (
	sink_id         integer NOT NULL,
	position        bigint NOT NULL,
	token           bigint NOT NULL,
	key             text NOT NULL,
	value           text,
	written_at      timestamptz NOT NULL,
	PRIMARY KEY (sink_id, position)
);
COMMENT ON TABLE outbox IS 'rows that are to be sent, written by the transaction that has changed the result table';
COMMENT ON COLUMN outbox.sink_id IS 'sink';
COMMENT ON COLUMN outbox.position IS 'they are sent in this order';
COMMENT ON COLUMN outbox.token IS 'random number of the transaction';
COMMENT ON COLUMN outbox.key IS 'the message''s key: the row''s key columns as JSON';
COMMENT ON COLUMN outbox.value IS 'the message: the row as JSON; NULL: the row is gone';
COMMENT ON COLUMN outbox.written_at IS 'when it was written';

CREATE INDEX ON dead_letter_data (stream_id, arrived_at);
CREATE INDEX ON dead_letter_data (stream_id, topic, partition, message_offset) WHERE definition_id IS NULL;
CREATE INDEX ON late_event_data (stream_id, arrived_at);
CREATE INDEX ON late_event_data (definition_id);

-- What a dump must hold: definitions, positions and state.  Views and tables
-- that definitions made are ordinary ones and dumped as such.
SELECT pg_catalog.pg_extension_config_dump('stream', '');
SELECT pg_catalog.pg_extension_config_dump('stream_stream_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('definition', '');
SELECT pg_catalog.pg_extension_config_dump('definition_definition_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lookup', '');
SELECT pg_catalog.pg_extension_config_dump('lookup_lookup_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lookup_table', '');
SELECT pg_catalog.pg_extension_config_dump('backfill', '');
SELECT pg_catalog.pg_extension_config_dump('backfill_partition', '');
SELECT pg_catalog.pg_extension_config_dump('passed_over', '');
SELECT pg_catalog.pg_extension_config_dump('partition', '');
SELECT pg_catalog.pg_extension_config_dump('stream_topic', '');
SELECT pg_catalog.pg_extension_config_dump('progress', '');
SELECT pg_catalog.pg_extension_config_dump('local_partition', '');
SELECT pg_catalog.pg_extension_config_dump('local_message', '');
SELECT pg_catalog.pg_extension_config_dump('dead_letter_data', '');
SELECT pg_catalog.pg_extension_config_dump('dead_letter_data_dead_letter_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('late_event_data', '');
SELECT pg_catalog.pg_extension_config_dump('late_event_data_late_event_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('trimmed_letter', '');
SELECT pg_catalog.pg_extension_config_dump('alert_definition', '');
SELECT pg_catalog.pg_extension_config_dump('alert_definition_alert_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('alert_event_data', '');
SELECT pg_catalog.pg_extension_config_dump('alert_event_data_alert_event_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sink', '');
SELECT pg_catalog.pg_extension_config_dump('sink_sink_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sink_end', '');
SELECT pg_catalog.pg_extension_config_dump('sink_sent', '');
SELECT pg_catalog.pg_extension_config_dump('outbox', '');

-- ---------------------------------------------------------------------
-- roles: nothing that changes anything is executable by PUBLIC (see the end)
-- ---------------------------------------------------------------------

DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'clickstream_admin') THEN
		CREATE ROLE clickstream_admin NOLOGIN;
		COMMENT ON ROLE clickstream_admin IS 'may make streams and definitions of extension clickstream';
	END IF;
END
$$;

GRANT USAGE ON SCHEMA clickstream TO PUBLIC;

-- ---------------------------------------------------------------------
-- what expressions of definitions use: windows, places, first and last
-- ---------------------------------------------------------------------

CREATE FUNCTION window_starts(event_time timestamptz, size interval, slide interval, origin timestamptz)
RETURNS SETOF timestamptz
AS 'MODULE_PATHNAME', 'clickstream_window_starts'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 1;
COMMENT ON FUNCTION window_starts(timestamptz, interval, interval, timestamptz) IS
	'starts of the windows that hold a point in time, oldest first';

CREATE FUNCTION window_starts(event_time timestamptz, size interval, slide interval, origin timestamptz, time_zone text)
RETURNS SETOF timestamptz
AS 'MODULE_PATHNAME', 'clickstream_window_starts'
LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 1;
COMMENT ON FUNCTION window_starts(timestamptz, interval, interval, timestamptz, text) IS
	'starts of the windows that hold a point in time, oldest first, as the days and months of a time zone go; without one, months are those of UTC';

CREATE FUNCTION cumulative_windows(event_time timestamptz, size interval, step interval, origin timestamptz,
	time_zone text, OUT window_start timestamptz, OUT window_end timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_cumulative_windows'
LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 10;
COMMENT ON FUNCTION cumulative_windows(timestamptz, interval, interval, timestamptz, text) IS
	'the cumulative windows that hold a point in time, shortest first';

CREATE FUNCTION place(event_time timestamptz, topic text, partition integer, message_offset bigint)
RETURNS bytea
AS 'MODULE_PATHNAME', 'clickstream_place'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION place(timestamptz, text, integer, bigint) IS
	'an event''s place in the order of its stream, as bytes that sort like it';

CREATE FUNCTION first_step(state internal, value anyelement, place bytea)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_first_step'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION first_step(internal, anyelement, bytea) IS 'transition of first(x, place)';

CREATE FUNCTION last_step(state internal, value anyelement, place bytea)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_last_step'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION last_step(internal, anyelement, bytea) IS 'transition of last(x, place)';

CREATE FUNCTION first_combine(state internal, other internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_first_combine'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION first_combine(internal, internal) IS 'combines two states of first(x, place)';

CREATE FUNCTION last_combine(state internal, other internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_last_combine'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION last_combine(internal, internal) IS 'combines two states of last(x, place)';

CREATE FUNCTION place_serialize(state internal)
RETURNS bytea
AS 'MODULE_PATHNAME', 'clickstream_place_serialize'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION place_serialize(internal) IS 'state of first and last as bytes';

CREATE FUNCTION place_deserialize(bytes bytea, unused internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_place_deserialize'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION place_deserialize(bytea, internal) IS 'state of first and last from bytes';

CREATE FUNCTION place_final(state internal, value anyelement, place bytea)
RETURNS anyelement
AS 'MODULE_PATHNAME', 'clickstream_place_final'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION place_final(internal, anyelement, bytea) IS 'result of first(x, place) and last(x, place)';

CREATE AGGREGATE first(value anyelement, place bytea) (
	SFUNC = first_step, STYPE = internal, FINALFUNC = place_final, FINALFUNC_EXTRA,
	COMBINEFUNC = first_combine, SERIALFUNC = place_serialize, DESERIALFUNC = place_deserialize, PARALLEL = SAFE
);
COMMENT ON AGGREGATE first(anyelement, bytea) IS 'value of the row whose place comes first, NULL included';

CREATE AGGREGATE last(value anyelement, place bytea) (
	SFUNC = last_step, STYPE = internal, FINALFUNC = place_final, FINALFUNC_EXTRA,
	COMBINEFUNC = last_combine, SERIALFUNC = place_serialize, DESERIALFUNC = place_deserialize, PARALLEL = SAFE
);
COMMENT ON AGGREGATE last(anyelement, bytea) IS 'value of the row whose place comes last, NULL included';

CREATE FUNCTION approx_step(state internal, value anyelement)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_approx_step'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION approx_step(internal, anyelement) IS 'transition of approx_count_distinct(x)';

CREATE FUNCTION approx_combine(state internal, other internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_approx_combine'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION approx_combine(internal, internal) IS 'combines two states of approx_count_distinct(x)';

CREATE FUNCTION approx_serialize(state internal)
RETURNS bytea
AS 'MODULE_PATHNAME', 'clickstream_approx_serialize'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION approx_serialize(internal) IS 'state of approx_count_distinct as bytes';

CREATE FUNCTION approx_deserialize(bytes bytea, unused internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_approx_deserialize'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION approx_deserialize(bytea, internal) IS 'state of approx_count_distinct from bytes';

CREATE FUNCTION approx_final(state internal)
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_approx_final'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION approx_final(internal) IS 'result of approx_count_distinct(x)';

CREATE AGGREGATE approx_count_distinct(value anyelement) (
	SFUNC = approx_step, STYPE = internal, FINALFUNC = approx_final, COMBINEFUNC = approx_combine,
	SERIALFUNC = approx_serialize, DESERIALFUNC = approx_deserialize, PARALLEL = SAFE
);
COMMENT ON AGGREGATE approx_count_distinct(anyelement) IS
	'about how many different values there are that are not NULL: exact up to 2048, then with a standard error of 0.8 percent';

CREATE FUNCTION without_place(state anyelement, value anyelement)
RETURNS anyelement
AS 'MODULE_PATHNAME', 'clickstream_without_place'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION without_place(anyelement, anyelement) IS
	'raises: first(x) and last(x) are for definitions, which know the place';

CREATE AGGREGATE first(value anyelement) (SFUNC = without_place, STYPE = anyelement, PARALLEL = SAFE);
COMMENT ON AGGREGATE first(anyelement) IS
	'in definitions: value of the event whose place comes first; an error elsewhere';

CREATE AGGREGATE last(value anyelement) (SFUNC = without_place, STYPE = anyelement, PARALLEL = SAFE);
COMMENT ON AGGREGATE last(anyelement) IS
	'in definitions: value of the event whose place comes last; an error elsewhere';

CREATE TYPE page_stay AS (page text, began timestamptz, seconds double precision, views bigint);
COMMENT ON TYPE page_stay IS 'one page view and how long it lasted: what page_dwell() gives an array of';
COMMENT ON COLUMN page_stay.page IS 'page; NULL: those beyond the first 1000 page views, or 64 kB of pages, together';
COMMENT ON COLUMN page_stay.began IS 'time of the page view';
COMMENT ON COLUMN page_stay.seconds IS 'how long it lasted: until the next page view; NULL: not known, as of the last one';
COMMENT ON COLUMN page_stay.views IS 'how many page views it stands for: 1, but without a page';

CREATE FUNCTION dwell_step(state internal, page text, place bytea)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_dwell_step'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION dwell_step(internal, text, bytea) IS 'transition of page_dwell(page, place)';

CREATE FUNCTION dwell_step(state internal, page text, event_time timestamptz)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_dwell_time_step'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION dwell_step(internal, text, timestamptz) IS 'transition of page_dwell(page, event_time)';

CREATE FUNCTION dwell_combine(state internal, other internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_dwell_combine'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION dwell_combine(internal, internal) IS 'combines two states of page_dwell';

CREATE FUNCTION dwell_serialize(state internal)
RETURNS bytea
AS 'MODULE_PATHNAME', 'clickstream_dwell_serialize'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dwell_serialize(internal) IS 'state of page_dwell as bytes';

CREATE FUNCTION dwell_deserialize(bytes bytea, unused internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_dwell_deserialize'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION dwell_deserialize(bytea, internal) IS 'state of page_dwell from bytes';

CREATE FUNCTION dwell_final(state internal)
RETURNS page_stay[]
AS 'MODULE_PATHNAME', 'clickstream_dwell_final'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION dwell_final(internal) IS 'result of page_dwell';

CREATE AGGREGATE page_dwell(page text, place bytea) (
	SFUNC = dwell_step, STYPE = internal, FINALFUNC = dwell_final, COMBINEFUNC = dwell_combine,
	SERIALFUNC = dwell_serialize, DESERIALFUNC = dwell_deserialize, PARALLEL = SAFE
);
COMMENT ON AGGREGATE page_dwell(text, bytea) IS
	'page views in order of place, each with how long it lasted: up to the next one; a row without a page ends the last one';

CREATE AGGREGATE page_dwell(page text, event_time timestamptz) (
	SFUNC = dwell_step, STYPE = internal, FINALFUNC = dwell_final, COMBINEFUNC = dwell_combine,
	SERIALFUNC = dwell_serialize, DESERIALFUNC = dwell_deserialize, PARALLEL = SAFE
);
COMMENT ON AGGREGATE page_dwell(text, timestamptz) IS
	'page views in order of event_time, each with how long it lasted: up to the next one; a row without a page ends the last one';

CREATE FUNCTION without_place(state page_stay[], page text)
RETURNS page_stay[]
AS 'MODULE_PATHNAME', 'clickstream_dwell_without_place'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION without_place(page_stay[], text) IS 'raises: page_dwell(page) is for definitions, which know the place';

CREATE AGGREGATE page_dwell(page text) (SFUNC = without_place, STYPE = page_stay[], PARALLEL = SAFE);
COMMENT ON AGGREGATE page_dwell(text) IS
	'in definitions: page views by place, each with how long it lasted; an error elsewhere';

-- ---------------------------------------------------------------------
-- streams
-- ---------------------------------------------------------------------

CREATE FUNCTION create_stream(
	name            text,
	brokers         text        DEFAULT NULL,
	topic           text        DEFAULT NULL,
	start_from      text        DEFAULT NULL,
	start_time      timestamptz DEFAULT NULL,
	start_offsets   jsonb       DEFAULT NULL,
	watermark_delay interval    DEFAULT '10 seconds',
	idle_timeout    interval    DEFAULT '60 seconds',
	max_future      interval    DEFAULT '1 hour',
	max_drift       interval    DEFAULT '1 hour',
	visitor         text        DEFAULT 'coalesce(user_id, anonymous_id)',
	preset          text        DEFAULT 'default',
	mapping         jsonb       DEFAULT NULL,
	extra_columns   text        DEFAULT NULL,
	filter          text        DEFAULT NULL,
	dedupe_by       text        DEFAULT NULL,
	dedupe_horizon  interval    DEFAULT '1 hour',
	options         jsonb       DEFAULT NULL,
	on_error        text        DEFAULT 'dead_letter',
	retention       interval    DEFAULT NULL,
	check_broker    boolean     DEFAULT true,
	if_not_exists   boolean     DEFAULT false,
	partitions      integer[]   DEFAULT NULL,
	decode_workers  integer     DEFAULT 0)
RETURNS integer
AS 'MODULE_PATHNAME', 'clickstream_create_stream'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_stream(text, text, text, text, timestamptz, jsonb, interval, interval, interval, interval, text, text,
	jsonb, text, text, text, interval, jsonb, text, interval, boolean, boolean, integer[], integer) IS
	'makes a stream of events from a topic; without brokers, from a built-in local topic; returns its id';

CREATE FUNCTION alter_stream(
	name            text,
	watermark_delay interval DEFAULT NULL,
	idle_timeout    interval DEFAULT NULL,
	max_future      interval DEFAULT NULL,
	max_drift       interval DEFAULT NULL,
	brokers         text     DEFAULT NULL,
	options         jsonb    DEFAULT NULL,
	on_error        text     DEFAULT NULL,
	retention       interval DEFAULT NULL,
	check_broker    boolean  DEFAULT true,
	preset          text     DEFAULT NULL,
	mapping         jsonb    DEFAULT NULL,
	decode_workers  integer  DEFAULT NULL,
	-- what cannot be altered: to say so
	topic           text        DEFAULT NULL,
	start_from      text        DEFAULT NULL,
	start_time      timestamptz DEFAULT NULL,
	start_offsets   jsonb       DEFAULT NULL,
	visitor         text        DEFAULT NULL,
	extra_columns   text        DEFAULT NULL,
	filter          text        DEFAULT NULL,
	dedupe_by       text        DEFAULT NULL,
	dedupe_horizon  interval    DEFAULT NULL,
	partitions      integer[]   DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_stream'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_stream(text, interval, interval, interval, interval, text, jsonb, text, interval, boolean, text, jsonb, integer,
	text, text, timestamptz, jsonb, text, text, text, text, interval, integer[]) IS
	'changes a stream, running or not; NULL leaves a setting as it is; preset and mapping hold for the messages that are read from then on';

CREATE FUNCTION drop_stream(name text, if_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_drop_stream'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION drop_stream(text, boolean) IS 'drops a stream with its definitions and their tables';

CREATE FUNCTION start(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_start'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION start(text) IS 'lets a stream run from commit on, also after the server starts again';

CREATE FUNCTION stop(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_stop'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION stop(text) IS 'stops a stream at commit; start() goes on where it was';

CREATE FUNCTION reset(
	name          text,
	start_from    text        DEFAULT NULL,
	start_time    timestamptz DEFAULT NULL,
	start_offsets jsonb       DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_reset'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION reset(text, text, timestamptz, jsonb) IS
	'empties results, state and ledger of a stream and begins again, in one transaction';

CREATE FUNCTION seek(stream text, partition integer, message_offset bigint, topic text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_seek'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION seek(text, integer, bigint, text) IS
	'goes on at a later offset of a partition, without the messages between, which are skipped in the ledger; returns how many offsets that are';

CREATE FUNCTION skip_message(stream text, partition integer, message_offset bigint, topic text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_skip_message'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION skip_message(text, integer, bigint, text) IS
	'passes over the message that is to be read next, for one at which a stream has stopped';

CREATE FUNCTION is_preloaded()
RETURNS boolean
AS 'MODULE_PATHNAME', 'clickstream_is_preloaded'
LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION is_preloaded() IS 'is the library in shared_preload_libraries, so that streams can run?';

-- ---------------------------------------------------------------------
-- sessions
-- ---------------------------------------------------------------------

-- a function, so that further measures can be put behind these
CREATE FUNCTION session_measures() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN $$
		count(*) AS event_count,
		count(DISTINCT page_url) AS pages_viewed,
		min(event_time) AS first_event,
		max(event_time) AS last_event,
		trunc(extract(epoch FROM max(event_time) - min(event_time)))::bigint AS session_duration_seconds,
		first(referrer_url) AS landing_referrer,
		first(page_url) AS landing_page,
		last(page_url) FILTER (WHERE page_url IS NOT NULL) AS exit_page,
		first(utm_source) AS utm_source,
		first(utm_campaign) AS utm_campaign,
		first(device_type) AS device_type$$;
COMMENT ON FUNCTION session_measures() IS
	'measures of a table of sessions for which none are given; yours go behind them: session_measures() || '', sum(x) AS y''';

CREATE FUNCTION create_session(
	name          text,
	stream        text,
	gap           interval DEFAULT '30 minutes',
	measures      text     DEFAULT session_measures(),
	key           text     DEFAULT NULL,
	filter        text     DEFAULT NULL,
	max_length    interval DEFAULT '24 hours',
	split_on      text     DEFAULT NULL,
	end_when      text     DEFAULT NULL,
	split_at_midnight boolean DEFAULT false,
	time_zone     text     DEFAULT NULL,
	allowed_lateness interval DEFAULT '0',
	emit          text     DEFAULT 'closed',
	emit_interval interval DEFAULT '10 seconds',
	if_not_exists boolean  DEFAULT false,
	backfill      boolean  DEFAULT false,
	backfill_from timestamptz DEFAULT NULL)
RETURNS regclass
AS 'MODULE_PATHNAME', 'clickstream_create_session'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_session(text, text, interval, text, text, text, interval, text, text, boolean, text, interval, text, interval, boolean, boolean, timestamptz) IS
	'makes a table of sessions: events of one visitor with no more than gap between them';

CREATE FUNCTION alter_session(
	name             regclass,
	allowed_lateness interval DEFAULT NULL,
	emit_interval    interval DEFAULT NULL,
	gap              interval DEFAULT NULL,
	measures         text     DEFAULT NULL,
	key              text     DEFAULT NULL,
	filter           text     DEFAULT NULL,
	max_length       interval DEFAULT NULL,
	split_on         text     DEFAULT NULL,
	end_when         text     DEFAULT NULL,
	split_at_midnight boolean DEFAULT NULL,
	time_zone        text     DEFAULT NULL,
	emit             text     DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_session'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_session(regclass, interval, interval, interval, text, text, text, interval, text, text, boolean, text, text) IS
	'changes allowed_lateness and emit_interval; raises for whatever would change the meaning of what is kept';

CREATE FUNCTION drop_session(name text, if_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_drop_session'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION drop_session(text, boolean) IS 'drops a session definition and its table';

-- ---------------------------------------------------------------------
-- windows
-- ---------------------------------------------------------------------

CREATE FUNCTION create_window(
	name          text,
	stream        text,
	size          interval,
	measures      text,
	slide         interval    DEFAULT NULL,
	step          interval    DEFAULT NULL,
	group_by      text        DEFAULT NULL,
	filter        text        DEFAULT NULL,
	time_zone     text        DEFAULT NULL,
	origin        timestamptz DEFAULT NULL,
	allowed_lateness interval DEFAULT '0',
	emit          text        DEFAULT NULL,
	emit_interval interval    DEFAULT '10 seconds',
	group_limit   bigint      DEFAULT 1000000,
	if_not_exists boolean     DEFAULT false,
	backfill      boolean     DEFAULT false,
	backfill_from timestamptz DEFAULT NULL)
RETURNS regclass
AS 'MODULE_PATHNAME', 'clickstream_create_window'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_window(text, text, interval, text, interval, interval, text, text, text, timestamptz, interval,
	text, interval, bigint, boolean, boolean, timestamptz) IS
	'makes a table of tumbling windows, with a slide of hopping ones, with a step of cumulative ones: measures by time and group';

CREATE FUNCTION alter_window(
	name          regclass,
	emit_interval interval DEFAULT NULL,
	group_limit   bigint   DEFAULT NULL,
	size          interval DEFAULT NULL,
	slide         interval DEFAULT NULL,
	measures      text     DEFAULT NULL,
	group_by      text     DEFAULT NULL,
	filter        text     DEFAULT NULL,
	emit          text     DEFAULT NULL,
	step          interval DEFAULT NULL,
	time_zone     text     DEFAULT NULL,
	origin        timestamptz DEFAULT NULL,
	allowed_lateness interval DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_window'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_window(regclass, interval, bigint, interval, interval, text, text, text, text, interval, text,
	timestamptz, interval) IS
	'changes emit_interval or group_limit of a window; raises for what would change the meaning of what is kept';

CREATE FUNCTION drop_window(name text, if_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_drop_window'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION drop_window(text, boolean) IS 'drops a window definition and its table';

-- ---------------------------------------------------------------------
-- funnels
-- ---------------------------------------------------------------------

CREATE TYPE step AS (name text, condition text, optional boolean);
COMMENT ON TYPE step IS 'one step of a funnel';
COMMENT ON COLUMN step.name IS 'name of the step; its time is column <name>_time';
COMMENT ON COLUMN step.condition IS 'SQL condition over the columns of an event';
COMMENT ON COLUMN step.optional IS 'true: an attempt may leave it out';

CREATE FUNCTION step(name text, condition text, optional boolean DEFAULT false)
RETURNS step
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ROW(name, condition, optional)::clickstream.step;
COMMENT ON FUNCTION step(text, text, boolean) IS 'one step of a funnel, for create_funnel()';

CREATE TYPE exclusion AS (condition text, from_step text, to_step text);
COMMENT ON TYPE exclusion IS 'what must not come between two steps of a funnel';
COMMENT ON COLUMN exclusion.condition IS 'SQL condition over the columns of an event';
COMMENT ON COLUMN exclusion.from_step IS 'name of the step behind which it holds; NULL: the first';
COMMENT ON COLUMN exclusion.to_step IS 'name of the step up to which it holds; NULL: the last';

CREATE FUNCTION exclusion(condition text, from_step text DEFAULT NULL, to_step text DEFAULT NULL)
RETURNS exclusion
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ROW(condition, from_step, to_step)::clickstream.exclusion;
COMMENT ON FUNCTION exclusion(text, text, text) IS 'what must not come between two steps of a funnel, for create_funnel()';

CREATE FUNCTION create_funnel(
	name             text,
	stream           text,
	within           interval,
	steps            step[],
	mode             text        DEFAULT 'ordered',
	key              text        DEFAULT NULL,
	filter           text        DEFAULT NULL,
	max_length       interval    DEFAULT NULL,
	strict_increase  boolean     DEFAULT false,
	within_exclusive boolean     DEFAULT false,
	exclusions       exclusion[] DEFAULT NULL,
	breakdown        text        DEFAULT NULL,
	allowed_lateness interval    DEFAULT NULL,
	emit             text        DEFAULT NULL,
	emit_interval    interval    DEFAULT '10 seconds',
	if_not_exists    boolean     DEFAULT false,
	backfill         boolean     DEFAULT false,
	backfill_from    timestamptz DEFAULT NULL)
RETURNS regclass
AS 'MODULE_PATHNAME', 'clickstream_create_funnel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_funnel(text, text, interval, step[], text, text, text, interval, boolean, boolean, exclusion[], text,
	interval, text, interval, boolean, boolean, timestamptz) IS
	'makes a table of attempts to go through steps: one row for each, with the level it reached';

CREATE FUNCTION alter_funnel(
	name             regclass,
	within           interval    DEFAULT NULL,
	steps            step[]      DEFAULT NULL,
	key              text        DEFAULT NULL,
	filter           text        DEFAULT NULL,
	max_length       interval    DEFAULT NULL,
	mode             text        DEFAULT NULL,
	strict_increase  boolean     DEFAULT NULL,
	within_exclusive boolean     DEFAULT NULL,
	exclusions       exclusion[] DEFAULT NULL,
	breakdown        text        DEFAULT NULL,
	allowed_lateness interval    DEFAULT NULL,
	emit             text        DEFAULT NULL,
	emit_interval    interval    DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_funnel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_funnel(regclass, interval, step[], text, text, interval, text, boolean, boolean, exclusion[], text,
	interval, text, interval) IS
	'changes emit_interval of a funnel; raises for what would change the meaning of what is kept';

CREATE FUNCTION drop_funnel(name text, if_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_drop_funnel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION drop_funnel(text, boolean) IS 'drops a funnel definition and its table';

CREATE VIEW funnel_shape WITH (security_barrier) AS
SELECT d.table_oid, a.attname AS key_column, d.steps, coalesce(d.optional_steps, '{}') AS optional_steps, d.mode
FROM clickstream.definition d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.view_oid AND a.attnum = 1
WHERE d.kind = 'f' AND pg_catalog.has_table_privilege(d.table_oid::pg_catalog.oid, 'SELECT');
COMMENT ON VIEW funnel_shape IS 'funnels whose tables you may read';
COMMENT ON COLUMN funnel_shape.table_oid IS 'table of the attempts';
COMMENT ON COLUMN funnel_shape.key_column IS 'its column of whose attempt it is';
COMMENT ON COLUMN funnel_shape.steps IS 'names of the steps';
COMMENT ON COLUMN funnel_shape.optional_steps IS 'numbers of the steps that may be left out';
COMMENT ON COLUMN funnel_shape.mode IS 'ordered, strict, unordered';
GRANT SELECT ON funnel_shape TO PUBLIC;

CREATE FUNCTION funnel_report(
	t          regclass,
	start_time timestamptz DEFAULT NULL,
	end_time   timestamptz DEFAULT NULL,
	breakdown  text[]      DEFAULT NULL,
	bucket     interval    DEFAULT NULL,
	time_zone  text        DEFAULT 'UTC',
	OUT bucket_start       timestamptz,
	OUT breakdown_value    text[],
	OUT step               integer,
	OUT name               text,
	OUT reached            bigint,
	OUT attempts           bigint,
	OUT rate_from_previous numeric,
	OUT rate_from_first    numeric,
	OUT median_time        interval,
	OUT average_time       interval)
RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	shape clickstream.funnel_shape;
	missing text;
	times text;
	values_of text := 'NULL::text[]';
	bucket_of text := 'NULL::timestamptz';
BEGIN
	IF t IS NULL THEN
		RAISE EXCEPTION 't must be given' USING ERRCODE = 'null_value_not_allowed';
	ELSIF bucket <= '0' OR extract(month FROM bucket) <> 0 OR extract(year FROM bucket) <> 0 THEN
		RAISE EXCEPTION 'bucket must be greater than zero, without months'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Give an interval such as ''1 hour'', ''1 day'' or ''7 days''.';
	END IF;
	SELECT f.* INTO shape FROM clickstream.funnel_shape f WHERE f.table_oid = t;
	IF NOT FOUND THEN
		RAISE EXCEPTION '"%" is not a funnel', t
			USING ERRCODE = 'wrong_object_type', DETAIL = 'Or you may not read it.',
				HINT = 'Give the table that create_funnel() has made, not a view over it.';
	END IF;
	SELECT b INTO missing FROM unnest(breakdown) AS b
	WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t AND a.attname = b AND a.attnum > 0);
	IF FOUND THEN
		RAISE EXCEPTION 'table "%" has no column "%"', t, missing
			USING ERRCODE = 'undefined_column', HINT = 'Name columns of the table in breakdown, such as ''{utm_source}''.';
	END IF;
	SELECT string_agg(format('f.%I', s || '_time'), ', ' ORDER BY n) INTO times FROM unnest(shape.steps) WITH ORDINALITY AS u(s, n);
	IF breakdown IS NOT NULL THEN
		SELECT format('ARRAY[%s]', string_agg(format('f.%I::text', b), ', ' ORDER BY n)) INTO values_of
		FROM unnest(breakdown) WITH ORDINALITY AS u(b, n);
	END IF;
	IF bucket IS NOT NULL THEN
		-- weeks begin on Monday
		bucket_of := format('date_bin(%L, f.started_at AT TIME ZONE %L, ''2001-01-01'') AT TIME ZONE %2$L', bucket, time_zone);
	END IF;
	RETURN QUERY EXECUTE format($query$
		WITH attempt AS (
			SELECT %s AS bucket, %s AS grp, f.%I AS who, f.started_at, f.attempt_id,
				f.closed_reason IS NOT DISTINCT FROM 'excluded' AS is_excluded, ARRAY[%s] AS times
			FROM %s f
			WHERE ($1 IS NULL OR f.started_at >= $1) AND ($2 IS NULL OR f.started_at < $2)
		), ranked AS (
			-- unordered: the n-th step reached, whichever it is
			SELECT dense_rank() OVER (ORDER BY bucket, grp) AS g, bucket, grp, who, started_at, attempt_id, is_excluded,
				CASE WHEN $5 = 'unordered'
					THEN ARRAY(SELECT x FROM unnest(times) AS x WHERE x IS NOT NULL ORDER BY x) ELSE times END AS times,
				(SELECT CASE WHEN $5 = 'unordered' THEN count(*) ELSE max(n) END
					FROM unnest(times) WITH ORDINALITY AS u(x, n) WHERE x IS NOT NULL) AS reach
			FROM attempt
		), best AS (
			-- of each key the attempt that came furthest, the first of them; spoilt by an exclusion it counts as none
			SELECT DISTINCT ON (g, who) g, is_excluded, times
			FROM ranked ORDER BY g, who, reach DESC NULLS LAST, is_excluded, started_at, attempt_id
		), tried AS (
			SELECT g, n, count(*) AS attempts
			FROM ranked, unnest(times) WITH ORDINALITY AS u(x, n)
			WHERE NOT is_excluded AND x IS NOT NULL GROUP BY g, n
		), reached AS (
			SELECT g, n, count(*) AS reached, percentile_cont(0.5) WITHIN GROUP (ORDER BY took) AS median, avg(took) AS average
			FROM (
				SELECT g, n, x - (SELECT times[m] FROM generate_series(n - 1, 1, -1) AS m WHERE times[m] IS NOT NULL LIMIT 1) AS took
				FROM best, unnest(times) WITH ORDINALITY AS u(x, n)
				WHERE NOT is_excluded AND x IS NOT NULL) AS steps_of_best
			GROUP BY g, n
		), counted AS (
			SELECT g, bucket, grp, n, coalesce(reached, 0) AS reached, coalesce(attempts, 0) AS attempts, median, average,
				(SELECT max(m) FROM generate_series(1, n - 1) AS m WHERE m <> ALL ($4)) AS previous
			FROM (SELECT DISTINCT g, bucket, grp FROM ranked) AS b CROSS JOIN generate_series(1, cardinality($3)) AS n
			LEFT JOIN reached USING (g, n) LEFT JOIN tried USING (g, n)
		)
		SELECT c.bucket, c.grp, c.n::integer, CASE WHEN $5 = 'unordered' THEN NULL ELSE $3[c.n] END, c.reached, c.attempts,
			round(c.reached / nullif(p.reached, 0)::numeric, 4), round(c.reached / nullif(f.reached, 0)::numeric, 4),
			c.median, c.average
		FROM counted c
		LEFT JOIN counted p ON p.g = c.g AND p.n = c.previous
		LEFT JOIN counted f ON f.g = c.g AND f.n = 1
		ORDER BY c.g, c.n
		$query$, bucket_of, values_of, shape.key_column, times, t)
	USING start_time, end_time, shape.steps, shape.optional_steps, shape.mode;
END
$$;
COMMENT ON FUNCTION funnel_report(regclass, timestamptz, timestamptz, text[], interval, text) IS
	'how far the keys of a funnel came: for each step who reached it, rates, and the time from the step before; by bucket of started_at and by columns of the table if asked for; over the rows of its table: open attempts count with emit => ''changes'' only, and without them the rates of the latest attempts are too high, so give as end_time the watermark less "within"';

CREATE FUNCTION funnel_time_to_convert(
	t          regclass,
	from_step  integer     DEFAULT 1,
	to_step    integer     DEFAULT NULL,
	bins       integer     DEFAULT NULL,
	start_time timestamptz DEFAULT NULL,
	end_time   timestamptz DEFAULT NULL,
	OUT bin_start    interval,
	OUT keys         bigint,
	OUT median_time  interval,
	OUT average_time interval)
RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	shape clickstream.funnel_shape;
	last integer;
	times text;
BEGIN
	IF t IS NULL THEN
		RAISE EXCEPTION 't must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT f.* INTO shape FROM clickstream.funnel_shape f WHERE f.table_oid = t;
	IF NOT FOUND THEN
		RAISE EXCEPTION '"%" is not a funnel', t
			USING ERRCODE = 'wrong_object_type', DETAIL = 'Or you may not read it.',
				HINT = 'Give the table that create_funnel() has made, not a view over it.';
	END IF;
	last := coalesce(to_step, cardinality(shape.steps));
	IF from_step IS NULL OR from_step < 1 OR last > cardinality(shape.steps) OR from_step >= last THEN
		RAISE EXCEPTION 'there is no way from step % to step %', from_step, last
			USING ERRCODE = 'invalid_parameter_value', DETAIL = format('The funnel has steps 1 to %s.', cardinality(shape.steps)),
				HINT = 'Give a from_step that is less than to_step.';
	ELSIF bins NOT BETWEEN 1 AND 1000 THEN
		RAISE EXCEPTION 'bins must be from 1 to 1000' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	SELECT string_agg(format('f.%I', s || '_time'), ', ' ORDER BY n) INTO times FROM unnest(shape.steps) WITH ORDINALITY AS u(s, n);
	RETURN QUERY EXECUTE format($query$
		WITH attempt AS (
			SELECT f.%I AS who, f.started_at, f.attempt_id, f.closed_reason IS NOT DISTINCT FROM 'excluded' AS is_excluded,
				CASE WHEN $5 = 'unordered' THEN ARRAY(SELECT x FROM unnest(ARRAY[%s]) AS x WHERE x IS NOT NULL ORDER BY x)
					ELSE ARRAY[%2$s] END AS times
			FROM %s f
			WHERE ($3 IS NULL OR f.started_at >= $3) AND ($4 IS NULL OR f.started_at < $4)
		), best AS (
			SELECT DISTINCT ON (who) is_excluded, times
			FROM attempt
			ORDER BY who, (SELECT max(n) FROM unnest(times) WITH ORDINALITY AS u(x, n) WHERE x IS NOT NULL) DESC NULLS LAST,
				is_excluded, started_at, attempt_id
		), took AS (
			SELECT extract(epoch FROM times[$2] - times[$1])::float8 AS s FROM best WHERE NOT is_excluded AND times[$2] IS NOT NULL
				AND times[$1] IS NOT NULL
		), range AS (
			SELECT floor(min(s)) AS low, ceil(max(s)) AS high, percentile_cont(0.5) WITHIN GROUP (ORDER BY s) AS median, avg(s) AS average,
				coalesce($6, least(60, greatest(1, ceil(cbrt(count(*)::float8))))) AS n
			FROM took
		), width AS (
			SELECT r.*, CASE WHEN high > low THEN ceil((high - low) / n) ELSE 60 END AS w FROM range r WHERE low IS NOT NULL
		)
		SELECT make_interval(secs => low + i * w), (SELECT count(*) FROM took WHERE floor((s - low) / w) = i),
			make_interval(secs => median), make_interval(secs => average)
		FROM width, generate_series(0, n::int) AS i ORDER BY i
		$query$, shape.key_column, times, t)
	USING from_step, last, start_time, end_time, shape.mode, bins;
END
$$;
COMMENT ON FUNCTION funnel_time_to_convert(regclass, integer, integer, integer, timestamptz, timestamptz) IS
	'how long the keys of a funnel took from one step to another, in bins of whole seconds; median and average of all are in each row';

-- ---------------------------------------------------------------------
-- rollups
-- ---------------------------------------------------------------------

CREATE FUNCTION create_rollup(
	name          text,
	source        regclass,
	size          interval,
	measures      text,
	group_by      text        DEFAULT NULL,
	filter        text        DEFAULT NULL,
	origin        timestamptz DEFAULT '1970-01-01 00:00:00+00',
	emit          text        DEFAULT NULL,
	emit_interval interval    DEFAULT '10 seconds',
	if_not_exists boolean     DEFAULT false,
	backfill      boolean     DEFAULT false)
RETURNS regclass
AS 'MODULE_PATHNAME', 'clickstream_create_rollup'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_rollup(text, regclass, interval, text, text, text, timestamptz, text, interval, boolean, boolean) IS
	'makes a table of measures over closed sessions or attempts, by the time they started';

CREATE FUNCTION alter_rollup(
	name          regclass,
	emit_interval interval DEFAULT NULL,
	size          interval DEFAULT NULL,
	measures      text     DEFAULT NULL,
	group_by      text     DEFAULT NULL,
	filter        text     DEFAULT NULL,
	emit          text     DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_rollup'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_rollup(regclass, interval, interval, text, text, text, text) IS
	'changes emit_interval of a rollup; raises for what would change the meaning of what is kept';

CREATE FUNCTION drop_rollup(name text, if_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_drop_rollup'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION drop_rollup(text, boolean) IS 'drops a rollup definition and its table';

-- ---------------------------------------------------------------------
-- event log
-- ---------------------------------------------------------------------

CREATE FUNCTION create_event_log(
	name          text,
	stream        text,
	retention     interval DEFAULT NULL,
	if_not_exists boolean  DEFAULT false)
RETURNS regclass
AS 'MODULE_PATHNAME', 'clickstream_create_event_log'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_event_log(text, text, interval, boolean) IS
	'makes a table of every decoded event of a stream, partitioned by day of arrival';

CREATE FUNCTION alter_event_log(name regclass, retention interval DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_event_log'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_event_log(regclass, interval) IS 'changes how long an event log keeps events';

CREATE FUNCTION drop_event_log(name text, if_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_drop_event_log'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION drop_event_log(text, boolean) IS 'drops an event log and its table';

-- ---------------------------------------------------------------------
-- lookups: columns of tables and views for a stream's definitions
-- ---------------------------------------------------------------------

CREATE FUNCTION create_lookup(
	name          text,
	stream        text,
	key           text,
	source        text    DEFAULT NULL,
	event_key     text    DEFAULT NULL,
	columns       text    DEFAULT NULL,
	if_not_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_create_lookup'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_lookup(text, text, text, text, text, text, boolean) IS
	'lets the definitions of a stream use the columns of a table or view, as name.column: of the row whose key is that of the event';

CREATE FUNCTION create_lookup_table(name text, stream text, key text, columns text)
RETURNS regclass
AS 'MODULE_PATHNAME', 'clickstream_create_lookup_table'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_lookup_table(text, text, text, text) IS
	'has a stream without definitions keep a table in step with its topic; create_lookup() with columns and without stream does it all';

CREATE FUNCTION create_lookup(
	name          text,
	key           text,
	columns       text,
	brokers       text      DEFAULT NULL,
	topic         text      DEFAULT NULL,
	options       jsonb     DEFAULT NULL,
	on_error      text      DEFAULT 'dead_letter',
	check_broker  boolean   DEFAULT true,
	if_not_exists boolean   DEFAULT false)
RETURNS regclass
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $create_lookup$
DECLARE
	reader text;
	existing pg_catalog.regclass;
BEGIN
	IF name IS NULL OR key IS NULL OR columns IS NULL THEN
		RAISE EXCEPTION 'name, key and columns must be given' USING ERRCODE = 'null_value_not_allowed',
			HINT = 'key is the column by which rows are found; columns are names and types, as in ''email text, plan_type text''.';
	END IF;
	SELECT p[pg_catalog.cardinality(p)] INTO reader FROM pg_catalog.parse_ident(name) AS p;
	SELECT t.table_oid INTO existing FROM clickstream.lookup_table t JOIN clickstream.stream s USING (stream_id)
	WHERE s.name OPERATOR(pg_catalog.=) reader;
	IF FOUND AND if_not_exists THEN
		RAISE NOTICE 'lookup "%" exists already, skipping', reader USING ERRCODE = 'duplicate_object';
		RETURN existing;
	END IF;
	PERFORM clickstream.create_stream(reader, brokers => brokers, topic => topic, start_from => 'earliest', visitor => 'message_key',
		options => options, on_error => on_error, check_broker => check_broker);
	RETURN clickstream.create_lookup_table(name, reader, key, columns);
END
$create_lookup$;
COMMENT ON FUNCTION create_lookup(text, text, text, text, text, jsonb, text, boolean, boolean) IS
	'makes a table and a stream of the same name that keeps it in step with an upsert topic: rows by their key, tombstones, what Debezium writes; without brokers, from a built-in local topic';

CREATE FUNCTION alter_lookup(
	name          text,
	stream        text,
	source        text    DEFAULT NULL,
	key           text    DEFAULT NULL,
	add_columns   text    DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_lookup'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_lookup(text, text, text, text, text) IS
	'has a lookup read another table or view, by another key, or more columns; those that it has must stay what they are';

CREATE FUNCTION drop_lookup(name text, stream text, if_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_drop_lookup'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION drop_lookup(text, text, boolean) IS
	'drops a lookup whose columns no definition uses; what the event log has recorded stays';

-- ---------------------------------------------------------------------
-- questions to any table: funnels, sequences, retention, sessions, paths
-- ---------------------------------------------------------------------

CREATE FUNCTION event_list_combine(state internal, other internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_event_list_combine'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION event_list_combine(internal, internal) IS 'combines states of window_funnel, sequence_match and sequence_count';

CREATE FUNCTION event_list_serialize(state internal)
RETURNS bytea
AS 'MODULE_PATHNAME', 'clickstream_event_list_serialize'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION event_list_serialize(internal) IS 'state of window_funnel, sequence_match and sequence_count as bytes';

CREATE FUNCTION window_funnel_step(state internal, within interval, mode text, event_time timestamptz, VARIADIC conditions "any")
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_window_funnel_step'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION window_funnel_step(internal, interval, text, timestamptz, VARIADIC "any") IS 'transition of window_funnel';

CREATE FUNCTION window_funnel_deserialize(bytes bytea, unused internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_window_funnel_deserialize'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION window_funnel_deserialize(bytea, internal) IS 'state of window_funnel from bytes';

CREATE FUNCTION window_funnel_final(state internal)
RETURNS integer
AS 'MODULE_PATHNAME', 'clickstream_window_funnel_final'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION window_funnel_final(internal) IS 'result of window_funnel';

CREATE AGGREGATE window_funnel(within interval, mode text, event_time timestamptz, VARIADIC conditions "any") (
	SFUNC = window_funnel_step, STYPE = internal, SSPACE = 256, FINALFUNC = window_funnel_final,
	COMBINEFUNC = event_list_combine, SERIALFUNC = event_list_serialize, DESERIALFUNC = window_funnel_deserialize,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE window_funnel(interval, text, timestamptz, VARIADIC "any") IS
	'how many of the conditions, up to 32, were met one after the other within that time of the first; mode as in ClickHouse''s windowFunnel';

CREATE FUNCTION sequence_step(state internal, pattern text, event_time timestamptz, VARIADIC conditions "any")
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_sequence_step'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION sequence_step(internal, text, timestamptz, VARIADIC "any") IS 'transition of sequence_match and sequence_count';

CREATE FUNCTION sequence_deserialize(bytes bytea, unused internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'clickstream_sequence_deserialize'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sequence_deserialize(bytea, internal) IS 'state of sequence_match and sequence_count from bytes';

CREATE FUNCTION sequence_match_final(state internal)
RETURNS boolean
AS 'MODULE_PATHNAME', 'clickstream_sequence_match_final'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION sequence_match_final(internal) IS 'result of sequence_match';

CREATE FUNCTION sequence_count_final(state internal)
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_sequence_count_final'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION sequence_count_final(internal) IS 'result of sequence_count';

CREATE AGGREGATE sequence_match(pattern text, event_time timestamptz, VARIADIC conditions "any") (
	SFUNC = sequence_step, STYPE = internal, SSPACE = 256, FINALFUNC = sequence_match_final,
	COMBINEFUNC = event_list_combine, SERIALFUNC = event_list_serialize, DESERIALFUNC = sequence_deserialize,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE sequence_match(text, timestamptz, VARIADIC "any") IS
	'is there a sequence of events that meet the pattern, such as (?1).*(?2)(?t<=3600)(?3) with times in seconds?';

CREATE AGGREGATE sequence_count(pattern text, event_time timestamptz, VARIADIC conditions "any") (
	SFUNC = sequence_step, STYPE = internal, SSPACE = 256, FINALFUNC = sequence_count_final,
	COMBINEFUNC = event_list_combine, SERIALFUNC = event_list_serialize, DESERIALFUNC = sequence_deserialize,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE sequence_count(text, timestamptz, VARIADIC "any") IS
	'how many sequences of events meet the pattern, none of them overlapping';

CREATE FUNCTION retention_step(state bigint, VARIADIC conditions "any")
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_retention_step'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION retention_step(bigint, VARIADIC "any") IS 'transition of retention';

CREATE FUNCTION retention_combine(state bigint, other bigint)
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_retention_combine'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION retention_combine(bigint, bigint) IS 'combines states of retention';

CREATE FUNCTION retention_final(state bigint, VARIADIC conditions "any")
RETURNS boolean[]
AS 'MODULE_PATHNAME', 'clickstream_retention_final'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION retention_final(bigint, VARIADIC "any") IS 'result of retention';

CREATE AGGREGATE retention(VARIADIC conditions "any") (
	SFUNC = retention_step, STYPE = bigint, FINALFUNC = retention_final, FINALFUNC_EXTRA, COMBINEFUNC = retention_combine,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE retention(VARIADIC "any") IS
	'for each of the conditions, up to 32: was it met by a row, and the first one by the same or another?';

CREATE FUNCTION sessionize(event_time timestamptz, gap interval)
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_sessionize'
LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION sessionize(timestamptz, interval) IS
	'window function: number of the session, from 1, within the partition, whose rows must be in order of event_time; one ends where the next row is more than gap away';

-- Expressions of the caller, by the caller's rights and search_path: so everything else is named in full.  Each ends a line:
-- it may end in a comment.
CREATE FUNCTION path_flow(
	t          regclass,
	start_time timestamptz DEFAULT NULL,
	end_time   timestamptz DEFAULT NULL,
	page       text        DEFAULT 'page_url',
	visitor    text        DEFAULT 'effective_user_id',
	event_time text        DEFAULT 'event_time',
	filter     text        DEFAULT NULL,
	gap        interval    DEFAULT '30 minutes',
	start_page text        DEFAULT NULL,
	max_steps  integer     DEFAULT 5,
	max_pages  integer     DEFAULT 10,
	collapse   boolean     DEFAULT true,
	OUT step        integer,
	OUT source      text,
	OUT target      text,
	OUT paths       bigint,
	OUT rate        numeric,
	OUT median_time interval)
RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
BEGIN
	IF t IS NULL OR page IS NULL OR visitor IS NULL OR event_time IS NULL OR gap IS NULL OR collapse IS NULL THEN
		RAISE EXCEPTION '% must be given', CASE WHEN t IS NULL THEN 't' WHEN page IS NULL THEN 'page' WHEN visitor IS NULL THEN 'visitor'
			WHEN event_time IS NULL THEN 'event_time' WHEN gap IS NULL THEN 'gap' ELSE 'collapse' END USING ERRCODE = 'null_value_not_allowed';
	ELSIF max_steps IS NULL OR max_steps < 1 OR max_steps > 50 THEN
		RAISE EXCEPTION 'max_steps must be from 1 to 50' USING ERRCODE = 'invalid_parameter_value';
	ELSIF max_pages IS NULL OR max_pages < 1 THEN
		RAISE EXCEPTION 'max_pages must be greater than zero' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	RETURN QUERY EXECUTE pg_catalog.format($query$
		WITH event AS (
			SELECT (%1$s
				)::pg_catalog.text AS who, (%2$s
				)::pg_catalog.timestamptz AS at, (%3$s
				)::pg_catalog.text AS page FROM %4$s AS t
			WHERE (%5$s
				) AND ($1 IS NULL OR (%2$s
				) >= $1) AND ($2 IS NULL OR (%2$s
				) < $2)
		), numbered AS (
			SELECT who, at, page, clickstream.sessionize(at, $3) OVER (PARTITION BY who ORDER BY at, page) AS session
			FROM event WHERE who IS NOT NULL AND at IS NOT NULL AND page IS NOT NULL
		), marked AS (
			SELECT who, session, at, page, pg_catalog.lag(page) OVER w AS before,
				$4 IS NULL OR pg_catalog.bool_or(page = $4) OVER w AS has_begun
			FROM numbered WINDOW w AS (PARTITION BY who, session ORDER BY at, page)
		), placed AS (
			SELECT who, session, at, page, pg_catalog.row_number() OVER (PARTITION BY who, session ORDER BY at, page) AS place
			FROM marked WHERE has_begun AND (NOT $5 OR page IS DISTINCT FROM before)
		), counted AS (
			SELECT place, page, pg_catalog.row_number() OVER (PARTITION BY place ORDER BY pg_catalog.count(*) DESC, page) <= $6 AS is_shown
			FROM placed WHERE place <= $7 + 1 GROUP BY place, page
		), named AS (
			SELECT p.who, p.session, p.place, p.at, CASE WHEN c.is_shown THEN p.page ELSE '(other)' END AS page
			FROM placed AS p JOIN counted AS c ON c.place = p.place AND c.page = p.page
		), step AS (
			SELECT place, page AS source, pg_catalog.lead(page) OVER w AS target, pg_catalog.lead(at) OVER w - at AS took
			FROM named WINDOW w AS (PARTITION BY who, session ORDER BY place)
		), total AS (
			SELECT place::pg_catalog.int4 AS step, source, target, pg_catalog.count(*) AS paths,
				pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY took) AS median_time
			FROM step WHERE place <= $7 GROUP BY place, source, target
		)
		SELECT step, source, target, paths, pg_catalog.round(paths::pg_catalog.numeric / pg_catalog.sum(paths) OVER (PARTITION BY step, source), 4), median_time
		FROM total ORDER BY step, paths DESC, source, target NULLS LAST $query$,
		visitor, event_time, page, t, coalesce(filter, 'true'))
	USING start_time, end_time, gap, start_page, collapse, max_pages, max_steps;
END
$$;
COMMENT ON FUNCTION path_flow(regclass, timestamptz, timestamptz, text, text, text, text, interval, text, integer, integer, boolean) IS
	'from which page to which visitors of a table of events go, step by step of their sessions, and how many: the links of a Sankey diagram; target NULL: they leave';

-- ---------------------------------------------------------------------
-- mappings: from messages to columns
-- ---------------------------------------------------------------------

CREATE FUNCTION presets(OUT preset text, OUT mapping jsonb)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_presets'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 6;
COMMENT ON FUNCTION presets() IS
	'the presets of create_stream(), as mappings; a stream''s own mapping is laid over its preset, column by column';

CREATE FUNCTION decode_message(
	payload text,
	preset text DEFAULT 'default',
	mapping jsonb DEFAULT NULL,
	OUT user_id text, OUT anonymous_id text, OUT event_type text, OUT page_url text, OUT page_title text,
	OUT referrer_url text, OUT utm_source text, OUT utm_medium text, OUT utm_campaign text, OUT device_type text,
	OUT browser text, OUT country text, OUT event_time timestamptz, OUT event_properties jsonb)
RETURNS record
AS 'MODULE_PATHNAME', 'clickstream_decode_message'
LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION decode_message(text, text, jsonb) IS
	'what a stream with that preset and mapping makes of a message; raises what its dead letter would say';

-- The values of a message with the paths that lead to them, of arrays of pairs by key; for propose_mapping().
CREATE FUNCTION message_leaves(sample jsonb, OUT path jsonb, OUT names text[], OUT value jsonb)
RETURNS SETOF record
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
WITH RECURSIVE tree(pointer, names, value) AS (
	SELECT '', '{}'::text[], sample
	UNION ALL
	SELECT t.pointer || '/' || replace(replace(e.key, '~', '~0'), '/', '~1'), t.names || e.key, e.value
	FROM tree t, jsonb_each(CASE jsonb_typeof(t.value) WHEN 'object' THEN t.value ELSE '{}' END) e
	WHERE cardinality(t.names) < 8
), pairs AS (
	SELECT t.pointer, t.names, t.value FROM tree t
	WHERE jsonb_typeof(t.value) = 'array' AND t.value->0 ? 'key' AND t.value->0 ? 'value'
)
SELECT to_jsonb(t.pointer), t.names, t.value FROM tree t
WHERE t.value <> 'null' AND t.pointer NOT IN (SELECT pointer FROM pairs)
UNION ALL
SELECT jsonb_build_object('pairs', p.pointer), p.names, p.value FROM pairs p
UNION ALL
SELECT jsonb_build_object('pairs', p.pointer, 'key', e.value->>'key'), p.names || (e.value->>'key'), coalesce(
	(SELECT v.value FROM jsonb_each(CASE jsonb_typeof(e.value->'value') WHEN 'object' THEN e.value->'value' ELSE '{}' END) v
	WHERE v.value <> 'null' LIMIT 1), e.value->'value')
FROM pairs p, jsonb_array_elements(p.value) e
WHERE jsonb_typeof(e.value->'key') = 'string'
$$;
COMMENT ON FUNCTION message_leaves(jsonb) IS
	'for propose_mapping(): what is in a message, with the path of a mapping that leads there';

CREATE FUNCTION propose_mapping(
	sample jsonb,
	OUT preset text, OUT mapping jsonb, OUT extra_columns text, OUT event jsonb)
RETURNS record
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- Names under which senders have what a column holds, letters and digits only, the surest first.
	known constant jsonb := '{
		"event_time": ["eventtime", "eventtimestamp", "timestamp", "originaltimestamp", "time", "ts", "occurredat", "createdat", "datetime", "date", "sentat", "receivedat"],
		"user_id": ["userid", "uid", "customerid", "accountid", "memberid", "login", "user"],
		"anonymous_id": ["anonymousid", "anonid", "visitorid", "deviceid", "clientid", "cookieid", "distinctid", "browserid", "visitor"],
		"event_type": ["eventtype", "eventname", "event", "type", "action", "name"],
		"page_url": ["pageurl", "pagelocation", "currenturl", "url", "href", "location", "uri", "path", "page"],
		"page_title": ["pagetitle", "title"],
		"referrer_url": ["referrerurl", "pagereferrer", "referrer", "referer", "ref"],
		"utm_source": ["utmsource", "campaignsource", "mktsource", "source"],
		"utm_medium": ["utmmedium", "campaignmedium", "mktmedium", "medium"],
		"utm_campaign": ["utmcampaign", "campaignname", "mktcampaign", "campaign"],
		"device_type": ["devicetype", "devicecategory", "deviceclass", "device"],
		"browser": ["browser", "browsername", "useragentfamily", "useragent"],
		"country": ["country", "countrycode", "geocountry"],
		"event_properties": ["eventproperties", "properties", "eventparams", "params", "props", "attributes", "data", "payload"]}';
	time constant text := '^\d{4}-\d\d-\d\d([T ]|$)|^\d{9,17}(\.\d+)?$';
	entry record;
	best record;
	preset_mapping jsonb;
BEGIN
	IF jsonb_typeof(sample) <> 'object' THEN
		RAISE EXCEPTION 'the sample must be a JSON object' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Give one message of the topic, as it is.';
	END IF;
	preset := CASE
		WHEN sample ? 'event_params' AND sample ? 'event_name' THEN 'ga4'
		WHEN sample ? 'collector_tstamp' AND sample ? 'event_id' THEN 'snowplow'
		WHEN sample ? 'distinct_id' AND sample ? 'event' THEN 'posthog'
		WHEN sample ->> 'type' IN ('track', 'page', 'screen', 'identify', 'group', 'alias') AND sample ?| '{userId,anonymousId}'
			THEN CASE WHEN sample ? 'rudderId' OR sample #>> '{context,library,name}' LIKE 'RudderLabs%' THEN 'rudderstack' ELSE 'segment' END
		ELSE 'default' END;
	mapping := '{}';
	IF preset = 'default' THEN
		FOR entry IN SELECT key, value FROM jsonb_each(known) WHERE NOT sample ? key OR sample -> key = 'null' LOOP
			SELECT l.path INTO best
			FROM clickstream.message_leaves(sample) l
			CROSS JOIN LATERAL (SELECT
				lower(regexp_replace(l.names[cardinality(l.names)], '[^[:alnum:]]', '', 'g')) AS last,
				lower(regexp_replace(array_to_string(l.names[cardinality(l.names) - 1:], ''), '[^[:alnum:]]', '', 'g')) AS two) n
			CROSS JOIN LATERAL (SELECT min(k.i) AS rank FROM jsonb_array_elements_text(entry.value) WITH ORDINALITY k(name, i)
				WHERE k.name IN (n.last, n.two)) r
			WHERE r.rank IS NOT NULL AND CASE entry.key
				WHEN 'event_properties' THEN jsonb_typeof(l.value) = 'object' OR l.path ? 'pairs'
				WHEN 'event_time' THEN l.value #>> '{}' ~ time
				ELSE jsonb_typeof(l.value) IN ('string', 'number') AND NOT (entry.key LIKE '%\_id' AND l.value #>> '{}' = '') END
				AND NOT EXISTS (SELECT FROM jsonb_each(mapping) m WHERE m.value = l.path)
			ORDER BY r.rank, cardinality(l.names), l.path
			LIMIT 1;
			IF FOUND THEN
				mapping := mapping || jsonb_build_object(entry.key, best.path);
			END IF;
		END LOOP;
	END IF;
	SELECT p.mapping INTO STRICT preset_mapping FROM clickstream.presets() p WHERE p.preset = propose_mapping.preset;
	SELECT string_agg(format('%I %s', s.key, CASE jsonb_typeof(s.value) WHEN 'number' THEN 'numeric' WHEN 'boolean' THEN 'boolean' ELSE 'text' END),
			', ' ORDER BY s.key) INTO extra_columns
	FROM jsonb_each(sample) s
	WHERE preset = 'default' AND jsonb_typeof(s.value) IN ('string', 'number', 'boolean') AND length(s.key) < 64 AND NOT known ? s.key
		AND s.key NOT IN ('topic', 'partition', 'message_offset', 'message_key', 'message_timestamp', 'message_headers', 'place', 'effective_user_id')
		AND NOT EXISTS (SELECT FROM jsonb_each(mapping) m WHERE m.value = to_jsonb('/' || s.key));
	IF NOT (sample ? 'event_time' OR mapping ? 'event_time' OR preset_mapping ? 'event_time') THEN
		RAISE EXCEPTION 'the sample has no time that an event could have' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Give a mapping of your own, with a path for event_time; decode_message() shows what it makes of a message.';
	END IF;
	SELECT jsonb_strip_nulls(to_jsonb(d) - 'event_properties') || jsonb_build_object('event_properties', d.event_properties) INTO event
	FROM clickstream.decode_message(sample::text, preset, mapping) d;
END
$$;
COMMENT ON FUNCTION propose_mapping(jsonb) IS
	'looks at one message and proposes preset, mapping and extra_columns for create_stream(), with the event that they make of it';

-- ---------------------------------------------------------------------
-- local topic
-- ---------------------------------------------------------------------

CREATE FUNCTION produce(
	stream            text,
	payload           text,
	key               text        DEFAULT NULL,
	partition         integer     DEFAULT 0,
	message_timestamp timestamptz DEFAULT NULL,
	headers           jsonb       DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_produce'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION produce(text, text, text, integer, timestamptz, jsonb) IS
	'writes a message to a stream''s local topic, in the caller''s transaction; returns its offset';

CREATE FUNCTION trim_local_topic(stream text, keep interval)
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_trim_local_topic'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION trim_local_topic(text, interval) IS
	'deletes consumed messages older than keep from a stream''s local topic; returns how many';

-- ---------------------------------------------------------------------
-- what went wrong, and that nothing was lost
-- ---------------------------------------------------------------------

CREATE VIEW dead_letter WITH (security_barrier) AS
SELECT s.name AS stream, l.topic, l.partition, l.message_offset, l.message_timestamp, l.message_key, l.payload,
	   l.headers, d.table_oid AS definition, l.cause, l.error, l.sqlstate, l.arrived_at, l.retried_at, l.outcome,
	   l.dead_letter_id
FROM clickstream.dead_letter_data l
JOIN clickstream.stream s USING (stream_id)
LEFT JOIN clickstream.definition d USING (definition_id)
WHERE pg_catalog.pg_has_role(s.owner::pg_catalog.oid, 'USAGE')
   OR pg_catalog.has_table_privilege(d.table_oid::pg_catalog.oid, 'SELECT');
COMMENT ON VIEW dead_letter IS
	'messages that could not be used, as they came; those of streams and result tables that you may read';
COMMENT ON COLUMN dead_letter.stream IS 'name of the stream';
COMMENT ON COLUMN dead_letter.topic IS 'topic of the message';
COMMENT ON COLUMN dead_letter.partition IS 'partition of the message';
COMMENT ON COLUMN dead_letter.message_offset IS 'offset of the message';
COMMENT ON COLUMN dead_letter.message_timestamp IS 'the message''s own timestamp';
COMMENT ON COLUMN dead_letter.message_key IS 'key of the message, as bytes';
COMMENT ON COLUMN dead_letter.payload IS 'payload of the message, as bytes';
COMMENT ON COLUMN dead_letter.headers IS 'headers of the message';
COMMENT ON COLUMN dead_letter.definition IS 'table of the definition that failed; NULL: nothing could use the message';
COMMENT ON COLUMN dead_letter.cause IS 'kind of error, to group by';
COMMENT ON COLUMN dead_letter.error IS 'the error in words';
COMMENT ON COLUMN dead_letter.sqlstate IS 'SQLSTATE of the error';
COMMENT ON COLUMN dead_letter.arrived_at IS 'when it was consumed';
COMMENT ON COLUMN dead_letter.retried_at IS 'when retry_dead_letters() last ran it through the stream';
COMMENT ON COLUMN dead_letter.outcome IS 'what it became then: used, late, filtered, duplicate or empty; NULL: it is dead';
COMMENT ON COLUMN dead_letter.dead_letter_id IS 'number of the dead letter';

CREATE VIEW dead_letter_cause WITH (security_barrier) AS
SELECT l.stream, l.definition, l.cause, l.sqlstate, count(*) AS letters, min(l.arrived_at) AS first_at, max(l.arrived_at) AS last_at,
	   (array_agg(l.error ORDER BY l.arrived_at DESC, l.topic, l.partition, l.message_offset DESC))[1] AS sample_error,
	   (array_agg(substr(encode(l.payload, 'escape'), 1, 1000)
		ORDER BY l.arrived_at DESC, l.topic, l.partition, l.message_offset DESC))[1] AS sample_payload
FROM clickstream.dead_letter l
WHERE l.outcome IS NULL
GROUP BY l.stream, l.definition, l.cause, l.sqlstate;
COMMENT ON VIEW dead_letter_cause IS 'dead letters by what they died of, without those that retry_dead_letters() has brought back: how many, since when, and the newest one as a sample';
COMMENT ON COLUMN dead_letter_cause.stream IS 'name of the stream';
COMMENT ON COLUMN dead_letter_cause.definition IS 'table of the definition that failed; NULL: nothing could use the messages';
COMMENT ON COLUMN dead_letter_cause.cause IS 'kind of error';
COMMENT ON COLUMN dead_letter_cause.sqlstate IS 'SQLSTATE of the error';
COMMENT ON COLUMN dead_letter_cause.letters IS 'how many there are';
COMMENT ON COLUMN dead_letter_cause.first_at IS 'when the first of them was consumed';
COMMENT ON COLUMN dead_letter_cause.last_at IS 'when the newest of them was consumed';
COMMENT ON COLUMN dead_letter_cause.sample_error IS 'error of the newest one in words';
COMMENT ON COLUMN dead_letter_cause.sample_payload IS
	'payload of the newest one as text, its first 1,000 characters; what is no ASCII as backslash and octal digits';

CREATE VIEW late_event WITH (security_barrier) AS
SELECT s.name AS stream, l.topic, l.partition, l.message_offset, d.table_oid AS definition, l.event_time, l.lateness,
	   l.watermark, l.payload, l.arrived_at, l.applied_at
FROM clickstream.late_event_data l
JOIN clickstream.stream s USING (stream_id)
LEFT JOIN clickstream.definition d USING (definition_id)
WHERE pg_catalog.pg_has_role(s.owner::pg_catalog.oid, 'USAGE')
   OR pg_catalog.has_table_privilege(d.table_oid::pg_catalog.oid, 'SELECT');
COMMENT ON VIEW late_event IS
	'events that came too late for a definition; those of streams and result tables that you may read';
COMMENT ON COLUMN late_event.stream IS 'name of the stream';
COMMENT ON COLUMN late_event.topic IS 'topic of the message';
COMMENT ON COLUMN late_event.partition IS 'partition of the message';
COMMENT ON COLUMN late_event.message_offset IS 'offset of the message';
COMMENT ON COLUMN late_event.definition IS 'table of the definition for which it was late';
COMMENT ON COLUMN late_event.event_time IS 'when it happened';
COMMENT ON COLUMN late_event.lateness IS 'how much too late it was';
COMMENT ON COLUMN late_event.watermark IS 'the stream''s watermark, as it stood when the event came; less lateness it is the last moment that would have been in time';
COMMENT ON COLUMN late_event.payload IS 'payload of the message, as bytes';
COMMENT ON COLUMN late_event.arrived_at IS 'when it was consumed';
COMMENT ON COLUMN late_event.applied_at IS 'when apply_late() put it into the definition''s results; NULL: not yet';

CREATE VIEW ledger WITH (security_barrier) AS
SELECT s.name AS stream, p.topic, p.partition, p.next_offset - p.start_offset AS consumed,
	   p.used, p.filtered, p.late, p.duplicate, p.dead, p.empty, p.skipped,
	   p.next_offset - p.start_offset =
	   p.used + p.filtered + p.late + p.duplicate + p.dead + p.empty + p.skipped AS balanced,
	   p.repaired
FROM clickstream.stream s
LEFT JOIN clickstream.partition p USING (stream_id)
WHERE pg_catalog.pg_has_role(s.owner::pg_catalog.oid, 'USAGE');
COMMENT ON VIEW ledger IS
	'what became of each consumed offset, by partition: each is in exactly one class; a stream that has read nothing has one row of NULLs';
COMMENT ON COLUMN ledger.stream IS 'name of the stream';
COMMENT ON COLUMN ledger.topic IS 'topic';
COMMENT ON COLUMN ledger.partition IS 'partition';
COMMENT ON COLUMN ledger.consumed IS 'offsets consumed';
COMMENT ON COLUMN ledger.used IS 'used by a definition';
COMMENT ON COLUMN ledger.filtered IS 'wanted by no definition';
COMMENT ON COLUMN ledger.late IS 'too late for those that wanted it';
COMMENT ON COLUMN ledger.duplicate IS 'seen before';
COMMENT ON COLUMN ledger.dead IS 'dead letters';
COMMENT ON COLUMN ledger.empty IS 'messages without payload';
COMMENT ON COLUMN ledger.skipped IS 'offsets without a message, or passed over by hand';
COMMENT ON COLUMN ledger.repaired IS 'of those used: not when they came, but since they were applied by apply_late() or retry_dead_letters()';
COMMENT ON COLUMN ledger.balanced IS 'do the classes add up to what was consumed?';

CREATE VIEW letter_count WITH (security_barrier) AS
WITH counted AS (
	SELECT p.stream_id, 0 AS definition_id, p.topic, p.partition, 'dead letter' AS kind, p.dead AS counted
	FROM clickstream.partition p
	UNION ALL
	SELECT p.stream_id, c.definition_id, p.topic, p.partition, k.kind, k.counted
	FROM clickstream.partition p
	CROSS JOIN LATERAL (
		SELECT a.n[i]::integer AS definition_id, a.n[i + 3] AS late, a.n[i + 4] AS dead
		FROM (SELECT p.by_definition) AS a(n), generate_series(1, cardinality(a.n), 6) AS i
	) AS c
	CROSS JOIN LATERAL (VALUES ('late event', c.late), ('dead letter', c.dead)) AS k(kind, counted)
), kept AS (
	SELECT l.stream_id, coalesce(l.definition_id, 0) AS definition_id, l.topic, l.partition, 'dead letter' AS kind, count(*) AS n
	FROM clickstream.dead_letter_data l
	WHERE l.outcome IS NULL
	GROUP BY 1, 2, 3, 4
	UNION ALL
	SELECT l.stream_id, l.definition_id, l.topic, l.partition, 'late event', count(*)
	FROM clickstream.late_event_data l
	WHERE l.applied_at IS NULL
	GROUP BY 1, 2, 3, 4
)
SELECT s.name AS stream, c.topic, c.partition, d.table_oid AS definition, c.kind, c.counted, coalesce(k.n, 0) AS kept,
	   coalesce(CASE c.kind WHEN 'late event' THEN t.late ELSE t.dead END, 0) AS trimmed
FROM counted c
JOIN clickstream.stream s ON s.stream_id = c.stream_id
LEFT JOIN clickstream.definition d ON d.definition_id = c.definition_id
LEFT JOIN kept k ON (k.stream_id, k.definition_id, k.topic, k.partition, k.kind) =
	(c.stream_id, c.definition_id, c.topic, c.partition, c.kind)
LEFT JOIN clickstream.trimmed_letter t
	ON (t.stream_id, t.definition_id, t.topic, t.partition) = (c.stream_id, c.definition_id, c.topic, c.partition)
WHERE pg_catalog.pg_has_role(s.owner::pg_catalog.oid, 'USAGE') AND (c.definition_id = 0 OR d.definition_id IS NOT NULL);
COMMENT ON VIEW letter_count IS
	'late events and dead letters as counted, and how many of them there are: audit() compares them';
COMMENT ON COLUMN letter_count.stream IS 'name of the stream';
COMMENT ON COLUMN letter_count.topic IS 'topic';
COMMENT ON COLUMN letter_count.partition IS 'partition';
COMMENT ON COLUMN letter_count.definition IS 'table of the definition; NULL: dead letters of whole messages';
COMMENT ON COLUMN letter_count.kind IS 'late event (not yet applied) or dead letter';
COMMENT ON COLUMN letter_count.counted IS 'how many were counted';
COMMENT ON COLUMN letter_count.kept IS 'how many rows there are';
COMMENT ON COLUMN letter_count.trimmed IS 'how many were deleted by trim_letters()';

CREATE FUNCTION audit(
	stream text,
	OUT topic text, OUT partition integer, OUT consumed bigint, OUT used bigint, OUT filtered bigint, OUT late bigint,
	OUT duplicate bigint, OUT dead bigint, OUT empty bigint, OUT skipped bigint, OUT balanced boolean)
RETURNS SETOF record
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	row record;
	found_any boolean := false;
BEGIN
	FOR row IN SELECT l.* FROM clickstream.ledger l WHERE l.stream = audit.stream ORDER BY l.topic, l.partition LOOP
		found_any := true;
		CONTINUE WHEN row.topic IS NULL;
		IF NOT row.balanced THEN
			RAISE EXCEPTION 'ledger of stream "%" does not balance', stream
				USING ERRCODE = 'data_corrupted',
					DETAIL = format('Partition %s/%s: %s offsets were consumed, %s are accounted for.', row.topic,
						row.partition, row.consumed, row.used + row.filtered + row.late + row.duplicate + row.dead +
						row.empty + row.skipped),
					HINT = 'Please report this; reset() reads the topic again.';
		END IF;
		topic := row.topic; partition := row.partition; consumed := row.consumed; used := row.used;
		filtered := row.filtered; late := row.late; duplicate := row.duplicate; dead := row.dead; empty := row.empty;
		skipped := row.skipped; balanced := row.balanced;
		RETURN NEXT;
	END LOOP;
	IF NOT found_any THEN
		RAISE EXCEPTION 'stream "%" does not exist', stream
			USING ERRCODE = 'undefined_object',
				DETAIL = 'Or it belongs to a role of which you are no member.';
	END IF;
	FOR row IN SELECT c.* FROM clickstream.letter_count c WHERE c.stream = audit.stream AND c.counted <> c.kept + c.trimmed LOOP
		RAISE EXCEPTION 'counters of stream "%" do not agree with its %', stream, row.kind || 's'
			USING ERRCODE = 'data_corrupted',
				DETAIL = format('Partition %s/%s%s: %s were counted, %s are there and %s were trimmed.', row.topic,
					row.partition, ', definition ' || row.definition, row.counted, row.kept, row.trimmed),
				HINT = 'Please report this; reset() reads the topic again.';
	END LOOP;
END
$$;
COMMENT ON FUNCTION audit(text) IS
	'proves that each consumed offset of a stream is in exactly one class, and that each late event and dead letter that was counted is there; raises where it is not';

CREATE FUNCTION apply_late(
	t regclass,
	start_time timestamptz DEFAULT NULL,
	end_time timestamptz DEFAULT NULL,
	OUT topic text, OUT partition integer, OUT message_offset bigint, OUT event_time timestamptz, OUT applied boolean,
	OUT reason text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_apply_late'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION apply_late(regclass, timestamptz, timestamptz) IS
	'puts late events of a session, window or funnel into its results, by making what they touch again from the event log; says of each whether it was applied, or why not';

CREATE FUNCTION message_text(payload bytea) RETURNS text
AS 'MODULE_PATHNAME', 'clickstream_message_text' LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION message_text(bytea) IS 'a message''s payload as text; NULL where it is none: no UTF-8, or not what this database can hold';

CREATE FUNCTION retry_letters(
	stream text, letters bigint[], payloads text[],
	OUT topic text, OUT partition integer, OUT message_offset bigint, OUT outcome text, OUT reason text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_retry_letters'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION retry_letters(text, bigint[], text[]) IS
	'for retry_dead_letters(): runs the dead letters with these numbers through their stream, with these payloads; NULL: as they came';

CREATE FUNCTION retry_dead_letters(
	stream text,
	filter text DEFAULT NULL,
	fix text DEFAULT NULL,
	max_rows bigint DEFAULT NULL,
	OUT topic text, OUT partition integer, OUT message_offset bigint, OUT outcome text, OUT reason text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $$
#variable_conflict use_column
DECLARE
	ids bigint[];
	payloads text[];
BEGIN
	IF stream IS NULL THEN
		RAISE EXCEPTION 'stream must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	-- As the caller, by the names that the caller sees: these are expressions of a query of the caller's own.
	EXECUTE pg_catalog.format($q$
		SELECT pg_catalog.array_agg(chosen.dead_letter_id), pg_catalog.array_agg(chosen.mended)
		FROM (SELECT letter.dead_letter_id, (%s
				)::pg_catalog.text AS mended
			FROM (SELECT l.*, clickstream.message_text(l.payload) AS message FROM clickstream.dead_letter l
				WHERE l.stream OPERATOR(pg_catalog.=) $1 AND l.definition IS NULL AND l.outcome IS NULL) AS letter
			WHERE (%s
				)
			ORDER BY letter.dead_letter_id
			LIMIT $2) AS chosen$q$, coalesce(fix, 'NULL'), coalesce(filter, 'true'))
	INTO ids, payloads USING stream, max_rows;
	RETURN QUERY SELECT r.* FROM clickstream.retry_letters(stream, coalesce(ids, '{}'), coalesce(payloads, '{}')) r;
END
$$;
COMMENT ON FUNCTION retry_dead_letters(text, text, text, bigint) IS
	'runs dead letters of a stream (those for which filter, an expression over the columns of dead_letter and message, the payload as text, is true) through it again, with the payload that fix makes of them; says what became of each';

CREATE FUNCTION trim_letters(stream text, keep interval, max_rows bigint DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_trim_letters'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION trim_letters(text, interval, bigint) IS
	'deletes dead letters and late events of a stream that came longer ago than keep, at most max_rows of each; returns how many';

CREATE VIEW skipped AS
SELECT s.name AS stream, o.topic, o.partition, o.first_offset, o.next_offset, o.passed_at
FROM clickstream.passed_over o JOIN clickstream.stream s USING (stream_id)
WHERE o.definition_id = 0;
COMMENT ON VIEW skipped IS 'offsets that seek() and skip_message() have passed over since the stream''s beginning or its last reset()';
COMMENT ON COLUMN skipped.stream IS 'name of the stream';
COMMENT ON COLUMN skipped.topic IS 'topic';
COMMENT ON COLUMN skipped.partition IS 'partition of the topic';
COMMENT ON COLUMN skipped.first_offset IS 'the first one';
COMMENT ON COLUMN skipped.next_offset IS 'the one behind the last';
COMMENT ON COLUMN skipped.passed_at IS 'when that was';
GRANT SELECT ON dead_letter, dead_letter_cause, late_event, ledger, letter_count, skipped TO PUBLIC;

-- ---------------------------------------------------------------------
-- quickstart: a whole pipeline in one call
-- ---------------------------------------------------------------------

CREATE FUNCTION quickstart(
	name          text,
	brokers       text    DEFAULT NULL,
	topic         text    DEFAULT NULL,
	target_schema text    DEFAULT NULL,
	start_from    text    DEFAULT NULL,
	options       jsonb   DEFAULT NULL,
	event_log     boolean DEFAULT false,
	start         boolean DEFAULT true,
	time_on_page  boolean DEFAULT false,
	check_broker  boolean DEFAULT true,
	if_not_exists boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $quickstart$
DECLARE
	target text := coalesce(target_schema, pg_catalog.current_schema());
	prefix text;
BEGIN
	IF target IS NULL THEN
		RAISE EXCEPTION 'no schema to make tables in' USING ERRCODE = 'undefined_schema', HINT = 'Give target_schema.';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) target) THEN
		EXECUTE pg_catalog.format('CREATE SCHEMA %I', target);
	END IF;
	prefix := pg_catalog.concat(pg_catalog.quote_ident(target), '.');

	PERFORM clickstream.create_stream(name, brokers => brokers, topic => topic, start_from => start_from,
		options => options, check_broker => check_broker, if_not_exists => if_not_exists);
	PERFORM clickstream.create_session(pg_catalog.concat(prefix, 'user_sessions'), stream => name, if_not_exists => if_not_exists,
		gap => '30 minutes',
		measures => pg_catalog.concat(clickstream.session_measures(), CASE WHEN time_on_page
			THEN $$, page_dwell(page_url) FILTER (WHERE event_type = 'page_view') AS page_stays$$ END));
	PERFORM clickstream.create_window(pg_catalog.concat(prefix, 'page_views_per_minute'), stream => name, if_not_exists => if_not_exists,
		size => '1 minute',
		filter => $$event_type = 'page_view'$$,
		group_by => 'page_url, page_title',
		measures => 'count(*) AS view_count, count(DISTINCT effective_user_id) AS unique_visitors');
	PERFORM clickstream.create_window(pg_catalog.concat(prefix, 'page_views_rolling'), stream => name, if_not_exists => if_not_exists,
		size => '15 minutes', slide => '1 minute',
		filter => $$event_type = 'page_view'$$,
		group_by => 'page_url',
		measures => 'count(*) AS view_count, count(DISTINCT effective_user_id) AS unique_visitors');
	PERFORM clickstream.create_window(pg_catalog.concat(prefix, 'traffic_by_source'), stream => name, if_not_exists => if_not_exists,
		size => '5 minutes',
		filter => $$event_type = 'page_view'$$,
		group_by => 'utm_source, utm_campaign, device_type',
		measures => 'count(*) AS event_count, count(DISTINCT effective_user_id) AS unique_users');
	PERFORM clickstream.create_funnel(pg_catalog.concat(prefix, 'checkout_funnel'), stream => name, if_not_exists => if_not_exists,
		within => '1 hour', key => 'user_id', steps => ARRAY[
			clickstream.step('product_view', $$event_type = 'page_view' AND page_url LIKE '%/product/%'$$),
			clickstream.step('add_to_cart', $$event_type = 'click' AND event_properties->>'action' = 'add_to_cart'$$),
			clickstream.step('checkout', $$event_type = 'page_view' AND page_url LIKE '%/checkout%'$$),
			clickstream.step('purchase', $$event_type = 'purchase'$$)]);
	PERFORM clickstream.create_window(pg_catalog.concat(prefix, 'funnel_step_counts'), stream => name, if_not_exists => if_not_exists,
		size => '1 hour',
		measures => $$
			count(DISTINCT user_id) FILTER (WHERE event_type = 'page_view' AND page_url LIKE '%/product/%') AS product_viewers,
			count(DISTINCT user_id) FILTER (WHERE event_properties->>'action' = 'add_to_cart') AS cart_adders,
			count(DISTINCT user_id) FILTER (WHERE event_type = 'page_view' AND page_url LIKE '%/checkout%') AS checkout_starters,
			count(DISTINCT user_id) FILTER (WHERE event_type = 'purchase') AS purchasers$$);
	PERFORM clickstream.create_rollup(pg_catalog.concat(prefix, 'session_metrics'),
		source => pg_catalog.concat(prefix, 'user_sessions')::pg_catalog.regclass,
		size => '1 minute', if_not_exists => if_not_exists,
		measures => $$
			count(*) AS total_sessions,
			avg(session_duration_seconds) AS avg_session_duration,
			avg(pages_viewed) AS avg_pages_per_session,
			avg((pages_viewed = 1)::int) AS bounce_rate$$);
	IF event_log THEN
		PERFORM clickstream.create_event_log(pg_catalog.concat(prefix, 'clickstream_events'), stream => name,
			if_not_exists => if_not_exists);
	END IF;
	IF NOT start THEN
		RETURN;
	ELSIF clickstream.is_preloaded() THEN
		PERFORM clickstream.start(name);
	ELSE
		RAISE NOTICE 'stream "%" was made but cannot run', name
			USING HINT = 'Put clickstream into shared_preload_libraries, restart the server, then call clickstream.start().';
	END IF;
END
$quickstart$;
COMMENT ON FUNCTION quickstart(text, text, text, text, text, jsonb, boolean, boolean, boolean, boolean, boolean) IS
	'makes a stream with sessions, page views, funnel and session metrics, and starts it; event_log: keeps every event as a row; time_on_page: sessions say how long each page was looked at; if_not_exists: leaves what there is already as it is';

-- ---------------------------------------------------------------------
-- running: in the session, or waiting for the worker
-- ---------------------------------------------------------------------

CREATE PROCEDURE process(stream text, max_messages bigint DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'clickstream_process';
COMMENT ON PROCEDURE process(text, bigint) IS 'read the stream''s topic in this session, to its end or max_messages further, one transaction a batch; not while a worker runs the stream';
REVOKE ALL ON PROCEDURE process(text, bigint) FROM PUBLIC;

CREATE PROCEDURE finish(stream text)
LANGUAGE c AS 'MODULE_PATHNAME', 'clickstream_finish';
COMMENT ON PROCEDURE finish(text) IS 'read everything that is in the topic, then take it that nothing more comes: everything open closes';
REVOKE ALL ON PROCEDURE finish(text) FROM PUBLIC;

CREATE FUNCTION advance_watermark(stream text, ts timestamptz) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'clickstream_advance_watermark';
COMMENT ON FUNCTION advance_watermark(text, timestamptz) IS 'move the stream''s watermark forward by hand: what it passes closes with the next batch';
REVOKE ALL ON FUNCTION advance_watermark(text, timestamptz) FROM PUBLIC;

CREATE PROCEDURE wait_for(stream text, timeout interval DEFAULT '1 minute')
LANGUAGE c AS 'MODULE_PATHNAME', 'clickstream_wait_for';
COMMENT ON PROCEDURE wait_for(text, interval) IS 'wait until everything that is in the topic now is committed, and rows show it but for what waits for emit_interval; an error after timeout (NULL: wait for ever)';
REVOKE ALL ON PROCEDURE wait_for(text, interval) FROM PUBLIC;

-- ---------------------------------------------------------------------
-- what goes on: everybody may look; what went wrong is for the owner
-- ---------------------------------------------------------------------

CREATE FUNCTION stat_worker(
	stream_id integer, enabled boolean,
	OUT state text, OUT pid integer, OUT lag bigint, OUT events_per_second double precision,
	OUT last_error text, OUT last_hint text, OUT last_error_sqlstate text, OUT last_error_at timestamptz, OUT problem text,
	OUT state_entries bigint, OUT state_bytes bigint, OUT decode_workers integer, OUT decode_problem text,
	OUT decode_restarts bigint)
RETURNS record
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'clickstream_stat_worker';
COMMENT ON FUNCTION stat_worker(integer, boolean) IS 'the worker of a stream of this database, as shared memory knows it; read view stat_stream';
GRANT EXECUTE ON FUNCTION stat_worker(integer, boolean) TO PUBLIC;

CREATE VIEW stat_partition AS
SELECT
	s.name AS stream,
	p.topic,
	p.partition,
	p.next_offset,
	e.end_offset,
	greatest(e.end_offset - p.next_offset, 0) AS lag,
	p.max_time - s.watermark_delay AS watermark,
	p.last_event_time,
	p.moved_at AS watermark_moved_at,
	p.idle,
	p.spoke_at AS silent_since,
	p.paused,
	p.used,
	p.filtered,
	p.late,
	p.duplicate,
	p.dead,
	p.empty,
	p.skipped,
	p.start_offset
FROM clickstream.partition p
JOIN clickstream.stream s USING (stream_id)
LEFT JOIN clickstream.local_partition l ON s.brokers IS NULL AND l.stream_id = p.stream_id AND l.partition = p.partition
CROSS JOIN LATERAL (SELECT greatest(l.next_offset, p.end_offset)) AS e(end_offset);
COMMENT ON VIEW stat_partition IS 'where each partition of each stream is, as last committed, and what became of its messages';
COMMENT ON COLUMN stat_partition.stream IS 'name of the stream';
COMMENT ON COLUMN stat_partition.topic IS 'topic; of the built-in local topic, the stream''s name';
COMMENT ON COLUMN stat_partition.partition IS 'number of the partition';
COMMENT ON COLUMN stat_partition.next_offset IS 'everything before it is committed';
COMMENT ON COLUMN stat_partition.end_offset IS 'end of the partition when it was last seen; NULL if it never was';
COMMENT ON COLUMN stat_partition.lag IS 'offsets between next_offset and end_offset, so as of when that was last seen';
COMMENT ON COLUMN stat_partition.watermark IS 'the partition''s own watermark; the least of those not idle is the stream''s';
COMMENT ON COLUMN stat_partition.last_event_time IS 'newest event_time seen';
COMMENT ON COLUMN stat_partition.watermark_moved_at IS 'when its watermark last moved, by the clock';
COMMENT ON COLUMN stat_partition.idle IS 'at its end and silent for idle_timeout: it holds back no other; false while it has messages that are not read, and after a start until its end is seen';
COMMENT ON COLUMN stat_partition.silent_since IS 'when it last brought a message, by the clock';
COMMENT ON COLUMN stat_partition.paused IS 'more than max_drift ahead of the slowest: not read until that has come nearer';
COMMENT ON COLUMN stat_partition.used IS 'offsets of events that some definition took';
COMMENT ON COLUMN stat_partition.filtered IS 'offsets of events that no definition wanted';
COMMENT ON COLUMN stat_partition.late IS 'offsets of events that came too late for every definition that wanted them';
COMMENT ON COLUMN stat_partition.duplicate IS 'offsets of events that dedupe_by found again';
COMMENT ON COLUMN stat_partition.dead IS 'offsets of messages that could not be used: view dead_letter has them';
COMMENT ON COLUMN stat_partition.empty IS 'offsets of messages without payload';
COMMENT ON COLUMN stat_partition.skipped IS 'offsets at which the topic has no message (compaction, transaction markers)';
COMMENT ON COLUMN stat_partition.start_offset IS 'where reading began';
GRANT SELECT ON stat_partition TO PUBLIC;

CREATE VIEW stat_definition_partition AS
SELECT
	s.name AS stream,
	d.table_oid AS definition,
	p.topic,
	p.partition,
	c.since AS since_offset,
	c.used,
	c.late,
	c.dead,
	c.without_key
FROM clickstream.partition p
JOIN clickstream.stream s USING (stream_id)
CROSS JOIN LATERAL (
	SELECT a.n[i] AS definition_id, a.n[i + 1] AS since, a.n[i + 2] AS used, a.n[i + 3] AS late, a.n[i + 4] AS dead,
		   a.n[i + 5] AS without_key
	FROM (SELECT p.by_definition) AS a(n), generate_series(1, cardinality(a.n), 6) AS i
) AS c
JOIN clickstream.definition d ON d.definition_id = c.definition_id;
COMMENT ON VIEW stat_definition_partition IS
	'what each definition made of each partition''s messages, as last committed; an event may be used by one and late for another';
COMMENT ON COLUMN stat_definition_partition.stream IS 'name of the stream';
COMMENT ON COLUMN stat_definition_partition.definition IS 'result table of the definition';
COMMENT ON COLUMN stat_definition_partition.topic IS 'topic';
COMMENT ON COLUMN stat_definition_partition.partition IS 'number of the partition';
COMMENT ON COLUMN stat_definition_partition.since_offset IS 'offset from which on the definition counts';
COMMENT ON COLUMN stat_definition_partition.used IS 'events that it took; of an event log, events that it holds or held';
COMMENT ON COLUMN stat_definition_partition.late IS 'events that came too late for it and were not applied since: view late_event has them';
COMMENT ON COLUMN stat_definition_partition.dead IS 'events on which it failed: view dead_letter has them';
COMMENT ON COLUMN stat_definition_partition.without_key IS 'events without visitor or key, which sessions and funnels pass over';
GRANT SELECT ON stat_definition_partition TO PUBLIC;

CREATE VIEW stat_progress AS
SELECT
	s.name AS stream,
	d.table_oid AS definition,
	CASE WHEN b.from_topic THEN 'topic' WHEN b.log_id IS NULL THEN 'table' ELSE 'event log' END AS source,
	n.done,
	n.todo,
	n.gone,
	n.done / nullif(extract(epoch FROM b.moved_at - b.begun_at), 0)::double precision AS per_second,
	CASE WHEN n.done > 0 THEN b.moved_at + n.todo * ((b.moved_at - b.begun_at) / n.done) END AS expected_end,
	b.watermark,
	b.begun_at,
	b.moved_at
FROM clickstream.backfill b
JOIN clickstream.definition d USING (definition_id)
JOIN clickstream.stream s ON s.stream_id = d.stream_id
LEFT JOIN LATERAL (
	SELECT sum(q.used) AS logged FROM clickstream.definition l JOIN clickstream.stat_definition_partition q ON q.definition = l.table_oid
	WHERE l.stream_id = d.stream_id AND l.kind = 'l'
) AS g ON b.logged IS NOT NULL
LEFT JOIN LATERAL (
	SELECT sum(h.next_offset - h.first_offset)::bigint AS done, sum(greatest(p.next_offset - h.next_offset, 0))::bigint AS todo,
		sum(h.gone)::bigint AS gone
	FROM clickstream.backfill_partition h
	JOIN clickstream.partition p ON p.stream_id = h.stream_id AND p.topic = h.topic AND p.partition = h.partition
	WHERE h.definition_id = b.definition_id
) AS t ON b.from_topic
CROSS JOIN LATERAL (
	SELECT coalesce(t.done, b.done) AS done,
		CASE WHEN b.from_topic THEN t.todo ELSE greatest(b.total + coalesce(g.logged - b.logged, 0) - b.done, 0)::bigint END AS todo,
		t.gone
) AS n;
COMMENT ON VIEW stat_progress IS 'definitions made with backfill => true that are still being filled with history';
COMMENT ON COLUMN stat_progress.stream IS 'name of the stream';
COMMENT ON COLUMN stat_progress.definition IS 'result table of the definition';
COMMENT ON COLUMN stat_progress.source IS 'where its history comes from: event log, topic, or the table that a rollup reads';
COMMENT ON COLUMN stat_progress.done IS 'events of the log, or offsets of the topic, that it has seen; of a rollup, rows of its source';
COMMENT ON COLUMN stat_progress.todo IS 'how many there are yet, about; NULL: from the topic, and not begun';
COMMENT ON COLUMN stat_progress.gone IS 'messages that the topic did not hold any more: history lacks them; NULL: not from the topic, or not begun';
COMMENT ON COLUMN stat_progress.per_second IS 'how many it has seen a second since it began; NULL: not begun';
COMMENT ON COLUMN stat_progress.expected_end IS 'when it will have joined the live stream at this rate; NULL: not begun';
COMMENT ON COLUMN stat_progress.watermark IS 'how far its history is: where its own watermark stands';
COMMENT ON COLUMN stat_progress.begun_at IS 'when it began; NULL: the stream has not run since it was made';
COMMENT ON COLUMN stat_progress.moved_at IS 'when it last moved on';
GRANT SELECT ON stat_progress TO PUBLIC;

CREATE VIEW stat_definition AS
SELECT
	s.name AS stream,
	d.table_oid AS definition,
	CASE d.kind WHEN 's' THEN 'session' WHEN 'w' THEN 'window' WHEN 'f' THEN 'funnel' WHEN 'r' THEN 'rollup'
		WHEN 'l' THEN 'event log' END AS kind,
	g.closed AS closed_until,
	coalesce(c.used, 0) AS used,
	coalesce(c.late, 0) AS late,
	coalesce(c.dead, 0) AS dead,
	coalesce(c.without_key, 0) AS without_key,
	coalesce(e.rows_written, 0) AS rows_written,
	coalesce(e.rows_deleted, 0) AS rows_deleted,
	coalesce(e.measure_errors, 0) AS measure_errors,
	coalesce(e.state_entries, 0) AS state_entries
FROM clickstream.definition d
JOIN clickstream.stream s USING (stream_id)
LEFT JOIN clickstream.progress g USING (stream_id)
LEFT JOIN LATERAL (
	SELECT sum(q.used)::bigint AS used, sum(q.late)::bigint AS late, sum(q.dead)::bigint AS dead,
		   sum(q.without_key)::bigint AS without_key
	FROM clickstream.stat_definition_partition q
	WHERE q.definition = d.table_oid
) AS c ON true
LEFT JOIN LATERAL (
	SELECT a.n[i + 1] AS rows_written, a.n[i + 2] AS rows_deleted, a.n[i + 3] AS measure_errors,
		   a.n[i + 4] AS state_entries
	FROM (SELECT g.by_definition) AS a(n), generate_series(1, cardinality(a.n), 6) AS i
	WHERE a.n[i] = d.definition_id
) AS e ON true;
COMMENT ON VIEW stat_definition IS
	'what each definition has made of its stream''s messages, as last committed; by partition: stat_definition_partition';
COMMENT ON COLUMN stat_definition.stream IS 'name of the stream';
COMMENT ON COLUMN stat_definition.definition IS 'result table of the definition';
COMMENT ON COLUMN stat_definition.kind IS 'session, window, funnel, rollup, event log';
COMMENT ON COLUMN stat_definition.closed_until IS 'watermark up to which everything is closed; infinity after finish()';
COMMENT ON COLUMN stat_definition.used IS 'events that it took; of an event log, events that it holds or held';
COMMENT ON COLUMN stat_definition.late IS 'events that came too late for it and were not applied since: view late_event has them';
COMMENT ON COLUMN stat_definition.dead IS 'events (of a rollup, source rows) on which it failed: view dead_letter has them';
COMMENT ON COLUMN stat_definition.without_key IS 'events without visitor or key, which sessions and funnels pass over';
COMMENT ON COLUMN stat_definition.rows_written IS 'rows inserted and updated in the result table';
COMMENT ON COLUMN stat_definition.rows_deleted IS 'rows deleted there';
COMMENT ON COLUMN stat_definition.measure_errors IS 'combine and final functions that failed: the measure is NULL there';
COMMENT ON COLUMN stat_definition.state_entries IS 'entries of its state: keys with something open, groups of open windows';
GRANT SELECT ON stat_definition TO PUBLIC;

CREATE VIEW stat_stream AS
SELECT
	s.name AS stream,
	w.state,
	w.pid,
	CASE WHEN s.brokers IS NULL THEN p.lag WHEN w.state = 'running' THEN w.lag END AS lag,
	w.events_per_second,
	CASE WHEN g.finished THEN 'infinity' ELSE g.watermark END AS watermark,
	h.held_back_by,
	h.held_back_since,
	g.commit_number,
	g.committed_at AS last_commit_at,
	w.last_error,
	w.last_hint,
	w.last_error_sqlstate,
	w.last_error_at,
	CASE WHEN s.enabled AND NOT o.is_home AND w.pid IS NULL
		THEN 'The stream came here with a copied or restored database. Run clickstream.start() when it shall run here, too.'
		ELSE w.problem END AS problem,
	w.state_entries,
	w.state_bytes,
	w.decode_workers,
	w.decode_problem,
	w.decode_restarts
FROM clickstream.stream s
LEFT JOIN clickstream.progress g USING (stream_id)
CROSS JOIN LATERAL (SELECT EXISTS (
	SELECT FROM clickstream.stream_home h JOIN pg_catalog.pg_database d ON d.oid = h.database_oid
	WHERE h.stream_id = s.stream_id AND d.datname = pg_catalog.current_database())) AS o(is_home)
CROSS JOIN LATERAL clickstream.stat_worker(s.stream_id, s.enabled AND o.is_home) AS w
LEFT JOIN LATERAL (
	SELECT sum(t.lag)::bigint AS lag FROM clickstream.stat_partition t WHERE t.stream = s.name
) AS p ON true
LEFT JOIN LATERAL (
	SELECT q.topic || '/' || q.partition AS held_back_by, q.moved_at AS held_back_since
	FROM clickstream.partition q
	WHERE q.stream_id = s.stream_id AND NOT q.idle AND NOT coalesce(g.finished, false)
		AND NOT (q.max_time IS NULL AND q.next_offset >= coalesce(q.end_offset, q.next_offset + 1))
	ORDER BY q.max_time NULLS FIRST, q.topic, q.partition
	LIMIT 1
) AS h ON true;
COMMENT ON VIEW stat_stream IS 'what each stream is doing and how far it is; what went wrong is shown to members of its owner, pg_monitor and clickstream_admin';
COMMENT ON COLUMN stat_stream.stream IS 'name of the stream';
COMMENT ON COLUMN stat_stream.state IS 'stopped, starting, running, waiting for broker, backing off (after an error, will try again), stopping, failed (until start() or a restart of the server), no worker slot';
COMMENT ON COLUMN stat_stream.pid IS 'process of the worker';
COMMENT ON COLUMN stat_stream.lag IS 'messages between what is committed and the end of the topic; NULL if unknown: of a Kafka topic, while the stream is not running';
COMMENT ON COLUMN stat_stream.events_per_second IS 'messages consumed in the last five seconds, per second';
COMMENT ON COLUMN stat_stream.watermark IS 'the stream''s watermark: results before it are final; infinity after finish()';
COMMENT ON COLUMN stat_stream.held_back_by IS 'topic/partition whose watermark is the least';
COMMENT ON COLUMN stat_stream.held_back_since IS 'when that partition''s own watermark last moved, by the clock';
COMMENT ON COLUMN stat_stream.commit_number IS 'number of the newest commit';
COMMENT ON COLUMN stat_stream.last_commit_at IS 'when that was';
COMMENT ON COLUMN stat_stream.last_error IS 'message of the worker''s last error';
COMMENT ON COLUMN stat_stream.last_hint IS 'what to do about it';
COMMENT ON COLUMN stat_stream.last_error_sqlstate IS 'its SQLSTATE';
COMMENT ON COLUMN stat_stream.last_error_at IS 'when it happened';
COMMENT ON COLUMN stat_stream.problem IS 'why nothing comes from the topic although the worker runs; which limit keeps the stream from getting a worker; that it came with a copied or restored database';
COMMENT ON COLUMN stat_stream.state_entries IS 'open sessions, windows and the like that the worker holds';
COMMENT ON COLUMN stat_stream.state_bytes IS 'memory they take';
COMMENT ON COLUMN stat_stream.decode_workers IS 'decode workers that read for it';
COMMENT ON COLUMN stat_stream.decode_problem IS 'why they are fewer than were asked for; the stream goes on without';
COMMENT ON COLUMN stat_stream.decode_restarts IS 'how often one had ended unasked and was started again, since the worker opened the stream';
GRANT SELECT ON stat_stream TO PUBLIC;

CREATE FUNCTION stat_memory_facts(
	OUT stream_id integer, OUT budget bigint, OUT used bigint, OUT entries bigint, OUT set_bytes bigint, OUT index_bytes bigint,
	OUT kept_bytes bigint, OUT shared_bytes bigint, OUT own_bytes bigint, OUT spilled_keys bigint, OUT spill_index_bytes bigint, OUT batch_bytes bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'clickstream_stat_memory_facts';
COMMENT ON FUNCTION stat_memory_facts() IS 'memory of the running streams of this database, as their workers said after their last commit; read view stat_memory';
GRANT EXECUTE ON FUNCTION stat_memory_facts() TO PUBLIC;

CREATE VIEW stat_memory AS
SELECT
	s.name AS stream,
	m.budget,
	m.used,
	m.entries,
	m.set_bytes,
	m.index_bytes,
	m.kept_bytes,
	m.shared_bytes,
	m.own_bytes,
	m.spilled_keys,
	m.spill_index_bytes,
	m.batch_bytes,
	pg_catalog.pg_relation_size(s.log_relations[1]) AS log_a_bytes,
	pg_catalog.pg_relation_size(s.log_relations[2]) AS log_b_bytes,
	pg_catalog.pg_total_relation_size(s.spill_relation) AS spill_table_bytes
FROM clickstream.stream s
LEFT JOIN clickstream.stat_memory_facts() AS m USING (stream_id);
COMMENT ON VIEW stat_memory IS 'memory and disk that each stream''s open state takes; what is in memory is NULL unless a worker runs the stream';
COMMENT ON COLUMN stat_memory.stream IS 'name of the stream';
COMMENT ON COLUMN stat_memory.budget IS 'bytes of clickstream.state_memory that its state may hold now: its share, or more while others do not need theirs';
COMMENT ON COLUMN stat_memory.used IS 'bytes that it holds: entries, distinct sets, and what finds them';
COMMENT ON COLUMN stat_memory.entries IS 'open sessions, windows and the like, in memory or in the spill table';
COMMENT ON COLUMN stat_memory.set_bytes IS 'of used: distinct counts with more than 32 members';
COMMENT ON COLUMN stat_memory.index_bytes IS 'of used: what finds entries and tells when they are due';
COMMENT ON COLUMN stat_memory.kept_bytes IS 'beside used: what is closed or changed, kept for readers whose snapshots are older, by up to 60 commits';
COMMENT ON COLUMN stat_memory.shared_bytes IS 'blocks of clickstream.state_memory that it holds now; what it has too much goes back when another stream lacks it';
COMMENT ON COLUMN stat_memory.own_bytes IS 'memory of the worker''s own, while the shared memory has no room for it; readers then read the log';
COMMENT ON COLUMN stat_memory.spilled_keys IS 'entries that are in the spill table only';
COMMENT ON COLUMN stat_memory.spill_index_bytes IS 'of used: what finds those';
COMMENT ON COLUMN stat_memory.batch_bytes IS 'memory that the last transaction''s changes took, see clickstream.batch_memory';
COMMENT ON COLUMN stat_memory.log_a_bytes IS 'size of one half of the state log';
COMMENT ON COLUMN stat_memory.log_b_bytes IS 'size of the other half';
COMMENT ON COLUMN stat_memory.spill_table_bytes IS 'size of the table of entries that memory has no room for, its index included';
GRANT SELECT ON stat_memory TO PUBLIC;

-- ---------------------------------------------------------------------
-- maintenance: what is old goes, in small transactions
-- ---------------------------------------------------------------------

CREATE FUNCTION set_retention(t regclass, keep interval)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_set_retention'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION set_retention(regclass, interval) IS
	'sets how long maintain() keeps final rows of a result table, or an event log its events; NULL: for ever';

CREATE FUNCTION set_letter_retention(stream text, keep interval)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_set_letter_retention'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION set_letter_retention(text, interval) IS
	'sets how long maintain() keeps dead letters and late events of a stream; NULL: for ever';

CREATE FUNCTION set_alert_retention(stream text, keep interval)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_set_alert_retention'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION set_alert_retention(text, interval) IS
	'sets how long maintain() keeps what alert_history says of a stream''s alerts that have ended; NULL: for ever';

CREATE FUNCTION trim_alert_history(stream text, keep interval, max_rows bigint DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_trim_alert_history'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION trim_alert_history(text, interval, bigint) IS
	'deletes rows of alert_history of alerts that ended longer ago than keep, at most max_rows; returns how many';

CREATE FUNCTION trim_rows(t regclass, max_rows bigint DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_trim_rows'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION trim_rows(regclass, bigint) IS
	'deletes final rows of a result table that are older than its retention, at most max_rows, and of an event log the days that are; returns how many rows';

CREATE VIEW stat_retention WITH (security_barrier) AS
SELECT s.name AS stream,
	   CASE d.kind WHEN 's' THEN 'session' WHEN 'w' THEN 'window' WHEN 'f' THEN 'funnel' WHEN 'r' THEN 'rollup'
		   WHEN 'l' THEN 'event log' END AS kind,
	   d.table_oid AS definition, d.retention AS keep, d.deleted_before
FROM clickstream.definition d JOIN clickstream.stream s USING (stream_id)
WHERE pg_catalog.pg_has_role(s.owner::pg_catalog.oid, 'USAGE')
UNION ALL
SELECT s.name, 'dead letters and late events', NULL, s.letter_retention, NULL
FROM clickstream.stream s
WHERE pg_catalog.pg_has_role(s.owner::pg_catalog.oid, 'USAGE')
UNION ALL
SELECT s.name, 'alert history', NULL, s.alert_retention, NULL
FROM clickstream.stream s
WHERE pg_catalog.pg_has_role(s.owner::pg_catalog.oid, 'USAGE')
UNION ALL
SELECT s.name, 'local topic', NULL, s.retention, NULL
FROM clickstream.stream s
WHERE s.brokers IS NULL AND pg_catalog.pg_has_role(s.owner::pg_catalog.oid, 'USAGE');
COMMENT ON VIEW stat_retention IS 'how long what is kept, of the streams that are yours';
COMMENT ON COLUMN stat_retention.stream IS 'name of the stream';
COMMENT ON COLUMN stat_retention.kind IS 'session, window, funnel, rollup, event log, local topic, dead letters and late events, alert history';
COMMENT ON COLUMN stat_retention.definition IS 'result table; NULL for what belongs to the whole stream';
COMMENT ON COLUMN stat_retention.keep IS 'how long; NULL: for ever';
COMMENT ON COLUMN stat_retention.deleted_before IS 'final rows that started before may have been deleted; NULL: none were';
GRANT SELECT ON stat_retention TO PUBLIC;

CREATE FUNCTION maintain_step(stream text, kind text, t regclass, keep interval, max_rows bigint)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	IF kind = 'local topic' THEN
		PERFORM clickstream.trim_local_topic(stream, keep);
		RETURN 0;
	ELSIF kind = 'alert history' THEN
		RETURN clickstream.trim_alert_history(stream, keep, max_rows);
	ELSIF t IS NULL THEN
		RETURN clickstream.trim_letters(stream, keep, max_rows);
	END IF;
	RETURN clickstream.trim_rows(t, max_rows);
EXCEPTION WHEN query_canceled OR admin_shutdown THEN
	RAISE;
WHEN OTHERS THEN
	-- The rest is to be done nevertheless; the next run tries this again.
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RAISE WARNING 'maintenance of %: %', coalesce(t::text, format('%s of stream "%s"', kind, stream)), SQLERRM
		USING ERRCODE = SQLSTATE, DETAIL = coalesce(nullif(detail, ''), 'It is left as it was; the others are done.'),
			HINT = coalesce(nullif(hint, ''), 'The next run tries it again.');
	RETURN 0;
END
$$;
COMMENT ON FUNCTION maintain_step(text, text, regclass, interval, bigint) IS
	'one transaction of maintain(): deletes at most max_rows rows of one table; warns of what fails, and returns how many';

CREATE PROCEDURE maintain(stream text DEFAULT NULL, max_rows bigint DEFAULT 10000)
LANGUAGE plpgsql
AS $$
DECLARE
	due record;
	n bigint;
BEGIN
	IF max_rows IS NULL OR max_rows OPERATOR(pg_catalog.<=) 0 THEN
		RAISE EXCEPTION 'max_rows must be greater than zero' USING ERRCODE = 'invalid_parameter_value';
	ELSIF stream IS NOT NULL AND NOT EXISTS (
		SELECT FROM clickstream.stat_retention r WHERE r.stream OPERATOR(pg_catalog.=) maintain.stream)
	THEN
		RAISE EXCEPTION 'stream "%" does not exist', stream
			USING ERRCODE = 'undefined_object', DETAIL = 'Or it belongs to a role of which you are no member.';
	END IF;
	FOR due IN
		SELECT r.stream, r.kind, r.definition, r.keep FROM clickstream.stat_retention r
		WHERE r.keep IS NOT NULL AND (maintain.stream IS NULL OR r.stream OPERATOR(pg_catalog.=) maintain.stream)
	LOOP
		LOOP
			n := clickstream.maintain_step(due.stream, due.kind, due.definition, due.keep, max_rows);
			COMMIT;
			EXIT WHEN n OPERATOR(pg_catalog.<) max_rows;
		END LOOP;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE maintain(text, bigint) IS
	'deletes what is older than its retention, of one stream or of all that are yours, in transactions of at most max_rows rows; harmless at any time';

CREATE FUNCTION schedule_maintenance(schedule text DEFAULT '*/10 * * * *', stream text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job text := coalesce('clickstream maintenance of ' || stream, 'clickstream maintenance');
	command text := CASE WHEN stream IS NULL THEN 'CALL clickstream.maintain()' ELSE format('CALL clickstream.maintain(%L)', stream) END;
	home text := coalesce(current_setting('cron.database_name', true), 'postgres');
	id bigint;
BEGIN
	IF schedule IS NULL THEN
		RAISE EXCEPTION 'schedule must be given'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'To end it, call clickstream.unschedule_maintenance().';
	ELSIF stream IS NOT NULL AND NOT EXISTS (SELECT FROM clickstream.stat_retention r WHERE r.stream = schedule_maintenance.stream) THEN
		RAISE EXCEPTION 'stream "%" does not exist', stream
			USING ERRCODE = 'undefined_object', DETAIL = 'Or it belongs to a role of which you are no member.';
	ELSIF to_regprocedure('cron.schedule(text, text, text)') IS NULL THEN
		RAISE EXCEPTION 'pg_cron is not installed in database "%"', current_database()
			USING ERRCODE = 'feature_not_supported',
				DETAIL = format('Maintenance is one command, which any scheduler can run: psql -d %s -c ''%s''.', current_database(), command),
				HINT = CASE WHEN EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_cron') AND home <> current_database()
					AND current_setting('cron.database_name', true) IS NOT NULL
				THEN format('pg_cron lives in database "%s". There: SELECT cron.schedule_in_database(%L, %L, %L, %L)', home, job,
					schedule, command, current_database())
				ELSE format('Install the package (postgresql-15-cron), set shared_preload_libraries = ''clickstream,pg_cron'' and '
					'cron.database_name = ''%s'', restart the server, and CREATE EXTENSION pg_cron.', current_database()) END;
	END IF;
	-- Of the same name it is changed.
	EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO id USING job, schedule, command;
	RETURN id;
END
$$;
COMMENT ON FUNCTION schedule_maintenance(text, text) IS
	'lets pg_cron call maintain() by a schedule, for all your streams or for one; returns the job''s number; called again it changes the schedule';

CREATE FUNCTION unschedule_maintenance(stream text DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint := 0;
BEGIN
	IF to_regclass('cron.job') IS NOT NULL THEN
		EXECUTE 'SELECT count(cron.unschedule(j.jobid)) FROM cron.job j WHERE j.jobname = $1 AND j.username = current_user' INTO n
		USING coalesce('clickstream maintenance of ' || stream, 'clickstream maintenance');
	END IF;
	RETURN n > 0;
END
$$;
COMMENT ON FUNCTION unschedule_maintenance(text) IS 'ends what schedule_maintenance() began; returns whether there was such a job';

-- ---------------------------------------------------------------------
-- alerts: queries that are evaluated after commits
-- ---------------------------------------------------------------------

CREATE FUNCTION create_alert(
	name     text,
	query    text,
	hold_for interval DEFAULT '0',
	channel  text     DEFAULT 'clickstream_alert',
	stream   text     DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_create_alert'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_alert(text, text, interval, text, text) IS
	'makes an alert that is on as long as a query returns rows, after it has done so for hold_for; told by NOTIFY and in alert_history; evaluated by the worker of the stream whose tables it reads, or that is named';

CREATE FUNCTION alter_alert(
	name     text,
	query    text     DEFAULT NULL,
	hold_for interval DEFAULT NULL,
	channel  text     DEFAULT NULL,
	enabled  boolean  DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_alert'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_alert(text, text, interval, text, boolean) IS
	'changes an alert, or enables one that was disabled; NULL leaves a setting as it is';

CREATE FUNCTION drop_alert(name text, if_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_drop_alert'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION drop_alert(text, boolean) IS 'drops an alert with its history; one that is on ends';

CREATE FUNCTION check_alert(name text, OUT holds boolean, OUT detail jsonb)
AS 'MODULE_PATHNAME', 'clickstream_check_alert'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION check_alert(text) IS
	'evaluates an alert''s query in this session: does it return rows, and what is the first? changes nothing';

CREATE FUNCTION notify_changes(t regclass, channel text)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_notify_changes'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION notify_changes(regclass, text) IS
	'lets each batch that writes into a result table tell so on a channel, with the numbers of rows written and deleted; NULL ends that';

CREATE VIEW alert WITH (security_barrier) AS
SELECT s.name AS stream, a.name,
	   CASE WHEN NOT a.enabled THEN 'disabled' WHEN a.alert_event_id IS NOT NULL THEN 'on'
		   WHEN a.holds_since IS NOT NULL THEN 'pending' ELSE 'off' END AS state,
	   coalesce(e.began_at, a.holds_since) AS since, e.detail, a.query, a.hold_for, a.channel, a.last_error, a.last_error_sqlstate,
	   a.last_error_at
FROM clickstream.alert_definition a
JOIN clickstream.stream s USING (stream_id)
LEFT JOIN clickstream.alert_event_data e ON e.alert_event_id = a.alert_event_id
WHERE pg_catalog.pg_has_role(s.owner::pg_catalog.oid, 'USAGE');
COMMENT ON VIEW alert IS 'alerts of the streams that are yours, and their state';
COMMENT ON COLUMN alert.stream IS 'stream whose worker evaluates it';
COMMENT ON COLUMN alert.name IS 'name of the alert';
COMMENT ON COLUMN alert.state IS 'off; pending: the query returns rows, but not for hold_for yet; on; disabled: by hand, or because the query failed';
COMMENT ON COLUMN alert.since IS 'since when it is on, or pending';
COMMENT ON COLUMN alert.detail IS 'first row of the query as it began';
COMMENT ON COLUMN alert.query IS 'query whose rows mean that it is on';
COMMENT ON COLUMN alert.hold_for IS 'how long the query must have returned rows before it begins';
COMMENT ON COLUMN alert.channel IS 'channel of NOTIFY; NULL: none';
COMMENT ON COLUMN alert.last_error IS 'why it failed, or was disabled';
COMMENT ON COLUMN alert.last_error_sqlstate IS 'SQLSTATE of that';
COMMENT ON COLUMN alert.last_error_at IS 'when that was';

CREATE VIEW alert_history WITH (security_barrier) AS
SELECT s.name AS stream, a.name, e.began_at, e.ended_at, e.detail
FROM clickstream.alert_event_data e
JOIN clickstream.alert_definition a USING (alert_id)
JOIN clickstream.stream s USING (stream_id)
WHERE pg_catalog.pg_has_role(s.owner::pg_catalog.oid, 'USAGE');
COMMENT ON VIEW alert_history IS 'when alerts were on, of the streams that are yours';
COMMENT ON COLUMN alert_history.stream IS 'stream whose worker evaluated it';
COMMENT ON COLUMN alert_history.name IS 'name of the alert';
COMMENT ON COLUMN alert_history.began_at IS 'when it began';
COMMENT ON COLUMN alert_history.ended_at IS 'when it ended; NULL: it is on';
COMMENT ON COLUMN alert_history.detail IS 'first row of the query as it began';
GRANT SELECT ON alert, alert_history TO PUBLIC;

-- ---------------------------------------------------------------------
-- live state
-- ---------------------------------------------------------------------

CREATE FUNCTION open_sessions(
	t regclass,
	OUT session_id text,
	OUT visitor text,
	OUT session_start timestamptz,
	OUT session_end timestamptz,
	OUT last_event timestamptz,
	OUT event_count bigint,
	OUT measures jsonb,
	OUT commit_number bigint
) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_open_sessions' LANGUAGE C STRICT STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION open_sessions(regclass) IS
'sessions of a session table that are open as of the newest commit that the query sees; session_end is where each would end if nothing more came';

CREATE FUNCTION open_windows(
	t regclass,
	OUT window_start timestamptz,
	OUT window_end timestamptz,
	OUT groups jsonb,
	OUT measures jsonb,
	OUT group_key uuid,
	OUT is_rest boolean,
	OUT commit_number bigint
) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_open_windows' LANGUAGE C STRICT STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION open_windows(regclass) IS
'windows of a window table that are open as of the newest commit that the query sees, each with what it holds by now; of a rollup its open buckets';

CREATE FUNCTION open_funnels(
	t regclass,
	OUT attempt_id text,
	OUT visitor text,
	OUT level integer,
	OUT step text,
	OUT started_at timestamptz,
	OUT expires_at timestamptz,
	OUT step_times jsonb,
	OUT breakdown jsonb,
	OUT waiting_events bigint,
	OUT commit_number bigint
) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_open_funnels' LANGUAGE C STRICT STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION open_funnels(regclass) IS
'attempts of a funnel table that are open as of the newest commit that the query sees, as if nothing more came; waiting_events is how many events of the key the watermark has not reached';

CREATE FUNCTION open_rows(t regclass) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_open_rows' LANGUAGE C STRICT STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION open_rows(regclass) IS
'what is open of a result table, with those of its columns that the caller''s column list names; the view <table>_live puts them beside the table''s own rows';

CREATE FUNCTION damaged_state(
	stream text,
	OUT definition regclass,
	OUT state_key uuid,
	OUT window_start timestamptz,
	OUT bytes integer,
	OUT problem text,
	OUT loss text
) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_damaged_state' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION damaged_state(text) IS
'entries of a stream''s state that cannot be read, and what would be lost with each; definition NULL: of dedupe_by; the worker waits meanwhile';

CREATE FUNCTION discard_damaged_state(
	stream text,
	OUT definition regclass,
	OUT state_key uuid,
	OUT window_start timestamptz,
	OUT bytes integer,
	OUT problem text,
	OUT loss text
) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_discard_damaged_state' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION discard_damaged_state(text) IS
'gives up the entries of a stream''s state that cannot be read, and nothing else; returns what is lost; start() lets a stream go on that has failed because of them';

-- ---------------------------------------------------------------------
-- why: what became of one message
-- ---------------------------------------------------------------------

-- What explain_event() must know of definitions, for whom may see their rows.
CREATE VIEW definition_shape WITH (security_barrier) AS
SELECT s.name AS stream, s.event_relation, d.table_oid, d.view_oid, d.kind, d.steps,
	   a.attname AS key_column, d.start_column, d.size, r.table_oid AS source, r.start_column AS source_start, g.closed, d.allowed_lateness
FROM clickstream.definition d
JOIN clickstream.stream s USING (stream_id)
LEFT JOIN clickstream.definition r ON r.definition_id = d.source_id
LEFT JOIN clickstream.progress g ON g.stream_id = d.stream_id
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.view_oid AND a.attnum = 1
WHERE pg_catalog.has_table_privilege(d.table_oid::pg_catalog.oid, 'SELECT');
COMMENT ON VIEW definition_shape IS 'definitions whose tables you may read';
COMMENT ON COLUMN definition_shape.stream IS 'name of the stream';
COMMENT ON COLUMN definition_shape.event_relation IS 'view whose columns are those of an event';
COMMENT ON COLUMN definition_shape.table_oid IS 'result table';
COMMENT ON COLUMN definition_shape.view_oid IS 'view of its expressions; NULL for event logs';
COMMENT ON COLUMN definition_shape.kind IS 's session, w window, f funnel, r rollup, l event log';
COMMENT ON COLUMN definition_shape.steps IS 'funnel: names of the steps';
COMMENT ON COLUMN definition_shape.key_column IS 'session, funnel: the column of whose row it is';
COMMENT ON COLUMN definition_shape.start_column IS 'column of the result that says when a row started; rollup: when a row of its source did';
COMMENT ON COLUMN definition_shape.size IS 'window, rollup: length';
COMMENT ON COLUMN definition_shape.closed IS 'everything up to this watermark is closed';
COMMENT ON COLUMN definition_shape.allowed_lateness IS 'how long rows may change after the watermark has passed them';
COMMENT ON COLUMN definition_shape.source IS 'rollup: table it reads';
COMMENT ON COLUMN definition_shape.source_start IS 'rollup: column of that table that says when a row started';
GRANT SELECT ON definition_shape TO PUBLIC;

CREATE FUNCTION page_stays(
	t          regclass,
	start_time timestamptz DEFAULT NULL,
	end_time   timestamptz DEFAULT NULL,
	OUT session_id    text,
	OUT visitor       text,
	OUT session_start timestamptz,
	OUT page          text,
	OUT began         timestamptz,
	OUT seconds       double precision,
	OUT views         bigint,
	OUT is_exit       boolean)
RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key text;
	stays text;
BEGIN
	IF t IS NULL THEN
		RAISE EXCEPTION 't must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT s.key_column INTO key FROM clickstream.definition_shape s WHERE s.table_oid = t AND s.kind = 's';
	IF NOT FOUND THEN
		RAISE EXCEPTION '"%" is not a table of sessions', t
			USING ERRCODE = 'wrong_object_type', DETAIL = 'Or you may not read it.';
	END IF;
	SELECT a.attname INTO stays FROM pg_attribute a
	WHERE a.attrelid = t AND a.attnum > 0 AND a.atttypid = 'clickstream.page_stay[]'::regtype ORDER BY a.attnum LIMIT 1;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table "%" does not say how long pages were looked at', t
			USING ERRCODE = 'undefined_column',
				HINT = 'Make it with a measure page_dwell(page_url) FILTER (WHERE event_type = ''page_view'') AS page_stays.';
	END IF;
	RETURN QUERY EXECUTE format($query$
		SELECT s.session_id, s.%1$I::text, s.session_start, p.page, p.began, p.seconds, p.views, p.n = cardinality(s.%2$I)
		FROM %3$s s CROSS JOIN LATERAL unnest(s.%2$I) WITH ORDINALITY AS p(page, began, seconds, views, n)
		WHERE ($1 IS NULL OR s.session_start >= $1) AND ($2 IS NULL OR s.session_start < $2)
	$query$, key, stays, t) USING start_time, end_time;
END
$$;
COMMENT ON FUNCTION page_stays(regclass, timestamptz, timestamptz) IS
	'page views of a table of sessions that has a measure page_dwell(page), one a row, with how long each lasted; is_exit: it is the session''s last';

CREATE FUNCTION view_over(view regclass, rows text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_view_over' LANGUAGE C STRICT STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION view_over(regclass, text) IS
	'a definition''s view over the rows of a SELECT, whose columns are those of what the view reads; the caller''s column list names the view''s';

CREATE FUNCTION was_final(shape definition_shape, evaluated jsonb, watermark timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	start constant timestamptz := evaluated ->> 'window_start';
	ends timestamptz;
	revised boolean;
BEGIN
	EXECUTE format('SELECT r.window_end, r.revision > 0 FROM %s r WHERE r.window_start = $1'
			' ORDER BY to_jsonb(r) @> (SELECT coalesce(jsonb_object_agg(c.name, $2 -> c.name), ''{}'') FROM clickstream.result_columns($3) c WHERE c.role = ''group'') DESC,'
			' r.window_end DESC LIMIT 1', shape.table_oid)
		INTO ends, revised USING start, evaluated, shape.table_oid;
	RETURN ends - interval '1 millisecond' <= watermark - coalesce(shape.allowed_lateness, '0') AND NOT (revised AND EXISTS (
		SELECT FROM clickstream.late_event l WHERE l.definition = shape.table_oid AND l.applied_at IS NOT NULL
		AND l.event_time >= start AND l.event_time < ends));
END
$$;
COMMENT ON FUNCTION was_final(definition_shape, jsonb, timestamptz) IS
	'was a window final when an event came, and was it not made again since? For explain_event()';

CREATE FUNCTION explain_event(
	stream         text,
	partition      integer,
	message_offset bigint,
	topic          text DEFAULT NULL,
	OUT definition regclass,
	OUT outcome    text,
	OUT row_id     text,
	OUT detail     jsonb)
RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	at record;
	log regclass;
	event jsonb;
	shape clickstream.definition_shape;
	letter record;
	retried jsonb;
	source text;
	evaluated jsonb;
	watermark timestamptz;
BEGIN
	IF stream IS NULL OR partition IS NULL OR message_offset IS NULL THEN
		RAISE EXCEPTION 'stream, partition and message_offset must be given' USING ERRCODE = 'null_value_not_allowed';
	ELSIF NOT EXISTS (SELECT FROM clickstream.stat_stream s WHERE s.stream = explain_event.stream) THEN
		RAISE EXCEPTION 'stream "%" does not exist', stream
			USING ERRCODE = 'undefined_object', HINT = 'View clickstream.stat_stream lists the streams.';
	END IF;
	BEGIN
		SELECT p.* INTO STRICT at FROM clickstream.stat_partition p
		WHERE p.stream = explain_event.stream AND p.partition = explain_event.partition AND (explain_event.topic IS NULL OR p.topic = explain_event.topic);
	EXCEPTION
		WHEN no_data_found THEN
			RAISE EXCEPTION 'stream "%" has read no partition %', stream, coalesce(topic || '/', '') || partition
				USING ERRCODE = 'undefined_object', HINT = 'View clickstream.stat_partition lists those that it has.';
		WHEN too_many_rows THEN
			RAISE EXCEPTION 'stream "%" reads partition % of several topics', stream, partition
				USING ERRCODE = 'ambiguous_parameter', HINT = 'Give the topic, too.';
	END;
	topic := at.topic;
	IF message_offset >= at.next_offset THEN
		outcome := 'not read yet';
		detail := jsonb_build_object('start_offset', at.start_offset, 'next_offset', at.next_offset);
		RETURN NEXT;
		RETURN;
	END IF;
	SELECT jsonb_build_object('passed_at', o.passed_at, 'hint', 'seek() or skip_message() has passed over it') INTO detail
	FROM clickstream.skipped o
	WHERE o.stream = explain_event.stream AND o.topic = at.topic AND o.partition = at.partition
	  AND explain_event.message_offset >= o.first_offset AND explain_event.message_offset < o.next_offset;
	IF FOUND THEN
		outcome := 'skipped';
		RETURN NEXT;
		RETURN;
	END IF;

	-- the message
	SELECT d.table_oid INTO log FROM clickstream.definition_shape d WHERE d.stream = explain_event.stream AND d.kind = 'l';
	SELECT l.cause, l.error, l.sqlstate, l.arrived_at, l.retried_at, l.outcome INTO letter FROM clickstream.dead_letter l
	WHERE l.stream = explain_event.stream AND l.topic = at.topic AND l.partition = at.partition AND l.message_offset = explain_event.message_offset
	  AND l.definition IS NULL;
	IF FOUND AND letter.outcome IS NULL THEN
		outcome := 'dead';
		detail := jsonb_strip_nulls(to_jsonb(letter));
		RETURN NEXT;
		RETURN;
	END IF;
	retried := jsonb_build_object('retried_at', letter.retried_at, 'was_dead', letter.error);
	IF log IS NOT NULL THEN
		EXECUTE format('SELECT to_jsonb(e) - ''{message_key, commit_number, arrival, watermark}''::text[] FROM %s e'
			' WHERE e.topic = $1 AND e.partition = $2 AND e.message_offset = $3', log) INTO event USING at.topic, partition, message_offset;
		EXECUTE format('SELECT e.watermark FROM %s e WHERE e.topic = $1 AND e.partition = $2 AND e.message_offset = $3', log)
			INTO watermark USING at.topic, partition, message_offset;
	END IF;
	outcome := coalesce(event ->> 'class', letter.outcome, CASE WHEN message_offset < at.start_offset THEN 'before the start' WHEN log IS NULL THEN 'unknown'
		ELSE 'not in the event log' END);
	detail := CASE WHEN message_offset < at.start_offset THEN jsonb_build_object('start_offset', at.start_offset, 'next_offset', at.next_offset,
			'hint', 'a definition with history may have read it in the topic; its late event or dead letter is below')
		WHEN event IS NULL THEN jsonb_build_object('hint', CASE WHEN log IS NULL
		THEN 'an event log, made by create_event_log(), would tell; late events and dead letters of definitions are below'
		ELSE 'it came before the log was made, is older than the log''s retention, or had no payload' END)
		ELSE jsonb_strip_nulls(event - 'class') END || jsonb_strip_nulls(retried);
	RETURN NEXT;

	-- each definition
	FOR shape IN SELECT d.* FROM clickstream.definition_shape d WHERE d.stream = explain_event.stream AND d.kind IN ('s', 'w', 'f') ORDER BY d.table_oid::text LOOP
		definition := shape.table_oid;
		row_id := NULL;
		SELECT l.cause, l.error, l.sqlstate, l.arrived_at INTO letter FROM clickstream.dead_letter l
		WHERE l.stream = explain_event.stream AND l.topic = at.topic AND l.partition = at.partition
		  AND l.message_offset = explain_event.message_offset AND l.definition = shape.table_oid;
		IF FOUND THEN
			outcome := 'dead';
			detail := to_jsonb(letter);
			RETURN NEXT;
			CONTINUE;
		END IF;
		SELECT l.lateness, l.watermark, l.arrived_at, l.applied_at INTO letter FROM clickstream.late_event l
		WHERE l.stream = explain_event.stream AND l.topic = at.topic AND l.partition = at.partition
		  AND l.message_offset = explain_event.message_offset AND l.definition = shape.table_oid;
		IF FOUND AND letter.applied_at IS NULL THEN
			outcome := 'late';
			detail := jsonb_strip_nulls(to_jsonb(letter));
			RETURN NEXT;
			CONTINUE;
		END IF;
		CONTINUE WHEN event IS NULL OR event ->> 'class' IN ('duplicate', 'filtered') OR EXISTS (
			SELECT FROM clickstream.stat_definition_partition p WHERE p.definition = shape.table_oid AND p.topic = at.topic AND p.partition = at.partition
			AND p.since_offset > explain_event.message_offset);
		-- its own view, over this one event; what it raises now it has raised then, or would
		BEGIN
			SELECT format('SELECT %s FROM %s l WHERE l.topic = %L AND l.partition = %s AND l.message_offset = %s',
				string_agg(CASE a.attname WHEN 'place' THEN 'clickstream.place(l.event_time, l.topic, l.partition, l.message_offset)' ELSE format('l.%I', a.attname) END,
					', ' ORDER BY a.attnum), log, at.topic, partition, message_offset) INTO source
			FROM pg_attribute a WHERE a.attrelid = shape.event_relation AND a.attnum > 0;
			FOR evaluated IN EXECUTE format('SELECT to_jsonb(v.*) FROM clickstream.view_over($1, $2) AS v(%s)', (
				SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
				FROM pg_attribute a WHERE a.attrelid = shape.view_oid AND a.attnum > 0)) USING shape.view_oid, source
			LOOP
				outcome := 'used';
				detail := evaluated;
				CONTINUE WHEN shape.kind <> 'w' AND evaluated ->> shape.key_column::text IS NULL;
				IF shape.kind = 'f' THEN
					SELECT jsonb_build_object(shape.key_column, evaluated -> shape.key_column::text, 'steps', coalesce(jsonb_agg(s.name ORDER BY s.n), '[]')) INTO detail
					FROM unnest(shape.steps) WITH ORDINALITY AS s(name, n) WHERE (evaluated ->> ('step_' || s.n))::boolean;
					IF EXISTS (SELECT FROM jsonb_each_text(evaluated) AS x(name, met) WHERE name ~ '^exclusion_\d+$' AND met = 'true') THEN
						detail := detail || '{"exclusion": true}';
					END IF;
					CONTINUE WHEN detail -> 'steps' = '[]' AND NOT detail ? 'exclusion';
					EXECUTE format('SELECT string_agg(f.attempt_id, '', '' ORDER BY f.started_at) FROM %s f WHERE f.%I::text = $1 AND $2 IN (%s)', shape.table_oid,
							shape.key_column, (SELECT string_agg(format('f.%I', name || '_time'), ', ') FROM unnest(shape.steps) AS name))
						INTO row_id USING evaluated ->> shape.key_column::text, (event ->> 'event_time')::timestamptz;
				ELSIF shape.kind = 's' THEN
					EXECUTE format('SELECT string_agg(f.session_id, '', '' ORDER BY f.session_start) FROM %s f WHERE f.%I::text = $1'
							' AND $2 BETWEEN f.session_start AND f.session_end', shape.table_oid, shape.key_column)
						INTO row_id USING evaluated ->> shape.key_column::text, (event ->> 'event_time')::timestamptz;
				ELSIF clickstream.was_final(shape, evaluated, watermark) THEN
					outcome := 'late';
				END IF;
				RETURN NEXT;
			END LOOP;
		EXCEPTION WHEN OTHERS THEN
			outcome := 'error';
			row_id := NULL;
			detail := jsonb_build_object('error', SQLERRM, 'sqlstate', SQLSTATE);
			RETURN NEXT;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION explain_event(text, integer, bigint, text) IS
	'what became of a message: first of itself, then of each definition that took it, with the session or attempts it is in and what the definition''s expressions make of it';

-- ---------------------------------------------------------------------
-- verify: a definition's rows made again, and compared
-- ---------------------------------------------------------------------

CREATE FUNCTION result_columns(t regclass, OUT name text, OUT type text, OUT role text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_result_columns' LANGUAGE C STRICT STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION result_columns(regclass) IS
	'columns of a result table that its definition makes; role: key, group or value';

CREATE FUNCTION recompute(t regclass, start_time timestamptz, end_time timestamptz) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'clickstream_recompute' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION recompute(regclass, timestamptz, timestamptz) IS
	'final rows of a session, window or funnel as the event log makes them, those that start in the period; the caller''s column list names columns of the table';

CREATE FUNCTION recompute_border(t regclass) RETURNS timestamptz
AS 'MODULE_PATHNAME', 'clickstream_recompute_border' LANGUAGE C STRICT STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION recompute_border(regclass) IS
	'from which start on rows can be made again; -infinity: all, infinity: none';

CREATE FUNCTION verify(
	t regclass,
	start_time timestamptz DEFAULT NULL,
	end_time timestamptz DEFAULT NULL,
	OUT outcome text,
	OUT key jsonb,
	OUT detail jsonb)
RETURNS SETOF record
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	shape clickstream.definition_shape;
	border timestamptz;
	settled timestamptz;
	keys text;
	columns text;
	floats text[];
	made text;
	side text;
	ours jsonb;
	theirs jsonb;
BEGIN
	IF t IS NULL THEN
		RAISE EXCEPTION 't must be given' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF start_time >= end_time THEN
		RAISE EXCEPTION 'start_time must be before end_time' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'start_time is inclusive, end_time exclusive; both mean the start of rows.';
	END IF;
	border := clickstream.recompute_border(t);
	SELECT d.* INTO shape FROM clickstream.definition_shape d WHERE d.table_oid = t;
	end_time := coalesce(end_time, 'infinity');
	IF shape.kind = 'r' AND start_time < border THEN
		RAISE EXCEPTION 'rows that "%" is made of may have been deleted by retention', t USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = format('Those that start before %s.', border), HINT = 'Give a later start_time.';
	END IF;
	start_time := coalesce(start_time, border);
	SELECT string_agg(format('%I', c.name), ', ') FILTER (WHERE c.role IN ('key', 'group') AND (shape.kind <> 'r' OR c.name NOT IN ('group_key', 'window_end'))),
		string_agg(format('%I', c.name), ', ') FILTER (WHERE c.role = 'value' AND c.name <> 'revision' AND (shape.kind <> 'r' OR c.name NOT IN ('window_end', 'is_final', 'is_rest'))),
		array_agg(c.name) FILTER (WHERE c.type IN ('double precision', 'real')),
		format('clickstream.recompute(%L, %L, %L) AS x(%s)', t, start_time, end_time, string_agg(format('%I %s', c.name, c.type), ', '))
	INTO keys, columns, floats, made FROM clickstream.result_columns(t) c;

	-- k.* and v.*: columns may have these names, too
	side := format('SELECT (SELECT to_jsonb(k.*) FROM (SELECT %s) AS k) AS key, (SELECT to_jsonb(v.*) FROM (SELECT %s) AS v) AS line FROM ', keys, columns);

	-- A rollup in plain SQL: its view over its source table. Missing can only be what is settled: nothing of the source is open there, or can change.
	IF shape.kind = 'r' THEN
		EXECUTE format('SELECT least($1, (SELECT min(%1$I) FROM %2$s WHERE NOT is_final), (SELECT min(o.%1$I) FROM clickstream.%3$s($2) o))',
			shape.source_start, shape.source, CASE shape.source_start WHEN 'started_at' THEN 'open_funnels' ELSE 'open_sessions' END)
			INTO settled USING coalesce(shape.closed, '-infinity'), shape.source;
		made := format('(SELECT * FROM clickstream.view_over(%1$L, %2$L) AS v(%3$s) WHERE window_start >= %4$L AND window_start < %5$L'
			' AND (window_start + %6$L::interval <= %7$L OR EXISTS (SELECT FROM %8$s f WHERE f.is_final AND f.window_start = v.window_start))) AS x',
			shape.view_oid, format('SELECT * FROM %s e WHERE e.%I >= %L AND e.%2$I < %4$L', shape.source, shape.source_start, start_time, end_time + shape.size),
			(SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
				FROM pg_attribute a WHERE a.attrelid = shape.view_oid AND a.attnum > 0),
			start_time, end_time, shape.size, settled, t);
	END IF;
	FOR key, ours, theirs IN EXECUTE format('SELECT coalesce(o.key, m.key), o.line, m.line FROM (%1$s%2$s) AS o FULL JOIN (%1$s%3$s) AS m ON o.key = m.key'
			' WHERE o.line IS DISTINCT FROM m.line', side, format('(SELECT * FROM %1$s WHERE is_final AND %2$I >= %3$L AND %2$I < %4$L) AS x', t,
				CASE shape.kind WHEN 'r' THEN 'window_start' ELSE shape.start_column END, start_time, end_time), made)
	LOOP
		outcome := CASE WHEN ours IS NULL THEN 'missing' WHEN theirs IS NULL THEN 'unexpected' ELSE 'different' END;
		detail := coalesce(ours, theirs);
		IF outcome = 'different' THEN
			-- Sums of floats depend on the order of adding in their last digits; and what the clock had closed before finish() the log does not say,
			-- nor what finish() had closed before later messages came.
			SELECT jsonb_object_agg(a.name, jsonb_build_object('table', a.value, 'recomputed', theirs -> a.name)) INTO detail
			FROM jsonb_each(ours) AS a(name, value)
			WHERE a.value IS DISTINCT FROM theirs -> a.name AND NOT (a.name = 'closed_reason' AND shape.closed = 'infinity' AND '"finish"' IN (a.value, theirs -> a.name))
			  AND CASE WHEN a.name = ANY (floats) AND jsonb_typeof(a.value) = 'number' AND jsonb_typeof(theirs -> a.name) = 'number'
				THEN abs(a.value::float8 - (theirs -> a.name)::float8) > 1e-9 * greatest(abs(a.value::float8), abs((theirs -> a.name)::float8)) ELSE true END;
		END IF;
		IF detail IS NOT NULL THEN
			RETURN NEXT;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION verify(regclass, timestamptz, timestamptz) IS
	'makes the final rows of a result table again that start in a period, sessions, windows and funnels from the event log, rollups from their source table, and returns where the table differs; nothing: it is right';


-- ---------------------------------------------------------------------
-- sinks: rows of result tables into topics
-- ---------------------------------------------------------------------

CREATE FUNCTION create_sink(
	name          text,
	source        regclass,
	topic         text,
	brokers       text    DEFAULT NULL,
	options       jsonb   DEFAULT NULL,
	emit          text    DEFAULT 'changes',
	transactional boolean DEFAULT true,
	outbox_limit  bigint  DEFAULT 1000000,
	backfill      boolean DEFAULT false,
	check_broker  boolean DEFAULT true,
	if_not_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_create_sink'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_sink(text, regclass, text, text, jsonb, text, boolean, bigint, boolean, boolean, boolean) IS
	'sends the rows of a session, window, funnel or rollup to a topic as JSON, each revision once: changes or final ones; brokers and options NULL: those of the stream; backfill: with the rows that are there';

CREATE FUNCTION alter_sink(
	name         text,
	brokers      text    DEFAULT NULL,
	options      jsonb   DEFAULT NULL,
	outbox_limit bigint  DEFAULT NULL,
	check_broker boolean DEFAULT true)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_sink'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_sink(text, text, jsonb, bigint, boolean) IS 'changes a sink; NULL leaves a setting as it is';

CREATE FUNCTION drop_sink(name text, if_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_drop_sink'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION drop_sink(text, boolean) IS 'drops a sink, with what it has not sent yet; the topic stays';

CREATE FUNCTION start_sink(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_start_sink'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION start_sink(text) IS 'lets a sink run that was stopped, or has failed';

CREATE FUNCTION stop_sink(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_stop_sink'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION stop_sink(text) IS 'stops a sink: rows wait in its outbox until start_sink()';

CREATE FUNCTION reset_sink(name text, backfill boolean DEFAULT true)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_reset_sink'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION reset_sink(text, boolean) IS
	'begins a sink anew, with an empty outbox or (backfill) with all rows that its table has: where rows were lost, or the topic is of another history';

CREATE VIEW stat_sink AS
SELECT
	k.name AS sink,
	s.name AS stream,
	d.table_oid AS definition,
	k.topic,
	CASE WHEN w.state IN ('running', 'waiting for broker') AND e.lost > 0 AND e.next_position = t.position + 1 THEN 'failed' ELSE w.state END AS state,
	w.pid,
	e.next_position - 1 - t.position AS waiting,
	o.written_at AS waiting_since,
	k.outbox_limit,
	e.lost,
	t.position AS sent,
	t.sent_at,
	w.last_error,
	w.last_hint,
	w.last_error_sqlstate,
	w.last_error_at,
	CASE WHEN e.lost > 0 THEN 'The outbox was full: rows were lost since ' || e.lost_since || '. Run clickstream.reset_sink().'
		WHEN k.enabled AND NOT h.is_home AND w.pid IS NULL
		THEN 'The sink came here with a copied or restored database. Run clickstream.start() for its stream when it shall run here, too.'
		ELSE w.problem END AS problem
FROM clickstream.sink k
JOIN clickstream.stream s USING (stream_id)
JOIN clickstream.definition d USING (definition_id)
JOIN clickstream.sink_end e USING (sink_id)
JOIN clickstream.sink_sent t USING (sink_id)
CROSS JOIN LATERAL (SELECT EXISTS (
	SELECT FROM clickstream.stream_home h JOIN pg_catalog.pg_database b ON b.oid = h.database_oid
	WHERE h.stream_id = k.stream_id AND b.datname = pg_catalog.current_database())) AS h(is_home)
CROSS JOIN LATERAL clickstream.stat_worker(- k.sink_id, k.enabled AND h.is_home) AS w
LEFT JOIN LATERAL (
	SELECT q.written_at FROM clickstream.outbox q WHERE q.sink_id = k.sink_id ORDER BY q.position LIMIT 1
) AS o ON true;
COMMENT ON VIEW stat_sink IS 'what each sink is doing and how far it is; what went wrong is shown to members of its stream''s owner, pg_monitor and clickstream_admin';
COMMENT ON COLUMN stat_sink.sink IS 'name of the sink';
COMMENT ON COLUMN stat_sink.stream IS 'name of the stream';
COMMENT ON COLUMN stat_sink.definition IS 'result table whose rows it sends';
COMMENT ON COLUMN stat_sink.topic IS 'topic that they are sent to';
COMMENT ON COLUMN stat_sink.state IS 'as that of a stream in stat_stream; failed also where rows were lost and all others are sent';
COMMENT ON COLUMN stat_sink.pid IS 'process that sends; NULL: none';
COMMENT ON COLUMN stat_sink.waiting IS 'rows in the outbox that are not known to be in the topic';
COMMENT ON COLUMN stat_sink.waiting_since IS 'when the oldest of them was written';
COMMENT ON COLUMN stat_sink.outbox_limit IS 'rows that may wait; then the sink gives up, and the stream goes on';
COMMENT ON COLUMN stat_sink.lost IS 'rows that found the outbox full; reset_sink() begins anew';
COMMENT ON COLUMN stat_sink.sent IS 'position of the last row that is known to be in the topic';
COMMENT ON COLUMN stat_sink.sent_at IS 'when that was';
COMMENT ON COLUMN stat_sink.last_error IS 'the last error';
COMMENT ON COLUMN stat_sink.last_hint IS 'what to do about it';
COMMENT ON COLUMN stat_sink.last_error_sqlstate IS 'its SQLSTATE';
COMMENT ON COLUMN stat_sink.last_error_at IS 'when it happened';
COMMENT ON COLUMN stat_sink.problem IS 'why nothing is sent, or not all';
GRANT SELECT ON stat_sink TO PUBLIC;

-- ---------------------------------------------------------------------
-- rights: keep this section last
-- ---------------------------------------------------------------------

-- Whatever changes anything is for clickstream_admin, and then for owners.
DO $$
DECLARE
	routine pg_catalog.regprocedure;
BEGIN
	FOR routine IN
		SELECT p.oid FROM pg_catalog.pg_proc p
		WHERE p.pronamespace = 'clickstream'::pg_catalog.regnamespace
		  AND p.proname ~ '^(create|alter|drop|discard|damaged|trim|advance|wait|retry|apply|skip|set|check|notify|maintain|schedule|unschedule|start|stop|reset)_|^(start|stop|reset|produce|process|finish|quickstart|seek|maintain)$'
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', routine);
		EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO clickstream_admin', routine);
	END LOOP;
END
$$;
