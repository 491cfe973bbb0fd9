/*
 * core/catalog.c
 *	  Reading and writing our own tables, and taking another role's identity.
 *
 * Statements are put together from our own names only; values always travel
 * as parameters.  See catalog.h for identity and search_path.
 */
#include "core/catalog.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "core/definition.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

void
cs_identity_enter(CsIdentity *saved, Oid role, bool safe_path)
{
	GetUserIdAndSecContext(&saved->userid, &saved->sec_context);
	SetUserIdAndSecContext(role, saved->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	saved->guc_level = 0;
	if (safe_path)
	{
		saved->guc_level = NewGUCNestLevel();
		(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	}
}

void
cs_identity_leave(const CsIdentity *saved)
{
	if (saved->guc_level > 0)
		AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->userid, saved->sec_context);
}

static CsValue
make_value(const char *column, Oid type, bool isnull, Datum value)
{
	CsValue result = {.column = column, .type = type, .value = value, .isnull = isnull};

	return result;
}

CsValue
cs_value_text(const char *column, const char *value)
{
	return make_value(column, TEXTOID, value == NULL, value ? CStringGetTextDatum(value) : (Datum) 0);
}

CsValue
cs_value_int(const char *column, int32 value)
{
	return make_value(column, INT4OID, false, Int32GetDatum(value));
}

CsValue
cs_value_bigint(const char *column, int64 value)
{
	return make_value(column, INT8OID, false, Int64GetDatum(value));
}

CsValue
cs_value_bool(const char *column, bool value)
{
	return make_value(column, BOOLOID, false, BoolGetDatum(value));
}

CsValue
cs_value_char(const char *column, char value)
{
	return make_value(column, CHAROID, false, CharGetDatum(value));
}

CsValue
cs_value_oid(const char *column, Oid type, Oid value)
{
	return make_value(column, type, !OidIsValid(value), ObjectIdGetDatum(value));
}

CsValue
cs_value_interval(const char *column, const Interval *value)
{
	return make_value(column, INTERVALOID, value == NULL, IntervalPGetDatum(value));
}

CsValue
cs_value_time(const char *column, const TimestampTz *value)
{
	return make_value(column, TIMESTAMPTZOID, value == NULL, value ? TimestampTzGetDatum(*value) : (Datum) 0);
}

CsValue
cs_value_jsonb(const char *column, Jsonb *value)
{
	return make_value(column, JSONBOID, value == NULL, JsonbPGetDatum(value));
}

CsValue
cs_value_array(const char *column, Oid element_type, Datum *elements, int n)
{
	int16 typlen;
	bool  typbyval;
	char  typalign;

	get_typlenbyvalalign(element_type, &typlen, &typbyval, &typalign);
	return make_value(column, get_array_type(element_type), n == 0,
					  PointerGetDatum(construct_array(elements, n, element_type, typlen, typbyval, typalign)));
}

/* Run a statement of ours with parameters; returns the number of rows. */
static uint64
execute_with(const char *command, const CsValue *values, int n, int expected)
{
	CsIdentity saved;
	Oid		   types[CS_MAX_VALUES];
	Datum	   datums[CS_MAX_VALUES];
	char	   nulls[CS_MAX_VALUES];
	uint64	   processed;
	int		   result;

	Assert(n <= CS_MAX_VALUES);
	for (int i = 0; i < n; i++)
	{
		types[i] = values[i].type;
		datums[i] = values[i].value;
		nulls[i] = values[i].isnull ? 'n' : ' ';
	}
	cs_identity_enter(&saved, cs_extension_owner(), true);
	SPI_connect();
	result = SPI_execute_with_args(command, n, types, datums, nulls, false, 0);
	if (result != expected)
		elog(ERROR, "unexpected result of \"%s\": %s", command, SPI_result_code_string(result));
	processed = SPI_processed;
	SPI_finish();
	cs_identity_leave(&saved);
	return processed;
}

void
cs_catalog_insert(const char *table, const CsValue *values, int n)
{
	StringInfoData command;

	initStringInfo(&command);
	appendStringInfo(&command, "INSERT INTO " CS_SCHEMA ".%s (", table);
	for (int i = 0; i < n; i++)
		appendStringInfo(&command, "%s%s", i > 0 ? ", " : "", values[i].column);
	appendStringInfoString(&command, ") OVERRIDING SYSTEM VALUE VALUES (");
	for (int i = 0; i < n; i++)
		appendStringInfo(&command, "%s$%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoChar(&command, ')');
	execute_with(command.data, values, n, SPI_OK_INSERT);
	pfree(command.data);
}

uint64
cs_catalog_update(const char *table, const char *key_column, int32 key, const CsValue *values, int n)
{
	StringInfoData command;
	CsValue		   parameters[CS_MAX_VALUES];
	uint64		   count;

	Assert(n < CS_MAX_VALUES);
	initStringInfo(&command);
	appendStringInfo(&command, "UPDATE " CS_SCHEMA ".%s SET ", table);
	for (int i = 0; i < n; i++)
	{
		appendStringInfo(&command, "%s%s = $%d", i > 0 ? ", " : "", values[i].column, i + 1);
		parameters[i] = values[i];
	}
	appendStringInfo(&command, " WHERE %s = $%d", key_column, n + 1);
	parameters[n] = cs_value_int(key_column, key);
	count = execute_with(command.data, parameters, n + 1, SPI_OK_UPDATE);
	pfree(command.data);
	return count;
}

uint64
cs_catalog_delete(const char *table, const char *key_column, int32 key)
{
	CsValue parameter = cs_value_int(key_column, key);

	return execute_with(psprintf("DELETE FROM " CS_SCHEMA ".%s WHERE %s = $1", table, key_column), &parameter, 1,
						SPI_OK_DELETE);
}

bool
cs_stream_bump(int32 stream_id)
{
	CsValue parameter = cs_value_int("stream_id", stream_id);

	return execute_with("UPDATE " CS_SCHEMA ".stream SET version = version + 1 WHERE stream_id = $1", &parameter, 1,
						SPI_OK_UPDATE) > 0;
}

bool
cs_stream_share(int32 stream_id, bool wait)
{
	CsValue parameter = cs_value_int("stream_id", stream_id);

	return execute_with(psprintf("SELECT FROM " CS_SCHEMA ".stream WHERE stream_id = $1 FOR SHARE%s",
								 wait ? "" : " SKIP LOCKED"),
						&parameter, 1, SPI_OK_SELECT) > 0;
}

int32
cs_catalog_next_id(const char *table, const char *column)
{
	Oid	  sequence = cs_own_relation(psprintf("%s_%s_seq", table, column));
	Oid	  schema = get_namespace_oid(CS_SCHEMA, false);
	int32 id;

	do
		id = (int32) nextval_internal(sequence, false);
	while (OidIsValid(get_relname_relid(psprintf("%s_%d_view", table, id), schema)));
	return id;
}

void
cs_execute_as(Oid role, const char *command)
{
	CsIdentity saved;
	int		   result;

	cs_identity_enter(&saved, OidIsValid(role) ? role : cs_extension_owner(), true);
	SPI_connect();
	result = SPI_execute(command, false, 0);
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", command, SPI_result_code_string(result));
	SPI_finish();
	cs_identity_leave(&saved);
}
