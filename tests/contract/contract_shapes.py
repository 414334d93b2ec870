"""What operations answer, where the contracts' documents leave it open: shapes that their clients rely on."""

from typing import Any, Final

from pointsman.contracts.operations import Contract

TEXT: Final = {"type": "string"}
CONNECTION: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "provider", "name"],
    "properties": {
        "id": {"type": "string"},
        "provider": {"type": "string"},
        "name": {"type": "string"},
        "url": {"type": "string"},
        "isActive": {"type": "boolean"},
        "maxConcurrent": {"type": ["integer", "null"], "minimum": 0},
        "priority": {"type": "integer"},
        "testStatus": {"type": "string", "enum": ["active", "error", "untested"]},
        "createdAt": {"type": "string", "format": "date-time"},
    },
}
LIST: Final = {
    "type": "object",
    "required": ["connections"],
    "properties": {"connections": {"type": "array", "items": CONNECTION}},
}
ONE: Final = {"type": "object", "required": ["connection"], "properties": {"connection": CONNECTION}}
TEXT_OR_NULL: Final = {"type": ["string", "null"]}
RESULT: Final = {
    "type": "object",
    "required": ["valid", "error", "latencyMs", "statusCode", "refreshed", "diagnosis", "testedAt"],
    "properties": {
        "valid": {"type": "boolean"},
        "error": TEXT_OR_NULL,
        "latencyMs": {"type": "integer", "minimum": 0},
        "diagnosis": {"type": "object", "required": ["type", "source", "code", "message"]},
        "testedAt": {"type": "string", "format": "date-time"},
    },
}
BATCH: Final = {
    "type": "object",
    "required": ["mode", "providerId", "results", "testedAt", "summary"],
    "properties": {
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["provider", "connectionId", "connectionName", "authType", "valid", "latencyMs", "error",
                             "diagnosis", "statusCode", "testedAt"],
            },
        },
        "summary": {"type": "object", "required": ["total", "passed", "failed"]},
    },
}  # fmt: skip
VALIDATED: Final = {
    "type": "object",
    "required": ["valid", "error", "warning", "method"],
    "properties": {"valid": {"type": "boolean"}, "error": TEXT_OR_NULL, "warning": TEXT_OR_NULL},
}
MODELS: Final = {
    "type": "object",
    "required": ["provider", "connectionId", "models", "source"],
    "properties": {
        "models": {"type": "array", "items": {"type": "object", "required": ["id", "name"]}},
        "source": {"enum": ["api", "cache", "local_catalog"]},
    },
}
NODE: Final = {
    "type": "object",
    "required": ["id", "type", "name", "prefix", "apiType", "baseUrl", "chatPath", "modelsPath", "createdAt"],
    "properties": {"type": {"enum": ["openai-compatible", "anthropic-compatible"]}},
}
NODES: Final = {
    "type": "object",
    "required": ["nodes", "ccCompatibleProviderEnabled"],
    "properties": {"nodes": {"type": "array", "items": NODE}},
}
ONE_NODE: Final = {"type": "object", "required": ["node"], "properties": {"node": NODE}}
OFFERED: Final = {
    "type": "object",
    "required": ["models", "modelCompatOverrides"],
    "properties": {"models": {"type": "array"}, "modelCompatOverrides": {"type": "array"}},
}
REFUSAL: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message"],
            "properties": {
                "message": {"type": "string"},
                "details": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["field", "message"],
                        "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                    },
                },
            },
        }
    },
}

