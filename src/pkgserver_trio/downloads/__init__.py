"""One download for all who ask: a flight for each resource, fed by one copy after the other."""
