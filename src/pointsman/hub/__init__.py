"""The hub lane: one call between a client's dialect and an upstream's format, by way of our own words."""
