"""Profiles: names under which a client asks for a budget instead of a model (docs/routing-profiles.md)."""
