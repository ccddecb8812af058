"""All Redis, and the Dramatiq broker. Redis is a way to be fast, never the record."""
