"""The hits that nginx served, read from its logs."""
