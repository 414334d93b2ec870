"""The JSON of public APIs as structs, one file per API."""
