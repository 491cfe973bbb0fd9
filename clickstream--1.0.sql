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
	watermark_delay interval NOT NULL,
	idle_timeout    interval NOT NULL,
	max_future      interval,
	visitor         text NOT NULL,
	preset          text NOT NULL,
	mapping         jsonb,
	extra_columns   text,
	filter          text,
	dedupe_by       text,
	dedupe_horizon  interval NOT NULL,
	options         jsonb,
	on_error        text NOT NULL,
	retention       interval,
	enabled         boolean NOT NULL DEFAULT false,
	time_zone       text NOT NULL,
	event_relation  regclass NOT NULL,
	stream_view     regclass NOT NULL,
	log_relations   regclass[] NOT NULL,
	version         integer NOT NULL DEFAULT 1,
	database_oid    oid NOT NULL,
	created_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE stream IS 'streams of events: a topic, how it is read and decoded, who owns it';
COMMENT ON COLUMN stream.version IS 'counts changes of the stream or its definitions: a running worker that sees another one loads them again';
COMMENT ON COLUMN stream.database_oid IS 'database in which the stream was made; another one means a restored or copied database, where nothing runs until start()';

CREATE TABLE definition (
	definition_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream_id       integer NOT NULL REFERENCES stream ON DELETE CASCADE,
	kind            "char" NOT NULL CHECK (kind IN ('s', 'w', 'f', 'r', 'l')),
	table_oid       regclass NOT NULL UNIQUE,
	view_oid        regclass,
	source_id       integer,
	start_column    text,
	size            interval,
	slide           interval,
	origin          timestamptz,
	gap             interval,
	max_length      interval,
	within          interval,
	strict_increase boolean,
	steps           text[],
	emit            text,
	emit_interval   interval,
	group_limit     bigint,
	retention       interval,
	filter          text,
	group_by        text,
	measures        text,
	key             text,
	created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON definition (stream_id);
CREATE INDEX ON definition (source_id);
COMMENT ON TABLE definition IS 'sessions, windows, funnels, rollups and event logs over a stream, each with its result table';
COMMENT ON COLUMN definition.source_id IS 'rollup: definition whose table it reads; no foreign key, because pg_dump warns of one that leads to its own table';

CREATE TABLE partition (
	stream_id       integer NOT NULL REFERENCES stream ON DELETE CASCADE,
	topic           text NOT NULL,
	partition       integer NOT NULL,
	next_offset     bigint NOT NULL,
	end_offset      bigint,
	max_time        timestamptz,
	last_event_time timestamptz,
	idle            boolean NOT NULL DEFAULT false,
	used            bigint NOT NULL DEFAULT 0,
	filtered        bigint NOT NULL DEFAULT 0,
	late            bigint NOT NULL DEFAULT 0,
	duplicate       bigint NOT NULL DEFAULT 0,
	dead            bigint NOT NULL DEFAULT 0,
	empty           bigint NOT NULL DEFAULT 0,
	skipped         bigint NOT NULL DEFAULT 0,
	start_offset    bigint NOT NULL,
	PRIMARY KEY (stream_id, topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE partition IS 'position, watermark and ledger of each partition; changes with each commit of its stream';
COMMENT ON COLUMN partition.max_time IS 'max of min(event_time, message timestamp): the watermark is this less the stream''s watermark_delay';

CREATE TABLE progress (
	stream_id       integer PRIMARY KEY REFERENCES stream ON DELETE CASCADE,
	commit_number   bigint NOT NULL DEFAULT 0,
	watermark       timestamptz,
	closed          timestamptz,
	advanced        timestamptz,
	finished        boolean NOT NULL DEFAULT false,
	log_half        smallint NOT NULL DEFAULT 0,
	log_copied      boolean NOT NULL DEFAULT true,
	log_copied_xid  xid8,
	next_set_id     bigint NOT NULL DEFAULT 1,
	committed_at    timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE progress IS 'number of the newest commit of each stream, its watermark, and which half of the state log is written';
COMMENT ON COLUMN progress.watermark IS 'the stream''s watermark; NULL before anything was read';
COMMENT ON COLUMN progress.closed IS 'everything up to this watermark is closed; behind watermark while a large closing goes on';
COMMENT ON COLUMN progress.advanced IS 'the watermark as last moved by hand, by advance_watermark()';
COMMENT ON COLUMN progress.finished IS 'finish() was called: the watermark is plus infinity';

CREATE TABLE local_partition (
	stream_id       integer NOT NULL REFERENCES stream ON DELETE CASCADE,
	partition       integer NOT NULL,
	first_offset    bigint NOT NULL DEFAULT 0,
	next_offset     bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (stream_id, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE local_partition IS 'partitions of the built-in local topic of streams without brokers';

CREATE TABLE local_message (
	stream_id       integer NOT NULL,
	partition       integer NOT NULL,
	message_offset  bigint NOT NULL,
	message_key     text,
	payload         text,
	message_timestamp timestamptz NOT NULL,
	PRIMARY KEY (stream_id, partition, message_offset)
);
COMMENT ON TABLE local_message IS 'messages of the built-in local topic, written by produce()';

CREATE TABLE dead_letter_data (
	dead_letter_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream_id       integer NOT NULL REFERENCES stream ON DELETE CASCADE,
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
	arrived_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE dead_letter_data IS 'messages that could not be used, as they came; read view dead_letter';

CREATE TABLE late_event_data (
	late_event_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	stream_id       integer NOT NULL REFERENCES stream ON DELETE CASCADE,
	definition_id   integer NOT NULL,
	topic           text NOT NULL,
	partition       integer NOT NULL,
	message_offset  bigint NOT NULL,
	event_time      timestamptz NOT NULL,
	lateness        interval NOT NULL,
	payload         bytea,
	arrived_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE late_event_data IS 'events that came too late for a definition; read view late_event';

CREATE INDEX ON dead_letter_data (stream_id, arrived_at);
CREATE INDEX ON late_event_data (stream_id, arrived_at);
CREATE INDEX ON late_event_data (definition_id);

-- What a dump must hold: definitions, positions and state.  Views and tables
-- that definitions made are ordinary ones and dumped as such.
SELECT pg_catalog.pg_extension_config_dump('stream', '');
SELECT pg_catalog.pg_extension_config_dump('stream_stream_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('definition', '');
SELECT pg_catalog.pg_extension_config_dump('definition_definition_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('partition', '');
SELECT pg_catalog.pg_extension_config_dump('progress', '');
SELECT pg_catalog.pg_extension_config_dump('local_partition', '');
SELECT pg_catalog.pg_extension_config_dump('local_message', '');
SELECT pg_catalog.pg_extension_config_dump('dead_letter_data', '');
SELECT pg_catalog.pg_extension_config_dump('dead_letter_data_dead_letter_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('late_event_data', '');
SELECT pg_catalog.pg_extension_config_dump('late_event_data_late_event_id_seq', '');

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
	if_not_exists   boolean     DEFAULT false)
RETURNS integer
AS 'MODULE_PATHNAME', 'clickstream_create_stream'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_stream(text, text, text, text, timestamptz, jsonb, interval, interval, interval, text, text,
	jsonb, text, text, text, interval, jsonb, text, interval, boolean, boolean) IS
	'makes a stream of events from a topic; without brokers, from a built-in local topic; returns its id';

CREATE FUNCTION alter_stream(
	name            text,
	watermark_delay interval DEFAULT NULL,
	idle_timeout    interval DEFAULT NULL,
	max_future      interval DEFAULT NULL,
	brokers         text     DEFAULT NULL,
	options         jsonb    DEFAULT NULL,
	on_error        text     DEFAULT NULL,
	retention       interval DEFAULT NULL,
	check_broker    boolean  DEFAULT true)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_stream'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_stream(text, interval, interval, interval, text, jsonb, text, interval, boolean) IS
	'changes a stream, running or not; NULL leaves a setting as it is';

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

CREATE FUNCTION is_preloaded()
RETURNS boolean
AS 'MODULE_PATHNAME', 'clickstream_is_preloaded'
LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION is_preloaded() IS 'is the library in shared_preload_libraries, so that streams can run?';

-- ---------------------------------------------------------------------
-- sessions
-- ---------------------------------------------------------------------

CREATE FUNCTION create_session(
	name          text,
	stream        text,
	gap           interval DEFAULT '30 minutes',
	measures      text     DEFAULT $$
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
		first(device_type) AS device_type$$,
	key           text     DEFAULT NULL,
	filter        text     DEFAULT NULL,
	max_length    interval DEFAULT '24 hours',
	if_not_exists boolean  DEFAULT false)
RETURNS regclass
AS 'MODULE_PATHNAME', 'clickstream_create_session'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_session(text, text, interval, text, text, text, interval, boolean) IS
	'makes a table of sessions: events of one visitor with no more than gap between them';

CREATE FUNCTION alter_session(
	name       regclass,
	gap        interval DEFAULT NULL,
	measures   text     DEFAULT NULL,
	key        text     DEFAULT NULL,
	filter     text     DEFAULT NULL,
	max_length interval DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_session'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_session(regclass, interval, text, text, text, interval) IS
	'raises for whatever would change the meaning of what is kept';

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
	group_by      text        DEFAULT NULL,
	filter        text        DEFAULT NULL,
	origin        timestamptz DEFAULT '1970-01-01 00:00:00+00',
	emit          text        DEFAULT NULL,
	emit_interval interval    DEFAULT '10 seconds',
	group_limit   bigint      DEFAULT 1000000,
	if_not_exists boolean     DEFAULT false)
RETURNS regclass
AS 'MODULE_PATHNAME', 'clickstream_create_window'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_window(text, text, interval, text, interval, text, text, timestamptz, text, interval, bigint,
	boolean) IS 'makes a table of tumbling windows, or with a slide of hopping ones: measures by time and group';

CREATE FUNCTION alter_window(
	name          regclass,
	emit_interval interval DEFAULT NULL,
	group_limit   bigint   DEFAULT NULL,
	size          interval DEFAULT NULL,
	slide         interval DEFAULT NULL,
	measures      text     DEFAULT NULL,
	group_by      text     DEFAULT NULL,
	filter        text     DEFAULT NULL,
	emit          text     DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_window'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_window(regclass, interval, bigint, interval, interval, text, text, text, text) IS
	'changes emit_interval or group_limit of a window; raises for what would change the meaning of what is kept';

CREATE FUNCTION drop_window(name text, if_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_drop_window'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION drop_window(text, boolean) IS 'drops a window definition and its table';

-- ---------------------------------------------------------------------
-- funnels
-- ---------------------------------------------------------------------

CREATE TYPE step AS (name text, condition text);
COMMENT ON TYPE step IS 'one step of a funnel';
COMMENT ON COLUMN step.name IS 'name of the step; its time is column <name>_time';
COMMENT ON COLUMN step.condition IS 'SQL condition over the columns of an event';

CREATE FUNCTION step(name text, condition text)
RETURNS step
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ROW(name, condition)::clickstream.step;
COMMENT ON FUNCTION step(text, text) IS 'one step of a funnel, for create_funnel()';

CREATE FUNCTION create_funnel(
	name            text,
	stream          text,
	within          interval,
	steps           step[],
	mode            text     DEFAULT 'ordered',
	key             text     DEFAULT NULL,
	filter          text     DEFAULT NULL,
	max_length      interval DEFAULT NULL,
	strict_increase boolean  DEFAULT false,
	if_not_exists   boolean  DEFAULT false)
RETURNS regclass
AS 'MODULE_PATHNAME', 'clickstream_create_funnel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_funnel(text, text, interval, step[], text, text, text, interval, boolean, boolean) IS
	'makes a table of attempts to go through steps in order: one row for each, with the level it reached';

CREATE FUNCTION alter_funnel(
	name       regclass,
	within     interval DEFAULT NULL,
	steps      step[]   DEFAULT NULL,
	key        text     DEFAULT NULL,
	filter     text     DEFAULT NULL,
	max_length interval DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_alter_funnel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION alter_funnel(regclass, interval, step[], text, text, interval) IS
	'raises for whatever would change the meaning of what is kept';

CREATE FUNCTION drop_funnel(name text, if_exists boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'clickstream_drop_funnel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION drop_funnel(text, boolean) IS 'drops a funnel definition and its table';

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
	if_not_exists boolean     DEFAULT false)
RETURNS regclass
AS 'MODULE_PATHNAME', 'clickstream_create_rollup'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION create_rollup(text, regclass, interval, text, text, text, timestamptz, text, interval, boolean) IS
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
-- local topic
-- ---------------------------------------------------------------------

CREATE FUNCTION produce(
	stream            text,
	payload           text,
	key               text        DEFAULT NULL,
	partition         integer     DEFAULT 0,
	message_timestamp timestamptz DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'clickstream_produce'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION produce(text, text, text, integer, timestamptz) IS
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
	   l.headers, d.table_oid AS definition, l.cause, l.error, l.sqlstate, l.arrived_at
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

CREATE VIEW late_event WITH (security_barrier) AS
SELECT s.name AS stream, l.topic, l.partition, l.message_offset, d.table_oid AS definition, l.event_time, l.lateness,
	   l.payload, l.arrived_at
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
COMMENT ON COLUMN late_event.payload IS 'payload of the message, as bytes';
COMMENT ON COLUMN late_event.arrived_at IS 'when it was consumed';

CREATE VIEW ledger WITH (security_barrier) AS
SELECT s.name AS stream, p.topic, p.partition, p.next_offset - p.start_offset AS consumed,
	   p.used, p.filtered, p.late, p.duplicate, p.dead, p.empty, p.skipped,
	   p.next_offset - p.start_offset =
	   p.used + p.filtered + p.late + p.duplicate + p.dead + p.empty + p.skipped AS balanced
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
COMMENT ON COLUMN ledger.balanced IS 'do the classes add up to what was consumed?';

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
END
$$;
COMMENT ON FUNCTION audit(text) IS
	'proves that each consumed offset of a stream is in exactly one class; raises where it is not';

GRANT SELECT ON dead_letter, late_event, ledger TO PUBLIC;

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
	start         boolean DEFAULT true)
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
		options => options);
	PERFORM clickstream.create_session(pg_catalog.concat(prefix, 'user_sessions'), stream => name,
		gap => '30 minutes');
	PERFORM clickstream.create_window(pg_catalog.concat(prefix, 'page_views_per_minute'), stream => name,
		size => '1 minute',
		filter => $$event_type = 'page_view'$$,
		group_by => 'page_url, page_title',
		measures => 'count(*) AS view_count, count(DISTINCT effective_user_id) AS unique_visitors');
	PERFORM clickstream.create_window(pg_catalog.concat(prefix, 'page_views_rolling'), stream => name,
		size => '15 minutes', slide => '1 minute',
		filter => $$event_type = 'page_view'$$,
		group_by => 'page_url',
		measures => 'count(*) AS view_count, count(DISTINCT effective_user_id) AS unique_visitors');
	PERFORM clickstream.create_window(pg_catalog.concat(prefix, 'traffic_by_source'), stream => name,
		size => '5 minutes',
		filter => $$event_type = 'page_view'$$,
		group_by => 'utm_source, utm_campaign, device_type',
		measures => 'count(*) AS event_count, count(DISTINCT effective_user_id) AS unique_users');
	PERFORM clickstream.create_funnel(pg_catalog.concat(prefix, 'checkout_funnel'), stream => name,
		within => '1 hour', key => 'user_id', steps => ARRAY[
			clickstream.step('product_view', $$event_type = 'page_view' AND page_url LIKE '%/product/%'$$),
			clickstream.step('add_to_cart', $$event_type = 'click' AND event_properties->>'action' = 'add_to_cart'$$),
			clickstream.step('checkout', $$event_type = 'page_view' AND page_url LIKE '%/checkout%'$$),
			clickstream.step('purchase', $$event_type = 'purchase'$$)]);
	PERFORM clickstream.create_window(pg_catalog.concat(prefix, 'funnel_step_counts'), stream => name,
		size => '1 hour',
		measures => $$
			count(DISTINCT user_id) FILTER (WHERE event_type = 'page_view' AND page_url LIKE '%/product/%') AS product_viewers,
			count(DISTINCT user_id) FILTER (WHERE event_properties->>'action' = 'add_to_cart') AS cart_adders,
			count(DISTINCT user_id) FILTER (WHERE event_type = 'page_view' AND page_url LIKE '%/checkout%') AS checkout_starters,
			count(DISTINCT user_id) FILTER (WHERE event_type = 'purchase') AS purchasers$$);
	PERFORM clickstream.create_rollup(pg_catalog.concat(prefix, 'session_metrics'),
		source => pg_catalog.concat(prefix, 'user_sessions')::pg_catalog.regclass,
		size => '1 minute',
		measures => $$
			count(*) AS total_sessions,
			avg(session_duration_seconds) AS avg_session_duration,
			avg(pages_viewed) AS avg_pages_per_session,
			avg((pages_viewed = 1)::int) AS bounce_rate$$);
	IF event_log THEN
		PERFORM clickstream.create_event_log(pg_catalog.concat(prefix, 'clickstream_events'), stream => name);
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
COMMENT ON FUNCTION quickstart(text, text, text, text, text, jsonb, boolean, boolean) IS
	'makes a stream with sessions, page views, funnel and session metrics, and starts it';

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
		  AND p.proname ~ '^(create|alter|drop|trim|advance|wait|retry|apply|skip)_|^(start|stop|reset|produce|process|finish|quickstart|seek)$'
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', routine);
		EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO clickstream_admin', routine);
	END LOOP;
END
$$;
