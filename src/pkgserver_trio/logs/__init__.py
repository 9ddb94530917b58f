"""The log: its form, its places, and who watches it."""
