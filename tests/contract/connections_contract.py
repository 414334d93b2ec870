"""What OmniRoute's contract says of connections and provider nodes: operations, statuses, and the shapes it gives."""

from typing import Any, Final

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
