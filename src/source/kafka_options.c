/*
 * source/kafka_options.c
 *	  The allow-list of librdkafka properties, and secrets.
 *
 * A list of what is allowed, not of what is not: a new version of the library
 * may add a property that loads code, runs a command or fetches a URL, and it
 * must stay closed until somebody has looked at it.  Left out on purpose:
 * plugin.library.paths, ssl.engine.*, ssl.providers (load code);
 * sasl.kerberos.* and the GSSAPI mechanism (run kinit through a shell);
 * everything that turns off the check of certificates; unsigned tokens; and
 * what the source itself depends on (offsets, queues, logging).  What makes the
 * server read a file of one's choice, or send a request to an address of one's
 * choice, is for administrators.
 *
 * Values that must not be read in a catalog are given as {"secret": "name"}:
 * see kafka_secrets.c.
 *
 * No locks.
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/pg_authid.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "source/kafka_internal.h"
#include "source/kafka_options.h"

#define SECRET_NAME_MAX 200

typedef enum OptionKind
{
	OPTION_PLAIN,  /* in the open only */
	OPTION_EITHER, /* in the open or a secret */
	OPTION_SECRET, /* a secret only */
	OPTION_FILE,   /* path of a file of the server: for administrators */
	OPTION_URL	   /* address that the server asks: for administrators */
} OptionKind;

/* Who may set it: on the others it would have no effect, so it is a mistake there. */
typedef enum OptionUse
{
	USED_BY_ALL,
	USED_BY_STREAMS,
	USED_BY_SINKS
} OptionUse;

typedef struct OptionRule
{
	const char *name;
	OptionKind	kind;
	int64		max; /* largest number, 0: as the library says */
	OptionUse	use;
} OptionRule;

