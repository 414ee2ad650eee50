# Run once, by the official image, when the data folder is made: the registry gets a database and a user of its own.
psql -v ON_ERROR_STOP=1 -v password="$TILLSTREAM_REGISTRY_PASSWORD" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE registry LOGIN PASSWORD :'password';
CREATE DATABASE registry OWNER registry;
REVOKE CONNECT ON DATABASE registry FROM PUBLIC;
SQL
