/*
 * source/kafka_words.c
 *	  The library's words for people who run a database.
 *
 * librdkafka says what it saw on the wire ("alert certificate unknown"), not
 * what there is to do.  For what goes wrong most often, credentials and
 * certificates, what it means and which option it is about come first; its own
 * words stay behind it.  They are matched by parts that were the same from
 * librdkafka 1.9 to 2.8; what is not known is passed on as it is.
 */
#include "postgres.h"

#include "source/kafka_internal.h"

typedef struct Meaning
{
	const char *part; /* of the library's words */
	const char *meaning;
} Meaning;

static const Meaning meanings[] = {
	{"certificate verify failed",
	 "the broker's certificate is not trusted: it is not by the authority in ssl.ca.pem, has expired, or is made out for "
	 "another host name"},
	{"alert bad certificate", "the broker wants a client certificate: see ssl.certificate.pem and ssl.key.pem"},
	{"certificate required", "the broker wants a client certificate: see ssl.certificate.pem and ssl.key.pem"},
	{"alert certificate unknown",
	 "the broker refuses the client certificate in ssl.certificate.pem: it has expired, or is by an authority that the "
	 "broker does not trust"},
	{"alert certificate expired", "the client certificate in ssl.certificate.pem has expired"},
	{"alert unknown ca",
	 "the broker refuses the client certificate in ssl.certificate.pem: it is by an authority that the broker does not "
	 "trust"},
	{"alert certificate revoked", "the client certificate in ssl.certificate.pem was revoked"},
	{"mechanism handshake failed", "the broker does not take this sasl.mechanism at this port"},
	{"Failed to acquire SASL OAUTHBEARER token", "no token from sasl.oauthbearer.token.endpoint.url"},
	{"invalid_token",
	 "the broker does not take the token, or takes it no more: see sasl.oauthbearer.token.endpoint.url"},
	{"Authentication failed", "the broker refuses the user: see sasl.username, sasl.password and sasl.mechanism"},
	{"SASL authentication error", "the broker refuses the user: see sasl.username, sasl.password and sasl.mechanism"},
	{"might be caused by incorrect security.protocol", "security.protocol does not fit this port of the broker"},
	/* The library says so of any connection that ends soon after it worked. */
	{"broker might require SASL authentication",
	 "the broker, or something on the way to it, closes the connection; security.protocol may not fit this port"},
	{"verify that security.protocol is correctly configured", "security.protocol does not fit this port of the broker"},
	{"unexpected eof while reading", "security.protocol does not fit this port of the broker"},
	{"wrong version number", "security.protocol does not fit this port of the broker"},
	{"Topic authorization failed", "the user may not read the topic: allow him Describe and Read"},
	{"Cluster authorization failed", "the user may do nothing in this cluster"},
};

/*
 * Behind its words on a broker the library says for how long it had been in which state, and how often it did not say
 * the same: " (after 0ms in state CONNECT, 1 identical error(s) suppressed)".
 */
static void
cut_tail(char *text)
{
	char *tail = strstr(text, " (after ");

	if (tail != NULL && strstr(tail, "ms in state ") == tail + 8 + strspn(tail + 8, "0123456789"))
		*tail = '\0';
}

/*
 * Texts of the library may hold what a broker sent: keep printable ASCII
 * only, which is valid in every server encoding, and nothing for its makers.
 */
void
cs_kafka_copy_text(char *target, const char *text, size_t size)
{
	size_t i = 0;

	for (; text && text[i] && i + 1 < size; i++)
		target[i] = (text[i] >= ' ' && text[i] <= '~') ? text[i] : '?';
	target[i] = '\0';
	cut_tail(target);
}

/* The same, with what it means in front if that is known. */
void
cs_kafka_explain(char *target, const char *text, size_t size)
{
	for (int i = 0; text && i < (int) lengthof(meanings); i++)
	{
		size_t length;

		if (strstr(text, meanings[i].part) == NULL)
			continue;
		length = snprintf(target, size, "%s (", meanings[i].meaning);
		cs_kafka_copy_text(target + length, text, size - length - 1);
		strlcat(target, ")", size);
		return;
	}
	cs_kafka_copy_text(target, text, size);
}