static const OptionRule option_rules[] = {
	{"batch.num.messages", OPTION_PLAIN, 0, USED_BY_SINKS},
	{"batch.size", OPTION_PLAIN, 0, USED_BY_SINKS},
	{"broker.address.family", OPTION_PLAIN, 0, USED_BY_ALL},
	{"broker.address.ttl", OPTION_PLAIN, 0, USED_BY_ALL},
	{"broker.version.fallback", OPTION_PLAIN, 0, USED_BY_ALL},
	{"check.crcs", OPTION_PLAIN, 0, USED_BY_STREAMS},
	{"client.id", OPTION_PLAIN, 0, USED_BY_ALL},
	{"client.rack", OPTION_PLAIN, 0, USED_BY_ALL},
	{"compression.level", OPTION_PLAIN, 0, USED_BY_SINKS},
	{"compression.type", OPTION_PLAIN, 0, USED_BY_SINKS},
	{"connections.max.idle.ms", OPTION_PLAIN, 0, USED_BY_ALL},
	{"fetch.error.backoff.ms", OPTION_PLAIN, 60000, USED_BY_STREAMS},
	{"fetch.max.bytes", OPTION_PLAIN, 512 * 1024 * 1024, USED_BY_STREAMS},
	{"fetch.message.max.bytes", OPTION_PLAIN, 256 * 1024 * 1024, USED_BY_STREAMS},
	{"fetch.min.bytes", OPTION_PLAIN, 16 * 1024 * 1024, USED_BY_STREAMS},
	{"fetch.wait.max.ms", OPTION_PLAIN, 10000, USED_BY_STREAMS},
	{"group.id", OPTION_PLAIN, 0, USED_BY_STREAMS},
	{"isolation.level", OPTION_PLAIN, 0, USED_BY_STREAMS},
	{"linger.ms", OPTION_PLAIN, 1000, USED_BY_SINKS},
	{"max.partition.fetch.bytes", OPTION_PLAIN, 256 * 1024 * 1024, USED_BY_STREAMS},
	{"metadata.max.age.ms", OPTION_PLAIN, 0, USED_BY_ALL},
	{"partitioner", OPTION_PLAIN, 0, USED_BY_SINKS},
	{"receive.message.max.bytes", OPTION_PLAIN, 1024 * 1024 * 1024, USED_BY_ALL},
	{"reconnect.backoff.max.ms", OPTION_PLAIN, 60000, USED_BY_ALL},
	{"reconnect.backoff.ms", OPTION_PLAIN, 60000, USED_BY_ALL},
	{"sasl.mechanism", OPTION_PLAIN, 0, USED_BY_ALL},
	{"sasl.mechanisms", OPTION_PLAIN, 0, USED_BY_ALL},
	{"sasl.oauthbearer.client.id", OPTION_EITHER, 0, USED_BY_ALL},
	{"sasl.oauthbearer.client.secret", OPTION_SECRET, 0, USED_BY_ALL},
	{"sasl.oauthbearer.extensions", OPTION_PLAIN, 0, USED_BY_ALL},
	{"sasl.oauthbearer.scope", OPTION_PLAIN, 0, USED_BY_ALL},
	{"sasl.oauthbearer.token.endpoint.url", OPTION_URL, 0, USED_BY_ALL},
	{"sasl.password", OPTION_SECRET, 0, USED_BY_ALL},
	{"sasl.username", OPTION_EITHER, 0, USED_BY_ALL},
	{"security.protocol", OPTION_PLAIN, 0, USED_BY_ALL},
	{"socket.connection.setup.timeout.ms", OPTION_PLAIN, 300000, USED_BY_ALL},
	{"socket.keepalive.enable", OPTION_PLAIN, 0, USED_BY_ALL},
	{"socket.nagle.disable", OPTION_PLAIN, 0, USED_BY_ALL},
	{"socket.receive.buffer.bytes", OPTION_PLAIN, 64 * 1024 * 1024, USED_BY_ALL},
	{"socket.timeout.ms", OPTION_PLAIN, 0, USED_BY_ALL},
	{"ssl.ca.location", OPTION_FILE, 0, USED_BY_ALL},
	{"ssl.ca.pem", OPTION_EITHER, 0, USED_BY_ALL},
	{"ssl.certificate.location", OPTION_FILE, 0, USED_BY_ALL},
	{"ssl.certificate.pem", OPTION_EITHER, 0, USED_BY_ALL},
	{"ssl.cipher.suites", OPTION_PLAIN, 0, USED_BY_ALL},
	{"ssl.crl.location", OPTION_FILE, 0, USED_BY_ALL},
	{"ssl.curves.list", OPTION_PLAIN, 0, USED_BY_ALL},
	{"ssl.key.location", OPTION_FILE, 0, USED_BY_ALL},
	{"ssl.key.password", OPTION_SECRET, 0, USED_BY_ALL},
	{"ssl.key.pem", OPTION_SECRET, 0, USED_BY_ALL},
	{"ssl.keystore.location", OPTION_FILE, 0, USED_BY_ALL},
	{"ssl.keystore.password", OPTION_SECRET, 0, USED_BY_ALL},
	{"ssl.sigalgs.list", OPTION_PLAIN, 0, USED_BY_ALL},
	{"topic.metadata.refresh.interval.ms", OPTION_PLAIN, 0, USED_BY_ALL},
};

static const char *const security_protocols[] = {"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"};

static const char *const sasl_mechanisms[] = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"};

/* What OAUTHBEARER cannot do without. */
static const char *const oauth_musts[] = {"sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret",
										  "sasl.oauthbearer.token.endpoint.url"};

static const OptionRule *
option_rule(const char *name)
{
	for (int i = 0; i < (int) lengthof(option_rules); i++)
		if (strcmp(option_rules[i].name, name) == 0)
			return &option_rules[i];
	return NULL;
}

