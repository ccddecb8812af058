"""The use cases: the only place that writes the store and the broker."""
