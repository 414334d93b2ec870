"""What the settings of the response cache mean: a part of docs/configuration.md (generate.py)."""

CACHE = {
    "cache.mode": (
        "`asked`: requests, keys and presets that ask for it get answers from the cache. `on`: all requests, unless "
        "they say no. `off`: nobody, and nothing is kept."
    ),
    "cache.ttl_seconds": "How long an answer is kept when its request does not say; a day at most.",
    "cache.scope": "Whose answers a request may get: those of its workspace, or of its own key alone.",
    "cache.memory_bytes": "Memory of each process for answers; beyond that the one that was not used for longest goes.",
    "cache.memory_seconds": (
        "With `durable`, memory asks the database anew after this time: so long an answer that another process has "
        "replaced may still be given."
    ),
    "cache.max_entry_bytes": "A larger answer is not kept.",
    "cache.durable": (
        "Keep answers in the database too, encrypted: for other workers and nodes, and for later. A request that "
        "memory does not know waits for it `vault.read_timeout_seconds` at most."
    ),
    "cache.max_per_workspace": "Answers of a workspace in the database; beyond that the oldest goes.",
    "cache.semantic.enabled": "Let requests and keys ask for answers to questions that mean the same.",
    "cache.semantic.threshold": "The least likeness (cosine) of two questions that mean the same.",
    "cache.semantic.max_temperature": "A request with a higher temperature gets no such answer.",
    "cache.semantic.max_characters": "A longer question is not compared.",
    "cache.semantic.max_questions": "Questions in the memory of each process; beyond that the oldest go.",
    "cache.semantic.timeout_seconds": "A question that takes longer to be made a vector is not compared.",
}
