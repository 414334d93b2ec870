"""The citations of a simulated answer: one for every source that the request asks to cite."""

import base64
from collections.abc import Iterator
from typing import Any

from .anthropic_checks import Json
from .anthropic_request import blocks_of, documents_of


def citations_for(request: Json, served: list[Json]) -> Iterator[Json]:
    """A citation per document or search result with citations on, and per web search result in ``served``."""
    for index, block in documents_of(request):
        yield _of_result(index, block) if block["type"] == "search_result" else _of_document(index, block)
    for block in served:
        for found in block["content"] if block["type"] == "web_search_tool_result" else ():
            yield {
                "type": "web_search_result_location",
                "url": found["url"],
                "title": found["title"],
                "encrypted_index": base64.b64encode(found["url"].encode()).decode(),
                "cited_text": found["title"],
            }


def _of_document(index: int, block: Json) -> Json:
    source = block["source"]
    cited: Json = {"document_index": index, "document_title": block.get("title")}
    if source["type"] == "file":
        cited["file_id"] = source["file_id"]
    if source["type"] == "text":
        text = source["data"].partition(".")[0]
        return {
            "type": "char_location",
            "cited_text": text,
            **cited,
            "start_char_index": 0,
            "end_char_index": len(text),
        }
    if source["type"] == "content":
        text = _first_text(blocks_of(source))
        place = {"start_block_index": 0, "end_block_index": 1}
        return {"type": "content_block_location", "cited_text": text, **cited, **place}
    return {"type": "page_location", "cited_text": "page one", **cited, "start_page_number": 1, "end_page_number": 2}


def _of_result(index: int, block: Json) -> Json:
    return {
        "type": "search_result_location",
        "cited_text": _first_text(block["content"]),
        "source": block["source"],
        "title": block["title"],
        "search_result_index": index,
        "start_block_index": 0,
        "end_block_index": 1,
    }


def _first_text(blocks: list[Any]) -> str:
    return next((block["text"] for block in blocks if block.get("type") == "text"), "")