# The twenty operations, and PUT, which the program has in place of PATCH.
OPERATIONS: Final = (
    ("GET", "/api/providers"),
    ("POST", "/api/providers"),
    ("GET", "/api/providers/{id}"),
    ("PATCH", "/api/providers/{id}"),
    ("PUT", "/api/providers/{id}"),
    ("DELETE", "/api/providers/{id}"),
    ("POST", "/api/providers/{id}/test"),
    ("GET", "/api/providers/{id}/models"),
    ("POST", "/api/providers/test-batch"),
    ("POST", "/api/providers/validate"),
    ("GET", "/api/providers/client"),
    ("POST", "/api/providers/agy-auth/import"),
    ("POST", "/api/providers/agy-auth/import-bulk"),
    ("POST", "/api/providers/agy-auth/zip-extract"),
    ("POST", "/api/providers/agy-auth/apply-local"),
    ("GET", "/api/provider-nodes"),
    ("POST", "/api/provider-nodes"),
    ("PATCH", "/api/provider-nodes/{id}"),
    ("PUT", "/api/provider-nodes/{id}"),
    ("DELETE", "/api/provider-nodes/{id}"),
    ("POST", "/api/provider-nodes/validate"),
    ("GET", "/api/provider-models"),
)

COMBO: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "name", "models", "strategy"],
    "properties": {"id": TEXT, "name": TEXT, "strategy": TEXT, "models": {"type": "array"}},
}
PAGE_OF_COMBOS: Final = {
    "type": "object",
    "required": ["combos", "total"],
    "properties": {"combos": {"type": "array", "items": COMBO}, "total": {"type": "integer"}},
}
DONE: Final = {"type": "object", "required": ["success"], "properties": {"success": {"const": True}}}
RESILIENCE: Final = {"type": "object", "required": ["requestQueue", "connectionCooldown", "providerBreaker", "legacy"]}
HEALTH: Final = {
    "type": "object",
    "required": ["status", "timestamp", "version", "uptime", "circuitBreakers", "providerBreakers", "providerHealth"],
    "properties": {"status": {"enum": ["healthy", "degraded", "unhealthy"]}},
}
RATE_LIMITS: Final = {
    "type": "object",
    "required": ["connections", "overview", "lockouts", "cacheStats"],
    "properties": {
        "connections": {
            "type": "array",
            "items": {"type": "object", "required": ["connectionId", "rateLimitProtection"]},
        }
    },
}
SESSIONS: Final = {
    "type": "object",
    "required": ["count", "sessions", "byApiKey"],
    "properties": {"count": {"type": "integer", "minimum": 0}, "sessions": {"type": "array"}},
}
COMPLETION: Final = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage"],
    "properties": {
        "object": {"const": "chat.completion"},
        "choices": {"type": "array", "minItems": 1, "items": {"required": ["index", "message", "finish_reason"]}},
        "usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"]},
    },
}
MESSAGE: Final = {
    "type": "object",
    "required": ["id", "type", "role", "model", "content", "stop_reason", "usage"],
    "properties": {"type": {"const": "message"}, "role": {"const": "assistant"}, "content": {"type": "array"}},
}
RESPONSE: Final = {"type": "object", "required": ["id", "object", "created_at", "model", "output", "status", "usage"]}
EMBEDDINGS: Final = {
    "type": "object",
    "required": ["object", "data", "model", "usage"],
    "properties": {"data": {"type": "array", "items": {"required": ["object", "index", "embedding"]}}},
}
RANKED: Final = {
    "type": "object",
    "required": ["results"],
    "properties": {"results": {"type": "array", "items": {"type": "object", "required": ["index", "relevance_score"]}}},
}
LIST_OF_MODELS: Final = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"type": "object", "required": ["id", "object", "owned_by"]}},
    },
}
# An OpenRouter model (openrouter.ai/docs, models), of which its contract's document says only that it is an object.
ROUTER_MODEL: Final = {
    "type": "object",
    "required": ["id", "canonical_slug", "name", "created", "context_length", "architecture", "pricing", "top_provider",
                 "per_request_limits", "supported_parameters", "default_parameters"],
    "properties": {
        "architecture": {"type": "object", "required": ["modality", "input_modalities", "output_modalities"]},
        "pricing": {"type": "object", "required": ["prompt", "completion"]},
    },
}  # fmt: skip
ROUTER_MODELS: Final = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "array", "items": ROUTER_MODEL}},
}
ENDPOINT: Final = {
    "type": "object",
    "required": ["name", "model_name", "context_length", "pricing", "provider_name", "tag", "quantization", "status",
                 "max_completion_tokens", "max_prompt_tokens", "supported_parameters", "uptime_last_30m"],
}  # fmt: skip
ENDPOINTS: Final = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "object",
            "required": ["id", "name", "created", "description", "architecture", "endpoints"],
            "properties": {"endpoints": {"type": "array", "items": ENDPOINT}},
        }
    },
}
CATALOGUE: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["id", "type", "provider", "name", "capabilities"],
        "properties": {"type": {"enum": ["api", "browser", "local"]}},
    },
}
# What an operation answers, where its contract's document leaves it open or says less than its clients rely on.
SHAPES: Final[dict[tuple[str, str], Any]] = {
    ("GET", "/api/providers"): LIST,
    ("POST", "/api/providers"): ONE,
    ("GET", "/api/providers/{id}"): ONE,
    ("PATCH", "/api/providers/{id}"): ONE,
    ("POST", "/api/providers/{id}/test"): RESULT,
    ("GET", "/api/providers/{id}/models"): MODELS,
    ("POST", "/api/providers/test-batch"): BATCH,
    ("POST", "/api/providers/validate"): VALIDATED,
    ("GET", "/api/providers/client"): LIST,
    ("GET", "/api/provider-nodes"): NODES,
    ("POST", "/api/provider-nodes"): ONE_NODE,
    ("PATCH", "/api/provider-nodes/{id}"): ONE_NODE,
    ("POST", "/api/provider-nodes/validate"): VALIDATED,
    ("GET", "/api/provider-models"): OFFERED,
    ("GET", "/api/combos"): PAGE_OF_COMBOS,
    ("POST", "/api/combos"): COMBO,
    ("PATCH", "/api/combos/{id}"): COMBO,
    ("DELETE", "/api/combos/{id}"): DONE,
    ("POST", "/api/fallback/chains"): DONE,
    ("DELETE", "/api/fallback/chains"): DONE,
    ("GET", "/api/resilience"): RESILIENCE,
    ("PATCH", "/api/resilience"): RESILIENCE,
    ("POST", "/api/resilience/reset"): DONE,
    ("GET", "/api/monitoring/health"): HEALTH,
    ("GET", "/api/rate-limits"): RATE_LIMITS,
    ("GET", "/api/rate-limit"): RATE_LIMITS,
    ("POST", "/api/rate-limit"): DONE,
    ("POST", "/api/models/alias"): DONE,
    ("GET", "/api/sessions"): SESSIONS,
    ("POST", "/api/v1/chat/completions"): COMPLETION,
    ("POST", "/api/v1/providers/{provider}/chat/completions"): COMPLETION,
    ("POST", "/api/v1/messages"): MESSAGE,
    ("POST", "/api/v1/responses"): RESPONSE,
    ("POST", "/api/v1/embeddings"): EMBEDDINGS,
    ("POST", "/api/v1/providers/{provider}/embeddings"): EMBEDDINGS,
    ("POST", "/api/v1/rerank"): RANKED,
    ("GET", "/api/v1/providers/{provider}/models"): LIST_OF_MODELS,
    ("GET", "/api/v1/models"): ROUTER_MODELS,
    ("GET", "/api/v1/models/user"): ROUTER_MODELS,
    ("GET", "/api/v1/embeddings/models"): ROUTER_MODELS,
    ("GET", "/api/v1/rerank/models"): ROUTER_MODELS,
    ("GET", "/api/v1/models/{author}/{slug}/endpoints"): ENDPOINTS,
    ("POST", "/v1/chat/completions"): COMPLETION,
}
# The same for paths that two contracts share with different answers.
SHAPES_OF: Final[dict[Contract, dict[tuple[str, str], Any]]] = {
    Contract.OMNIROUTE: {("GET", "/api/v1/models"): LIST_OF_MODELS},
}
