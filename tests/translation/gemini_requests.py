"""A Gemini request with every member that the tables of the wire have, for the Gemini API and for Vertex AI."""

from typing import Any

SIGNATURE = "c2lnbmF0dXJl"

CONTENTS: list[dict[str, Any]] = [
    {
        "role": "user",
        "parts": [
            {"text": "look at these"},
            {
                "inlineData": {"mimeType": "image/png", "data": "UE5H"},
                "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"},
            },
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://example.com/a.pdf"}},
            {
                "fileData": {"fileUri": "https://www.youtube.com/watch?v=abc"},
                "videoMetadata": {"startOffset": "1s", "endOffset": "9s", "fps": 2.5},
            },
            {"inlineData": {"mimeType": "audio/mp3", "data": "TVAz"}},
            {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://bucket/film.mp4"}},
        ],
    },
    {
        "role": "model",
        "parts": [
            {"text": "let me think", "thought": True},
            {
                "functionCall": {"id": "fc1", "name": "weather", "args": {"city": "Oslo", "days": 3}},
                "thoughtSignature": SIGNATURE,
            },
            {"functionCall": {"id": "fc2", "name": "clock", "args": {}}},
        ],
    },
    {
        "role": "user",
        "parts": [
            {
                "functionResponse": {
                    "id": "fc1",
                    "name": "weather",
                    "response": {"sky": "blue"},
                    "parts": [{"inlineData": {"mimeType": "image/jpeg", "data": "SlBH"}}],
                    "scheduling": "SILENT",
                }
            },
            {"functionResponse": {"id": "fc2", "name": "clock", "response": {"error": "broken"}}},
        ],
    },
    {
        "role": "model",
        "parts": [
            {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
            {"text": "it is blue", "thoughtSignature": SIGNATURE},
        ],
    },
    {"role": "user", "parts": [{"text": "and tomorrow?"}]},
]

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "^[A-Z]"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city"],
    "additionalProperties": False,
}

EVERYTHING: dict[str, Any] = {
    "contents": CONTENTS,
    "systemInstruction": {"parts": [{"text": "be brief"}]},
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "tells the weather",
                    "parametersJsonSchema": SCHEMA,
                    "responseJsonSchema": {"type": "object"},
                    "behavior": "BLOCKING",
                },
                {"name": "clock"},
            ]
        },
        {"googleSearch": {}},
        {"urlContext": {}},
    ],
    "toolConfig": {
        "functionCallingConfig": {"mode": "VALIDATED", "allowedFunctionNames": ["weather", "clock"]},
        "retrievalConfig": {"latLng": {"latitude": 59.9, "longitude": 10.7}, "languageCode": "no"},
    },
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "generationConfig": {
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object", "properties": {"sky": {"type": "string"}}},
        "responseModalities": ["TEXT"],
        "candidateCount": 2,
        "maxOutputTokens": 77,
        "temperature": 0.25,
        "topP": 0.75,
        "topK": 12,
        "seed": 4711,
        "presencePenalty": 0.125,
        "frequencyPenalty": -0.5,
        "responseLogprobs": True,
        "logprobs": 4,
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 512},
        "mediaResolution": "MEDIA_RESOLUTION_HIGH",
        "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
    },
    "serviceTier": "flex",
    "store": False,
}
VERTEX: dict[str, Any] = {
    **EVERYTHING,
    "labels": {"team": "a-1"},
    "generationConfig": {**EVERYTHING["generationConfig"], "audioTimestamp": True},
}
for _name in ("store",):
    VERTEX.pop(_name)
CACHED: dict[str, Any] = {
    "contents": [{"role": "user", "parts": [{"text": "more"}]}],
    "cachedContent": "cachedContents/abc",
    "generationConfig": {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a", "b"]}},
}