static char *
string_of(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* A sink may have its options of its stream: USED_BY_ALL stands for both. */
static bool
fits(const OptionRule *rule, OptionUse use)
{
	return rule->use == USED_BY_ALL || use == USED_BY_ALL || rule->use == use;
}

/* Names only what is true of every property that is not on the list. */
static const OptionRule *
option_rule_or_raise(const char *name, OptionUse use)
{
	const OptionRule *rule = option_rule(name);
	const char		 *who = use == USED_BY_SINKS ? "sink" : "stream";
	StringInfoData	  list;

	if (rule && fits(rule, use))
		return rule;
	initStringInfo(&list);
	for (int i = 0; i < (int) lengthof(option_rules); i++)
		if (fits(&option_rules[i], use))
			appendStringInfo(&list, "%s%s", list.len ? ", " : "", option_rules[i].name);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" cannot be set for a %s", name, who),
					rule ? errdetail("It has an effect on %s only.", use == USED_BY_SINKS ? "streams" : "sinks")
						 : errdetail("It is not on the list of librdkafka properties that a %s may set.", who),
					errhint("Options that may be set: %s.", list.data)));
}

static void
refuse_value(const char *name, const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("value of option \"%s\" %s", name, what)));
}

/*
 * The library drops blanks at the beginning of a value: with them it would
 * mean something else to it than to us.  Certificates and keys end with a line
 * break, and may have words around them.
 */
static bool
begins_blank(const char *name, const char *value)
{
	return isspace((unsigned char) value[0]) && strstr(name, ".pem") == NULL;
}

static bool
ends_blank(const char *name, const char *value)
{
	size_t length = strlen(value);

	return length > 0 && isspace((unsigned char) value[length - 1]) && strstr(name, ".pem") == NULL;
}

static void
check_characters(const char *name, const char *value)
{
	if (strlen(value) > CS_KAFKA_VALUE_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("value of option \"%s\" is too long", name),
						errdetail("At most %d bytes are accepted.", CS_KAFKA_VALUE_MAX)));
	for (const char *p = value; *p; p++)
		if ((unsigned char) *p < ' ' && strchr("\n\r\t", *p) == NULL)
			refuse_value(name, "holds a control character");
	if (begins_blank(name, value) || ends_blank(name, value))
		refuse_value(name, "begins or ends with a blank");
}

/*
 * The name of a secret becomes part of a path, hence the narrow alphabet.
 */
void
cs_kafka_secret_name_validate(const char *option, const char *secret)
{
	size_t length = strlen(secret);

	if (length == 0 || length > SECRET_NAME_MAX || secret[0] == '.' ||
		strspn(secret, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") != length)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" has an invalid name of a secret", option),
				 errdetail("The name is that of a file in the directory that clickstream.secrets_directory names: "
						   "letters, digits, \"_\", \".\" and \"-\", not beginning with \".\", at most %d bytes.",
						   SECRET_NAME_MAX)));
}

/*
 * The secret's name out of {"secret": "name"}, marked as one.
 */
static char *
secret_value(const char *option, JsonbContainer *object)
{
	JsonbValue	buffer;
	JsonbValue *secret = NULL;
	char	   *name;

	if (JsonContainerIsObject(object) && JsonContainerSize(object) == 1)
		secret = getKeyJsonValueFromContainer(object, "secret", 6, &buffer);
	if (secret == NULL || secret->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" must be a single value", option),
				 errhint("Give a string, a number, true or false, or {\"secret\": \"name\"}.")));
	name = string_of(secret);
	cs_kafka_secret_name_validate(option, name);
	return psprintf("%c%s", CS_SECRET_MARK, name);
}

static char *
option_value(const char *name, const JsonbValue *value)
{
	char *text;

	switch (value->type)
	{
		case jbvString:
			text = string_of(value);
			check_characters(name, text);
			return text;
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvBinary:
			return secret_value(name, value->val.binary.data);
		default:
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" has no value", name),
							errhint("Leave the option out to get its default.")));
	}
}

