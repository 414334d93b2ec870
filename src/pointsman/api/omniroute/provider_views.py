"""Connections and nodes as the contract shows them: no credential, no part of one, only whether there is one."""

import datetime
from typing import Any, Final

from pointsman.api.omniroute.provider_bodies import MASK
from pointsman.storage.connections import ConnectionTest
from pointsman.storage.provider_nodes import ProviderNodeRow
from pointsman.upstream.connections import ConnectionInfo
from pointsman.upstream.probes import Finding

MAX_NAMES: Final = 1000  # models shown of one connection in a list of connections


def view(info: ConnectionInfo, test: ConnectionTest | None) -> dict[str, Any]:
    """A connection for an administrator."""
    stored = info.source == "database"
    shown: dict[str, Any] = {
        **client_view(info, test),
        "authType": "apikey" if info.has_secret else "none",
        "url": info.base_url or "",
        "maxConcurrent": info.max_concurrent,
        "requestsPerMinute": info.requests_per_minute,
        "requestsPerDay": info.requests_per_day,
        "tokensPerMinute": info.tokens_per_minute,
        "models": info.models[:MAX_NAMES],
        "modelCount": len(info.models),
        "excludedModels": info.excluded_models,
        "allowPrivate": info.allow_private,
        "hasApiKey": info.has_secret,
        "extraApiKeyCount": info.extra_keys,
        "headers": dict.fromkeys(info.headers, MASK),
        "proxy": info.proxy,
        "hasCaCertificates": info.has_authorities,
        "pricing": info.provider,
        "source": info.source,
        "readOnly": not stored,
        "problem": info.problem,
        "providerSpecificData": _data(info),
        **_tested(test),
    }
    if stored:
        shown |= {"createdAt": instant(info.created_at), "updatedAt": instant(info.updated_at)}
    return shown


def client_view(info: ConnectionInfo, test: ConnectionTest | None) -> dict[str, Any]:
    """A connection for whoever only has to choose one: no address, no way there, nothing of its credentials."""
    return {
        "id": info.id,
        "provider": info.node_id or info.kind,
        "name": info.name or info.id,
        "displayName": info.display_name,
        "isActive": info.enabled and info.problem is None,
        "priority": info.priority,
        "defaultModel": info.default_model,
        "tags": info.tags,
        "testStatus": "untested" if test is None else "active" if test.valid else "error",
    }


def _data(info: ConnectionInfo) -> dict[str, Any]:
    """What the program's shape has in a member of its own."""
    data = {
        "baseUrl": info.base_url,
        "prefix": info.prefix,
        "chatPath": info.options.get("chat_path"),
        "modelsPath": info.options.get("models_path"),
        "options": info.options,
        "tags": info.tags,
        "excludedModels": info.excluded_models,
    }
    return {name: value for name, value in data.items() if value}


def _tested(test: ConnectionTest | None) -> dict[str, Any]:
    if test is None:
        return {"lastTested": None, "lastError": None, "lastErrorType": None, "lastErrorAt": None, "errorCode": None}
    at = instant(test.tested_at)
    if test.valid:
        return {"lastTested": at, "lastError": None, "lastErrorType": None, "lastErrorAt": None, "errorCode": None}
    code = str(test.status) if test.status is not None else None
    return {
        "lastTested": at,
        "lastError": test.message,
        "lastErrorType": test.verdict,
        "lastErrorAt": at,
        "errorCode": code,
    }


def result_view(finding: Finding) -> dict[str, Any]:
    """The result of a test."""
    return {
        "valid": finding.valid,
        "error": finding.message,
        "latencyMs": finding.latency_ms,
        "statusCode": finding.status,
        "refreshed": False,
        "diagnosis": {
            "type": finding.verdict,
            "source": "upstream" if finding.status is not None else "gateway",
            "code": str(finding.status) if finding.status is not None else None,
            "message": finding.message,
        },
        "testedAt": instant(finding.tested_at),
    }


def node_view(row: ProviderNodeRow) -> dict[str, Any]:
    """A provider node."""
    return {
        "id": row.id,
        "type": row.type,
        "name": row.name,
        "prefix": row.prefix,
        "apiType": row.api_type,
        "baseUrl": row.base_url,
        "chatPath": row.chat_path,
        "modelsPath": row.models_path,
        "createdAt": instant(row.created_at),
        "updatedAt": instant(row.updated_at),
    }


def instant(micros: int) -> str:
    """An instant as RFC 3339 has it, in UTC."""
    at = datetime.datetime.fromtimestamp(micros / 1e6, tz=datetime.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
