"""Settings of the Superset of test/dashboards/run.sh: a private one, on the loopback only."""
import os

SECRET_KEY = 'of a throw-away server that nobody else can reach'
SQLALCHEMY_DATABASE_URI = 'sqlite:///' + os.environ['SUPERSET_HOME'] + '/superset.db?check_same_thread=false'
TALISMAN_ENABLED = False
WTF_CSRF_ENABLED = False
RATELIMIT_ENABLED = False