static void
check_kind(const OptionRule *rule, const char *value)
{
	bool is_secret = value[0] == CS_SECRET_MARK;

	if (rule->kind == OPTION_SECRET && !is_secret)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" must be given as a secret", rule->name),
			 errdetail("The options of a stream can be read in its catalog and in dumps."),
			 errhint("Put the value into a file in the directory that clickstream.secrets_directory names, and give "
					 "{\"secret\": \"file name\"}.")));
	if (rule->kind != OPTION_SECRET && rule->kind != OPTION_EITHER && is_secret)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" cannot be a secret", rule->name), errhint("Give the value itself.")));
}

/* Fetching a token needs a library that was built with libcurl; Debian 12's was not. */
static void
check_oauth_support(void)
{
	rd_kafka_conf_t	   *conf = rd_kafka_conf_new();
	rd_kafka_conf_res_t result = rd_kafka_conf_set(conf, "sasl.oauthbearer.method", "oidc", NULL, 0);

	rd_kafka_conf_destroy(conf);
	if (result != RD_KAFKA_CONF_OK)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("SASL mechanism \"OAUTHBEARER\" is not supported by this librdkafka"),
				 errdetail("librdkafka %s was built without libcurl and cannot fetch tokens.", rd_kafka_version_str()),
				 errhint("Use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or a client certificate, or a librdkafka built with "
						 "libcurl (Debian 13 has one).")));
}

/* In the clear only on this machine: the request carries the client's secret. */
static void
check_url(const OptionRule *rule, const char *value)
{
	static const char *const here[] = {"http://127.0.0.1", "http://localhost"};
	bool					 good = strncmp(value, "https://", 8) == 0;

	for (int i = 0; i < (int) lengthof(here); i++)
	{
		size_t		length = strlen(here[i]);
		const char *port = value + length;

		if (strncmp(value, here[i], length) != 0)
			continue;
		if (port[0] == ':')
			good |= port[1 + strspn(port + 1, "0123456789")] == '/';
		else
			good |= port[0] == '/';
	}
	/* "https://here@there/": a name before "@" hides who is asked. */
	if (good)
		good = memchr(strstr(value, "://") + 3, '@', strcspn(strstr(value, "://") + 3, "/?#")) == NULL;
	if (rule->kind == OPTION_URL && !good)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("value of option \"%s\" is not the address of a token endpoint", rule->name),
						errhint("It begins with https:// and names no user; http:// is taken for localhost only.")));
}

static void
check_number(const OptionRule *rule, const char *value)
{
	if (rule->max > 0 && strtod(value, NULL) > (double) rule->max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("value of option \"%s\" is too large", rule->name),
				 errdetail("At most %lld is accepted.", (long long) rule->max)));
}

/* These words and no others, in any case as in the library: what asks for SASL must be known to check_sasl(). */
static void
check_protocol(const OptionRule *rule, const char *value)
{
	bool known = strcmp(rule->name, "security.protocol") != 0;

	for (int i = 0; i < (int) lengthof(security_protocols); i++)
		known |= pg_strcasecmp(value, security_protocols[i]) == 0;
	if (!known)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("security protocol \"%s\" is not supported", value),
				 errhint("Use PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.")));
}

/* client.id is printed into the library's statistics, which we read as JSON. */
static void
check_words(const OptionRule *rule, const char *value)
{
	bool known = false;

	if (strcmp(rule->name, "client.id") == 0 || strcmp(rule->name, "client.rack") == 0)
	{
		if (strpbrk(value, "\"\\\n\r\t"))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("value of option \"%s\" holds a quote, backslash or line break", rule->name)));
		return;
	}
	if (strcmp(rule->name, "sasl.mechanism") != 0 && strcmp(rule->name, "sasl.mechanisms") != 0)
		return;
	for (int i = 0; i < (int) lengthof(sasl_mechanisms); i++)
		known |= strcmp(value, sasl_mechanisms[i]) == 0;
	if (!known)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("SASL mechanism \"%s\" is not supported", value),
						errhint("Use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.")));
	if (strcmp(value, "OAUTHBEARER") == 0)
		check_oauth_support();
}

