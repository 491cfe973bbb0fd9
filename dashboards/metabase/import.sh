#!/bin/sh
# Makes the dashboard of dashboard.json in a Metabase, through its REST API.
# (Metabase's own import of files, "serialization", is not part of its open
# source edition.)
#
#   METABASE_URL=http://localhost:3000 METABASE_API_KEY=mb_... \
#   PGHOST=db PGPORT=5432 PGDATABASE=shop PGUSER=dashboard_reader PGPASSWORD=secret dashboards/metabase/import.sh
#
# The API key is made in Metabase under Admin settings, Authentication, API keys,
# for group Administrators.  A Metabase database "clickstream" is used if there is
# one, and made from the PG variables if not: they are as Metabase reaches the
# server.  The questions go into a new collection: METABASE_COLLECTION names it
# (Clickstream).  Needs curl and jq.
set -eu
url=${METABASE_URL:-http://localhost:3000}
collection=${METABASE_COLLECTION:-Clickstream}
definition=$(dirname "$0")/dashboard.json

fail() {
	echo "import: $*" >&2
	exit 1
}
[ -n "${METABASE_API_KEY:-}" ] || fail "set METABASE_API_KEY"

# api METHOD PATH [BODY]: prints the answer.
api() {
	answer=$(printf '%s' "${3:-}" | curl -sS -X "$1" -H "x-api-key: $METABASE_API_KEY" -H 'Content-Type: application/json' \
		${3:+--data-binary @-} -w '\n%{http_code}' "$url/api/$2") || fail "no answer from $url"
	status=${answer##*
}
	answer=${answer%
*}
	case $status in
		2??) printf '%s\n' "$answer" ;;
		*) fail "$1 /api/$2: status $status: $answer" ;;
	esac
}

database_of() { jq -r '[(.data // .)[] | select(.name == "clickstream") | .id][0] // empty'; }

# ---- the database
answer=$(api GET database)
database=$(printf '%s' "$answer" | database_of)
if [ -z "$database" ]; then
	answer=$(api POST database "$(jq -n --arg host "${PGHOST:-localhost}" --arg port "${PGPORT:-5432}" --arg db "${PGDATABASE:-postgres}" \
		--arg user "${PGUSER:-dashboard_reader}" --arg password "${PGPASSWORD:-}" '{
			name: "clickstream", engine: "postgres",
			details: {host: $host, port: ($port | tonumber), dbname: $db, user: $user, password: $password, ssl: false,
				"schema-filters-type": "all"}}')")
	database=$(printf '%s' "$answer" | jq -r .id)
fi

# ---- the collection
answer=$(api GET collection)
printf '%s' "$answer" | jq -e --arg name "$collection" 'all(.[]; .name != $name or .archived == true)' >/dev/null ||
	fail "there is a collection \"$collection\": archive it, or give another name by METABASE_COLLECTION"
answer=$(api POST collection "$(jq -n --arg name "$collection" '{name: $name}')")
collection_id=$(printf '%s' "$answer" | jq .id)

# ---- the questions; hours is what readers choose
dashcards='[]'
n=$(jq '.cards | length' "$definition")
i=0
while [ "$i" -lt "$n" ]; do
	card=$(jq --argjson i "$i" --argjson database "$database" --argjson collection "$collection_id" '
		.hours as $hours | .cards[$i] | (.query | contains("{{hours}}")) as $timed | {
			name, display, visualization_settings, collection_id: $collection,
			dataset_query: {type: "native", database: $database, native: {query, "template-tags": (if $timed then
				{hours: {id: "hours", name: "hours", "display-name": "Hours back", type: "number", required: true,
					default: ($hours | tostring)}} else {} end)}}
		} + if .description then {description} else {} end' "$definition")
	answer=$(api POST card "$card")
	dashcards=$(jq --argjson i "$i" --argjson card "$(printf '%s' "$answer" | jq .id)" --argjson so_far "$dashcards" '
		.cards[$i] | $so_far + [{id: -($i + 1), card_id: $card, row, col, size_x, size_y, series: [], visualization_settings: {},
			parameter_mappings: (if .query | contains("{{hours}}") then
				[{parameter_id: "hours", card_id: $card, target: ["variable", ["template-tag", "hours"]]}] else [] end)}]
		' "$definition")
	i=$((i + 1))
done

# ---- the dashboard
answer=$(api POST dashboard "$(jq --argjson collection "$collection_id" '{name, description, collection_id: $collection}' "$definition")")
dashboard=$(printf '%s' "$answer" | jq .id)
answer=$(api PUT "dashboard/$dashboard" "$(jq --argjson dashcards "$dashcards" '{dashcards: $dashcards,
	parameters: [{id: "hours", name: "Hours back", slug: "hours", type: "number/=", sectionId: "number", default: [.hours]}]}' \
	"$definition")")
echo "$url/dashboard/$dashboard"
