"""The contracts that are served: their operations as data. The router's mounts, documents and tests come from it."""