/* Let the library itself say whether it likes a value in the open. */
static void
check_by_library(const CsOption *option)
{
	rd_kafka_conf_t	   *conf;
	char				text[KAFKA_TEXT];
	char				clean[KAFKA_TEXT];
	rd_kafka_conf_res_t result;

	if (option->value[0] == CS_SECRET_MARK)
		return;
	conf = rd_kafka_conf_new();
	result = rd_kafka_conf_set(conf, option->name, option->value, text, sizeof(text));
	rd_kafka_conf_destroy(conf);
	if (result == RD_KAFKA_CONF_OK)
		return;
	cs_kafka_copy_text(clean, text, sizeof(clean));
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for option \"%s\"", option->name),
					errdetail("librdkafka %s: %s", rd_kafka_version_str(), clean)));
}

static const char *
find_option(const CsOption *options, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(options[i].name, name) == 0)
			return options[i].value;
	return NULL;
}

/* What can only be judged together. */
static void
check_sasl(const CsOption *options, int n)
{
	const char *protocol = find_option(options, n, "security.protocol");
	const char *mechanism = find_option(options, n, "sasl.mechanism");
	bool		is_sasl = protocol && pg_strncasecmp(protocol, "sasl", 4) == 0;

	if (mechanism == NULL)
		mechanism = find_option(options, n, "sasl.mechanisms");
	/* Without a mechanism the library takes GSSAPI, and runs kinit. */
	if (is_sasl && mechanism == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"sasl.mechanism\" is missing"),
						errdetail("The option \"security.protocol\" asks for SASL."),
						errhint("Add \"sasl.mechanism\": PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.")));
	/* A password that is never asked for is a protocol forgotten. */
	if (!is_sasl && mechanism != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"sasl.mechanism\" has no effect without SASL"),
						errhint("Add \"security.protocol\": SASL_SSL, or SASL_PLAINTEXT in a network that is safe.")));
	for (int i = 0; is_sasl && strcmp(mechanism, "OAUTHBEARER") == 0 && i < (int) lengthof(oauth_musts); i++)
		if (find_option(options, n, oauth_musts[i]) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" is missing", oauth_musts[i]),
					 errdetail("The SASL mechanism OAUTHBEARER needs it.")));
	for (int i = 0; is_sasl && strcmp(mechanism, "OAUTHBEARER") != 0 && i < 2; i++)
	{
		const char *name = i == 0 ? "sasl.username" : "sasl.password";

		if (find_option(options, n, name) == NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"%s\" is missing", name),
							errdetail("The SASL mechanism %s needs it.", mechanism)));
	}
}

static void
check_option(const CsOption *option)
{
	const OptionRule *rule = option_rule_or_raise(option->name, USED_BY_ALL);

	check_kind(rule, option->value);
	if (option->value[0] != CS_SECRET_MARK)
	{
		check_characters(rule->name, option->value);
		check_number(rule, option->value);
		check_url(rule, option->value);
		check_protocol(rule, option->value);
		check_words(rule, option->value);
	}
	check_by_library(option);
}

static CsOption *
parse(Jsonb *options, OptionUse use, int *n)
{
	JsonbIterator	  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;
	CsOption		  *result;

	*n = 0;
	if (options == NULL)
		return NULL;
	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the options of a stream must be a JSON object"),
				 errhint("For example: {\"security.protocol\": \"SSL\"}.")));
	result = palloc0(sizeof(CsOption) * Max(JB_ROOT_COUNT(options), 1));
	iterator = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			result[*n].name = string_of(&value);
		else if (token == WJB_VALUE)
		{
			(void) option_rule_or_raise(result[*n].name, use);
			result[*n].value = option_value(result[*n].name, &value);
			check_option(&result[*n]);
			(*n)++;
		}
	}
	check_sasl(result, *n);
	return result;
}

