-- A role for the BI tool: it reads the tables and views of the dashboards and
-- can change nothing.
--
--   psql -d DATABASE -f dashboards/reader.sql
--   psql -d DATABASE -v reader=bi -v source=shop -v target=shop_dashboard -f dashboards/reader.sql
--
-- Run it as a superuser after views.sql; then give the role a password:
--   \password dashboard_reader
--
-- It sees dead letters and late events as counts only.  What may take 30 s at
-- most, in UTC, is set for the role, so that no dashboard can load the server
-- for long, and all tools mean the same hours.
\set ON_ERROR_STOP on
\if :{?reader} \else \set reader dashboard_reader \endif
\if :{?source} \else \set source web \endif
\if :{?target} \else \set target dashboard \endif
\set QUIET on

SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'reader') AS is_new \gset
\if :is_new
CREATE ROLE :"reader" LOGIN;
\endif
COMMENT ON ROLE :"reader" IS 'reads the dashboards of extension clickstream';
ALTER ROLE :"reader" SET default_transaction_read_only = on;
ALTER ROLE :"reader" SET statement_timeout = '30s';
ALTER ROLE :"reader" SET timezone = 'UTC';

GRANT USAGE ON SCHEMA :"source", :"target" TO :"reader";
GRANT SELECT ON ALL TABLES IN SCHEMA :"source", :"target" TO :"reader";
-- Views run functions as who asks.
REVOKE ALL ON FUNCTION :"target".letters() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION :"target".letters() TO :"reader";
