"""Dramatiq's middleware: the only thing through which a worker's life reaches ATM."""
