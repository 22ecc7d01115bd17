# shellcheck shell=sh
# Sourced: makes of MIDFILL_DATABASE the URL without its password, POSTGRES_URL, and puts the password where libpq
# looks for it, PGPASSWORD. On a command line every user of the machine could read it.
POSTGRES_URL=$(python3 -c 'import os
from urllib.parse import urlsplit, urlunsplit
parts = urlsplit(os.environ["MIDFILL_DATABASE"])
user, _, host = parts.netloc.rpartition("@")
print(urlunsplit(parts._replace(netloc=(user.partition(":")[0] + "@" if user else "") + host)))')
PGPASSWORD=$(python3 -c 'import os
from urllib.parse import unquote, urlsplit
print(unquote(urlsplit(os.environ["MIDFILL_DATABASE"]).password or os.environ.get("PGPASSWORD", "")))')
export PGPASSWORD POSTGRES_URL
