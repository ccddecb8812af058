"""The version of the package, and nothing else: read at build time and at run time."""

__version__ = "0.1.0"
