"""The store: files on disk, the space they take, what was verified of them, and who owns them."""
