/*
 * decode/preset.c
 *	  The messages of senders that many use, as mappings.
 *
 * A preset is a mapping like a user's own, laid over the default one (each
 * column at the top level under its own name); the user's is laid over it.
 * clickstream.presets() shows them.  Each names every one of the seed's
 * columns, with null where the sender has nothing of the kind, and each is
 * tested with an event from its sender's documentation (sql/520_mappings.sql).
 *
 * Words that mean what the seed's pipeline calls page_view, desktop, mobile
 * and tablet become those, so that the usual definitions work with any sender.
 */
#include "decode/mapping.h"

#define MAPPING(...) #__VA_ARGS__

/* clang-format off */
static const CsPreset presets[] = {
	{"default", MAPPING({})},

	/* https://www.twilio.com/docs/segment/connections/spec/common */
	{"segment", MAPPING({
		"user_id": {"pointer": "/userId", "words": {"": null}},
		"anonymous_id": "/anonymousId",
		"event_type": ["/event", {"pointer": "/type", "words": {"page": "page_view"}}],
		"page_url": ["/context/page/url", "/properties/url"],
		"page_title": ["/context/page/title", "/properties/title"],
		"referrer_url": ["/context/page/referrer", "/properties/referrer"],
		"utm_source": "/context/campaign/source",
		"utm_medium": "/context/campaign/medium",
		"utm_campaign": "/context/campaign/name",
		"device_type": "/context/device/type",
		"browser": null,
		"country": "/context/location/country",
		"event_time": ["/timestamp", "/originalTimestamp"],
		"event_properties": ["/properties", "/traits"]
	})},

	/* https://www.rudderstack.com/docs/event-spec/standard-events/common-fields/; anonymous: userId is "" */
	{"rudderstack", MAPPING({
		"user_id": {"pointer": "/userId", "words": {"": null}},
		"anonymous_id": "/anonymousId",
		"event_type": ["/event", {"pointer": "/type", "words": {"page": "page_view"}}],
		"page_url": ["/context/page/url", "/properties/url"],
		"page_title": ["/context/page/title", "/properties/title"],
		"referrer_url": ["/context/page/referrer", "/properties/referrer"],
		"utm_source": "/context/campaign/source",
		"utm_medium": "/context/campaign/medium",
		"utm_campaign": "/context/campaign/name",
		"device_type": "/context/device/type",
		"browser": null,
		"country": "/context/location/country",
		"event_time": ["/timestamp", "/originalTimestamp"],
		"event_properties": ["/properties", "/traits", "/context/traits"]
	})},

	/* https://docs.snowplow.io/docs/fundamentals/canonical-event/; an event's own data has a name of its own */
	{"snowplow", MAPPING({
		"user_id": "/user_id",
		"anonymous_id": ["/domain_userid", "/network_userid"],
		"event_type": ["/event_name", "/event"],
		"page_url": "/page_url",
		"page_title": "/page_title",
		"referrer_url": "/page_referrer",
		"utm_source": "/mkt_source",
		"utm_medium": "/mkt_medium",
		"utm_campaign": "/mkt_campaign",
		"device_type": [
			{"pointer": "/contexts_nl_basjes_yauaa_context_1/0/deviceClass",
			 "words": {"Desktop": "desktop", "Phone": "mobile", "Mobile": "mobile", "Tablet": "tablet"}},
			{"pointer": "/dvce_type", "words": {"Computer": "desktop", "Mobile": "mobile", "Tablet": "tablet"}}],
		"browser": ["/contexts_nl_basjes_yauaa_context_1/0/agentName", "/br_family", "/br_name"],
		"country": "/geo_country",
		"event_time": ["/derived_tstamp", "/collector_tstamp"],
		"event_properties": ""
	})},

	/* https://posthog.com/docs/data/events */
	{"posthog", MAPPING({
		"user_id": "/properties/$user_id",
		"anonymous_id": "/distinct_id",
		"event_type": {"pointer": "/event", "words": {"$pageview": "page_view"}},
		"page_url": "/properties/$current_url",
		"page_title": "/properties/title",
		"referrer_url": {"pointer": "/properties/$referrer", "words": {"$direct": null}},
		"utm_source": ["/properties/utm_source", "/properties/$utm_source"],
		"utm_medium": ["/properties/utm_medium", "/properties/$utm_medium"],
		"utm_campaign": ["/properties/utm_campaign", "/properties/$utm_campaign"],
		"device_type": {"pointer": "/properties/$device_type",
			"words": {"Desktop": "desktop", "Mobile": "mobile", "Tablet": "tablet"}},
		"browser": "/properties/$browser",
		"country": ["/properties/$geoip_country_code", "/properties/$geoip_country_name"],
		"event_time": "/timestamp",
		"event_properties": "/properties"
	})},

	/* https://support.google.com/analytics/answer/7029846; traffic_source is how the user came first, not this time */
	{"ga4", MAPPING({
		"user_id": "/user_id",
		"anonymous_id": "/user_pseudo_id",
		"event_type": "/event_name",
		"page_url": {"pairs": "/event_params", "key": "page_location"},
		"page_title": {"pairs": "/event_params", "key": "page_title"},
		"referrer_url": {"pairs": "/event_params", "key": "page_referrer"},
		"utm_source": ["/collected_traffic_source/manual_source", {"pairs": "/event_params", "key": "source"}],
		"utm_medium": ["/collected_traffic_source/manual_medium", {"pairs": "/event_params", "key": "medium"}],
		"utm_campaign": ["/collected_traffic_source/manual_campaign_name", {"pairs": "/event_params", "key": "campaign"}],
		"device_type": "/device/category",
		"browser": ["/device/web_info/browser", "/device/browser"],
		"country": "/geo/country",
		"event_time": "/event_timestamp",
		"event_properties": {"pairs": "/event_params"}
	})},
};
/* clang-format on */

int
cs_preset_count(void)
{
	return lengthof(presets);
}

const CsPreset *
cs_preset(int i)
{
	return &presets[i];
}
