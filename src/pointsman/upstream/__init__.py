"""Calls to providers: the client, credentials and the embedded model."""
