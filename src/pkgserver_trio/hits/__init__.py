"""The hits that nginx served: its logs are followed, parsed and cut."""
