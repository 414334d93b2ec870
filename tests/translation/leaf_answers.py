"""Answers of every upstream API that together hold all that it can say."""

from typing import Any, Final

Json = dict[str, Any]

CHAT: Final[Json] = {
    "id": "chatcmpl-77",
    "object": "chat.completion",
    "created": 1_769_000_111,
    "model": "gpt-said",
    "system_fingerprint": "fp_5",
    "service_tier": "flex",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "matched_stop": "stopper",
            "message": {
                "role": "assistant",
                "content": "It is sunny",
                "refusal": "but no more",
                "annotations": [
                    {
                        "type": "url_citation",
                        "url_citation": {
                            "url": "https://a.example",
                            "title": "A page",
                            "start_index": 1,
                            "end_index": 6,
                        },
                    }
                ],
                "reasoning_details": [
                    {
                        "type": "reasoning.text",
                        "text": "so it seems",
                        "signature": "sig-9",
                        "format": "anthropic-claude-v1",
                    },
                    {"type": "reasoning.encrypted", "data": "enc-8", "format": "openai-responses-v1", "id": "rs_8"},
                ],
                "tool_calls": [
                    {
                        "id": "call_a",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Ulm"}'},
                    },
                    {"id": "call_b", "type": "function", "function": {"name": "clock", "arguments": '{"zone":"CET"}'}},
                ],
                "novelty": "unheard of",
            },
            "logprobs": {
                "content": [
                    {
                        "token": "It",
                        "logprob": -0.25,
                        "bytes": [73, 116],
                        "top_logprobs": [{"token": "He", "logprob": -2.5, "bytes": [72, 101]}],
                    }
                ]
            },
        },
    ],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 5},
        "completion_tokens_details": {
            "reasoning_tokens": 20,
            "audio_tokens": 4,
            "accepted_prediction_tokens": 3,
            "rejected_prediction_tokens": 2,
        },
        "cost": 0.125,
    },
    "provider": "a host",
}
SPOKEN: Final[Json] = {
    "id": "chatcmpl-78",
    "object": "chat.completion",
    "created": 1_769_000_112,
    "model": "gpt-said",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {
                "role": "assistant",
                "content": None,
                "reasoning_content": "aloud",
                "audio": {"id": "audio_4", "data": "UklGRg==", "transcript": "said so", "expires_at": 1_769_009_999},
            },
        }
    ],
}
RESPONSES: Final[Json] = {
    "id": "resp_71",
    "object": "response",
    "created_at": 1_769_000_113,
    "status": "completed",
    "model": "gpt-said",
    "output": [
        {
            "type": "reasoning",
            "id": "rs_4",
            "summary": [
                {"type": "summary_text", "text": "first thought"},
                {"type": "summary_text", "text": "second one"},
            ],
            "encrypted_content": "gAAAAAsecret",
        },
        {
            "type": "message",
            "id": "msg_5",
            "role": "assistant",
            "status": "completed",
            "phase": "final_answer",
            "content": [
                {
                    "type": "output_text",
                    "text": "It is sunny",
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url": "https://a.example",
                            "title": "A page",
                            "start_index": 1,
                            "end_index": 6,
                        },
                        {"type": "file_citation", "file_id": "file-9", "filename": "a.pdf", "index": 4},
                    ],
                    "logprobs": [{"token": "It", "logprob": -0.25, "bytes": [73, 116], "top_logprobs": []}],
                },
                {"type": "refusal", "refusal": "but no more"},
            ],
        },
        {"type": "web_search_call", "id": "ws_6", "status": "completed", "action": {"type": "search", "query": "sun"}},
        {
            "type": "function_call",
            "id": "fc_7",
            "call_id": "call_a",
            "name": "weather",
            "arguments": '{"city":"Ulm"}',
            "status": "completed",
        },
    ],
    "usage": {
        "input_tokens": 100,
        "output_tokens": 50,
        "total_tokens": 150,
        "input_tokens_details": {"cached_tokens": 30},
        "output_tokens_details": {"reasoning_tokens": 20},
    },
    "service_tier": "flex",
    "conversation": {"id": "conv_9"},
}
CUSTOM: Final[Json] = {
    "id": "resp_72",
    "object": "response",
    "created_at": 1_769_000_114,
    "status": "completed",
    "model": "gpt-said",
    "output": [{"type": "custom_tool_call", "id": "ctc_8", "call_id": "call_b", "name": "notes", "input": '{"a": 1}'}],
}
ANTHROPIC: Final[Json] = {
    "id": "msg_41",
    "type": "message",
    "role": "assistant",
    "model": "claude-said",
    "content": [
        {"type": "thinking", "thinking": "let me see", "signature": "sig-1"},
        {"type": "redacted_thinking", "data": "hidden-2"},
        {
            "type": "text",
            "text": "It is sunny",
            "citations": [
                {
                    "type": "web_search_result_location",
                    "url": "https://a.example",
                    "title": "A page",
                    "cited_text": "sunny all day",
                    "encrypted_index": "idx-3",
                }
            ],
        },
        {"type": "server_tool_use", "id": "srvtoolu_4", "name": "web_search", "input": {"query": "sun"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_4",
            "content": [{"type": "web_search_result", "url": "https://b.example"}],
        },
        {"type": "tool_use", "id": "toolu_5", "name": "weather", "input": {"city": "Ulm"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "container": {"id": "container_6", "expires_at": "2026-01-01T00:00:00Z"},
    "usage": {
        "input_tokens": 100,
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 25,
        "cache_creation": {"ephemeral_5m_input_tokens": 15, "ephemeral_1h_input_tokens": 10},
        "output_tokens": 50,
        "server_tool_use": {"web_search_requests": 3},
        "service_tier": "standard",
    },
}
STOPPED: Final[Json] = {
    "id": "msg_42",
    "type": "message",
    "role": "assistant",
    "model": "claude-said",
    "content": [{"type": "text", "text": "until here"}],
    "stop_reason": "stop_sequence",
    "stop_sequence": "HALT",
    "usage": {"input_tokens": 11, "output_tokens": 7},
}
GEMINI: Final[Json] = {
    "responseId": "resp-51",
    "modelVersion": "gemini-said",
    "candidates": [
        {
            "index": 0,
            "finishReason": "STOP",
            "finishMessage": "came to its end",
            "content": {
                "role": "model",
                "parts": [
                    {"text": "let me see", "thought": True},
                    {"text": "It is sunny", "thoughtSignature": "c2lnLTE="},
                    {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
                    {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
                    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "one"}},
                    {
                        "functionCall": {"id": "fc-2", "name": "weather", "args": {"city": "Ulm"}},
                        "thoughtSignature": "c2lnLTI=",
                    },
                    {"functionCall": {"name": "clock", "args": {"zone": "CET"}}},
                ],
            },
            "avgLogprobs": -0.75,
            "safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}],
            "groundingMetadata": {
                "webSearchQueries": ["is it sunny"],
                "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A page"}}],
                "groundingSupports": [
                    {"segment": {"startIndex": 1, "endIndex": 6, "text": "t is "}, "groundingChunkIndices": [0]}
                ],
            },
            "logprobsResult": {
                "chosenCandidates": [{"token": "It", "logProbability": -0.25}],
                "topCandidates": [{"candidates": [{"token": "He", "logProbability": -2.5}]}],
            },
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 30,
        "candidatesTokenCount": 50,
        "thoughtsTokenCount": 20,
        "totalTokenCount": 170,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 100}],
        "trafficType": "ON_DEMAND",
    },
}
OLLAMA: Final[Json] = {
    "model": "llama-said",
    "created_at": "2026-01-21T13:00:00.5Z",
    "message": {
        "role": "assistant",
        "content": "It is sunny",
        "thinking": "let me see",
        "tool_calls": [{"id": "call_a", "function": {"index": 0, "name": "weather", "arguments": {"city": "Ulm"}}}],
    },
    "done": True,
    "done_reason": "stop",
    "total_duration": 5_000_000_001,
    "load_duration": 1_000_000_002,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 130_079_003,
    "eval_count": 259,
    "eval_duration": 4_232_710_004,
    "logprobs": [
        {"token": "It", "logprob": -0.25, "bytes": [73, 116], "top_logprobs": [{"token": "He", "logprob": -2.5}]}
    ],
}
COHERE: Final[Json] = {
    "id": "c14c80c3",
    "finish_reason": "TOOL_CALL",
    "message": {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "let me see"}, {"type": "text", "text": "It is sunny"}],
        "tool_plan": "ask the weather",
        "tool_calls": [
            {"id": "weather_a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
        ],
        "citations": [
            {
                "start": 1,
                "end": 6,
                "text": "t is ",
                "sources": [{"type": "document", "id": "doc:1", "document": {"id": "doc:1", "title": "A page"}}],
                "type": "TEXT_CONTENT",
            }
        ],
    },
    "usage": {
        "billed_units": {"input_tokens": 90, "output_tokens": 40},
        "tokens": {"input_tokens": 100, "output_tokens": 50},
        "cached_tokens": 30,
    },
}
BEDROCK: Final[Json] = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "let me see", "signature": "sig-1"}}},
                {"reasoningContent": {"redactedContent": "aGlkZGVu"}},
                {"text": "It is sunny"},
                {"toolUse": {"toolUseId": "tooluse_a", "name": "weather", "input": {"city": "Ulm"}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": {
        "inputTokens": 100,
        "outputTokens": 50,
        "totalTokens": 205,
        "cacheReadInputTokens": 30,
        "cacheWriteInputTokens": 25,
    },
    "metrics": {"latencyMs": 1234},
    "additionalModelResponseFields": {"stop_sequence": "HALT"},
    "trace": {"guardrail": {"actionReason": "none needed"}},
    "performanceConfig": {"latency": "optimized"},
    "serviceTier": {"type": "flex"},
}
# By name: the upstream's API and its answer.
ANSWERS: Final[dict[str, tuple[str, Json]]] = {
    "chat": ("openai.chat", CHAT),
    "chat spoken": ("openai.chat", SPOKEN),
    "responses": ("openai.responses", RESPONSES),
    "responses custom": ("openai.responses", CUSTOM),
    "anthropic": ("anthropic", ANTHROPIC),
    "anthropic stopped": ("anthropic", STOPPED),
    "gemini": ("gemini", GEMINI),
    "ollama": ("ollama", OLLAMA),
    "cohere": ("cohere", COHERE),
    "bedrock": ("bedrock", BEDROCK),
}
