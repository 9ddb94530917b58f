"""Which registries there are, and that none ever moves back: polls, the choice of a head, the ledger, origins."""
