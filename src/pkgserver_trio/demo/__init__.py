"""A package server that needs no internet: a sample registry behind an embedded storage server."""
