"""Many callers, one thread: what they want at the same time becomes one transaction or one round trip.

The batch queue holds what was added, the batcher uses it by the batch, and
group commit commits it and answers every caller. Used by the server and by
workers; knows neither SQL nor Redis.
"""
