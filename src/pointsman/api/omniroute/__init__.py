"""OmniRoute's management operations."""
