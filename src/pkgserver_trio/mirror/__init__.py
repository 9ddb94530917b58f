"""Objects of buckets: which version each is, and what of it is kept, checked and told."""