CsOption *
cs_kafka_options_parse(Jsonb *options, int *n)
{
	return parse(options, USED_BY_ALL, n);
}

void
cs_kafka_options_validate(Jsonb *options, bool for_sink)
{
	int		  n;
	CsOption *list = parse(options, for_sink ? USED_BY_SINKS : USED_BY_STREAMS, &n);

	for (int i = 0; i < n; i++)
	{
		OptionKind kind = option_rule(list[i].name)->kind;

		if ((kind != OPTION_FILE && kind != OPTION_URL) || has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
			continue;
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to set option \"%s\"", list[i].name),
			 kind == OPTION_FILE
				 ? errdetail("It names a file of the server, which needs the privileges of pg_read_server_files.")
				 : errdetail("It lets the server ask an address, which needs the privileges of pg_read_server_files."),
			 kind == OPTION_FILE ? errhint("Use ssl.ca.pem, ssl.certificate.pem and ssl.key.pem with secrets instead.")
								 : errhint("Let a role that has them make the stream.")));
	}
}

/* Both names are printed into the library's statistics: see check_words(). */
void
cs_kafka_brokers_validate(const char *brokers)
{
	size_t length = strlen(brokers);

	if (length == 0 ||
		strspn(brokers, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-:/,[]% ") != length)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid list of brokers: \"%s\"", brokers),
						errhint("Give host:port, several separated by commas.")));
}

void
cs_kafka_topic_validate(const char *topic)
{
	size_t length = strlen(topic);

	if (length == 0 || length > 249 || strcmp(topic, ".") == 0 || strcmp(topic, "..") == 0 ||
		strspn(topic, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") != length)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid name of a topic: \"%s\"", topic),
						errdetail("Kafka accepts 1 to 249 letters, digits, \"_\", \".\" and \"-\".")));
}

/* The library's words are left out where a secret is refused: they may quote it. */
static void
apply_secret(KafkaSource *source, const CsOption *option)
{
	bool				is_private = option_rule(option->name)->kind == OPTION_SECRET;
	char			   *content = cs_kafka_secret_read(source, option->name, option->value + 1, is_private);
	char				ignored[KAFKA_TEXT];
	bool				is_whole = !begins_blank(option->name, content);
	rd_kafka_conf_res_t result = is_whole
									 ? rd_kafka_conf_set(source->conf, option->name, content, ignored, sizeof(ignored))
									 : RD_KAFKA_CONF_INVALID;

	explicit_bzero(content, CS_KAFKA_VALUE_MAX + 1);
	explicit_bzero(ignored, sizeof(ignored));
	pfree(content);
	if (!is_whole)
		ereport(ERROR, (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
						errmsg("secret \"%s\" of option \"%s\" is refused: it begins with a blank", option->value + 1,
							   option->name),
						errdetail("The client library would drop it and send something else.")));
	if (result != RD_KAFKA_CONF_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("secret \"%s\" is not a valid value of option \"%s\"", option->value + 1, option->name)));
}

/* Checks again: the catalog may have been written by other means. */
void
cs_kafka_options_apply(KafkaSource *source, rd_kafka_type_t type)
{
	const CsOption *options = source->stream->options;
	int				n = source->stream->noptions;
	OptionUse		use = type == RD_KAFKA_PRODUCER ? USED_BY_SINKS : USED_BY_STREAMS;

	for (int i = 0; i < n; i++)
	{
		check_option(&options[i]);
		if (!fits(option_rule(options[i].name), use))
			continue;
		if (options[i].value[0] == CS_SECRET_MARK)
			apply_secret(source, &options[i]);
		else
			(void) rd_kafka_conf_set(source->conf, options[i].name, options[i].value, NULL, 0);
		if (option_rule(options[i].name)->kind == OPTION_FILE)
			cs_kafka_file_watch(source, options[i].name, options[i].value);
	}
	check_sasl(options, n);
}
