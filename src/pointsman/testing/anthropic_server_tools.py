"""What Anthropic's own tools and MCP servers would have done: their call and result blocks in a simulated answer."""

import base64

import msgspec

from .anthropic_checks import Json
from .anthropic_ids import block_id

# A block without its input, and its input as JSON when it is streamed like a call.
Served = tuple[Json, str | None]


def server_blocks(request: Json, text: str, serial: str) -> tuple[list[Served], dict[str, int]]:
    """The blocks that ``text`` asks for and ``request``'s tools allow, and how often usage counts each server tool."""
    kinds = {str(tool.get("type")).rpartition("_")[0] for tool in request.get("tools") or ()}
    blocks: list[Served] = []
    uses: dict[str, int] = {}
    if "search the web" in text and "web_search" in kinds:
        blocks += _web_search(text, block_id("srvtoolu", serial, 100))
        uses["web_search_requests"] = 1
    if "fetch the page" in text and "web_fetch" in kinds:
        blocks += _web_fetch(block_id("srvtoolu", serial, 101))
        uses["web_fetch_requests"] = 1
    if "run the code" in text and "code_execution" in kinds:
        blocks += _code(block_id("srvtoolu", serial, 102))
    servers = request.get("mcp_servers") or ()
    if "ask the server" in text and servers:
        blocks += _mcp(servers[0]["name"], block_id("mcptoolu", serial, 103))
    return blocks, uses


def _call(name: str, identity: str, arguments: Json) -> Served:
    head = {"type": "server_tool_use", "id": identity, "name": name, "input": {}}
    return head, msgspec.json.encode(arguments).decode()


def _web_search(text: str, identity: str) -> list[Served]:
    found = {
        "type": "web_search_result",
        "url": "https://example.com/found",
        "title": "Found",
        "encrypted_content": base64.b64encode(b"found").decode(),
        "page_age": None,
    }
    result = {"type": "web_search_tool_result", "tool_use_id": identity, "content": [found]}
    return [_call("web_search", identity, {"query": text}), (result, None)]


def _web_fetch(identity: str) -> list[Served]:
    source = {"type": "text", "media_type": "text/plain", "data": "The page."}
    page = {
        "type": "web_fetch_result",
        "url": "https://example.com/page",
        "content": {"type": "document", "source": source, "title": "Page", "citations": {"enabled": False}},
        "retrieved_at": "2026-01-01T00:00:00Z",
    }
    result = {"type": "web_fetch_tool_result", "tool_use_id": identity, "content": page}
    return [_call("web_fetch", identity, {"url": page["url"]}), (result, None)]


def _code(identity: str) -> list[Served]:
    ran = {"type": "code_execution_result", "stdout": "2\n", "stderr": "", "return_code": 0, "content": []}
    result = {"type": "code_execution_tool_result", "tool_use_id": identity, "content": ran}
    return [_call("code_execution", identity, {"code": "print(1 + 1)"}), (result, None)]


def _mcp(server: str, identity: str) -> list[Served]:
    head = {"type": "mcp_tool_use", "id": identity, "name": "answer", "server_name": server, "input": {}}
    result = {
        "type": "mcp_tool_result",
        "tool_use_id": identity,
        "is_error": False,
        "content": [{"type": "text", "text": "answered"}],
    }
    return [(head, '{"question":"what"}'), (result, None)]
