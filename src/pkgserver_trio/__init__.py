"""A caching server for Julia's registries, packages and artifacts, on Trio."""

__version__ = "0.1.0"
