"""HTTP: what the library offers, said in the words of `docs/protocol.md`."""
