"""The Alembic environment and its scripts, forward only, run by `pointsman.storage.migration`."""
