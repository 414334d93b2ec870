"""Requests of Ollama's clients with every member that Ollama knows."""

import base64
from typing import Any

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
SCHEMA: Any = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
WEATHER: Any = {
    "type": "function",
    "items": {"type": "items-type"},
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "$defs": {"place": {"type": "string"}},
            "properties": {"city": {"$ref": "#/$defs/place", "description": "Where."}},
            "required": ["city"],
        },
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
OPTIONS: Any = {
    "num_predict": 50,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.05,
    "seed": 7,
    "stop": ["END", "STOP"],
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "repeat_penalty": 1.1,
    "repeat_last_n": 33,
    "typical_p": 0.7,
    "num_ctx": 8192,
    "num_gpu": 1,
    "use_mmap": True,
}
CHAT: Any = {
    "model": "llama4",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is this?", "images": [PIXEL]},
        {
            "role": "assistant",
            "content": "I will look.",
            "thinking": "A picture of weather.",
            "tool_calls": [
                {"id": "call_a", "function": {"index": 0, "name": "weather", "arguments": {"city": "Paris", "n": 1.5}}},
                {"function": {"name": "clock", "arguments": {}}},
            ],
        },
        {"role": "tool", "tool_name": "clock", "content": "noon"},
        {"role": "tool", "tool_call_id": "call_a", "tool_name": "weather", "content": "sunny"},
        {"role": "user", "content": "So?"},
    ],
    "tools": [WEATHER, CLOCK],
    "format": SCHEMA,
    "options": OPTIONS,
    "stream": False,
    "think": "high",
    "keep_alive": "10m",
    "logprobs": True,
    "top_logprobs": 3,
    "truncate": False,
    "shift": False,
    "_debug_render_only": False,
}
GENERATE: Any = {
    "model": "llama4",
    "prompt": "def f(",
    "suffix": "return 1",
    "system": "You write Python.",
    "template": "{{ .Prompt }}",
    "context": [1, 22, 333],
    "images": [PIXEL],
    "raw": False,
    "format": "json",
    "options": OPTIONS,
    "stream": True,
    "think": True,
    "keep_alive": 300,
    "logprobs": True,
    "top_logprobs": 1,
    "width": 512,
    "height": 256,
    "steps": 4,
}
