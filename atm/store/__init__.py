"""All SQL. Sync; functions take a connection, `Database` gives the transactions."""
