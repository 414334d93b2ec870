"""What a provider's slug in a request means: whose endpoints, and which of them."""

from pointsman.routing.targets import Target


def provider_matches(slug: str, target: Target) -> bool:
    """Whether a slug means this target: its vendor, its connection, or ``vendor/variant`` exactly.

    A variant is a tag of the connection, a quantisation or a service tier; an endpoint of a tier must be named in full.
    """
    slug = slug.lower()
    connection, facts = target.connection, target.facts
    vendor = connection.vendor.lower()
    if facts.service_tier is not None:
        return slug in (f"{vendor}/{facts.service_tier}", f"{connection.id.lower()}/{facts.service_tier}")
    if slug in (vendor, connection.id.lower()):
        return True
    base, slash, variant = slug.partition("/")
    named = base in (vendor, connection.id.lower())
    return bool(slash) and named and (variant == facts.quantization or variant in connection.tags)
