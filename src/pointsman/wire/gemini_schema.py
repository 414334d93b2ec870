"""Google's generateContent messages as tables: which members a message has, and of what kind each is.

A kind is ``string``, ``bool``, ``int``, ``number``, ``bytes`` (base64), ``value`` (any JSON, kept as it is), ``struct``
(a JSON object, kept as it is), ``enum NAME``, the name of another message, ``[KIND]`` for an array or ``{KIND}`` for a
map. Google accepts a member in camel case and in snake case; the tables hold camel case. The Gemini API and Vertex AI
share the messages; what only one of them has is in ``VERTEX_ONLY`` and ``GEMINI_ONLY``.

Source: Google's published reference of both APIs and the types of its Python SDK (google-genai 3.4).
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

Members = Mapping[str, str]

ENUMS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        name: frozenset(values.split())
        for name, values in {
            "HarmCategory": """HARM_CATEGORY_UNSPECIFIED HARM_CATEGORY_DEROGATORY HARM_CATEGORY_TOXICITY
                HARM_CATEGORY_VIOLENCE HARM_CATEGORY_SEXUAL HARM_CATEGORY_MEDICAL HARM_CATEGORY_DANGEROUS
                HARM_CATEGORY_HARASSMENT HARM_CATEGORY_HATE_SPEECH HARM_CATEGORY_SEXUALLY_EXPLICIT
                HARM_CATEGORY_DANGEROUS_CONTENT HARM_CATEGORY_CIVIC_INTEGRITY HARM_CATEGORY_JAILBREAK
                HARM_CATEGORY_IMAGE_HATE HARM_CATEGORY_IMAGE_DANGEROUS_CONTENT HARM_CATEGORY_IMAGE_HARASSMENT
                HARM_CATEGORY_IMAGE_SEXUALLY_EXPLICIT""",
            "HarmBlockThreshold": """HARM_BLOCK_THRESHOLD_UNSPECIFIED BLOCK_LOW_AND_ABOVE BLOCK_MEDIUM_AND_ABOVE
                BLOCK_ONLY_HIGH BLOCK_NONE OFF""",
            "HarmBlockMethod": "HARM_BLOCK_METHOD_UNSPECIFIED SEVERITY PROBABILITY",
            "Type": "TYPE_UNSPECIFIED STRING NUMBER INTEGER BOOLEAN ARRAY OBJECT NULL",
            "Mode": "MODE_UNSPECIFIED AUTO ANY NONE VALIDATED",
            "Modality": "MODALITY_UNSPECIFIED TEXT IMAGE AUDIO VIDEO",
            "MediaResolution": """MEDIA_RESOLUTION_UNSPECIFIED MEDIA_RESOLUTION_LOW MEDIA_RESOLUTION_MEDIUM
                MEDIA_RESOLUTION_HIGH MEDIA_RESOLUTION_ULTRA_HIGH""",
            "ThinkingLevel": "THINKING_LEVEL_UNSPECIFIED MINIMAL LOW MEDIUM HIGH XHIGH",
            "Language": "LANGUAGE_UNSPECIFIED PYTHON",
            "Outcome": "OUTCOME_UNSPECIFIED OUTCOME_OK OUTCOME_FAILED OUTCOME_DEADLINE_EXCEEDED",
            "Behavior": "UNSPECIFIED BLOCKING NON_BLOCKING",
            "Scheduling": "SCHEDULING_UNSPECIFIED SILENT WHEN_IDLE INTERRUPT",
            "ServiceTier": "unspecified flex standard priority",
            "ToolType": """TOOL_TYPE_UNSPECIFIED GOOGLE_SEARCH_WEB GOOGLE_SEARCH_IMAGE URL_CONTEXT GOOGLE_MAPS
                FILE_SEARCH MEDIA_PROCESSING""",
            "FinishReason": """FINISH_REASON_UNSPECIFIED STOP MAX_TOKENS SAFETY RECITATION LANGUAGE OTHER BLOCKLIST
                PROHIBITED_CONTENT SPII MALFORMED_FUNCTION_CALL IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT IMAGE_OTHER
                NO_IMAGE IMAGE_RECITATION UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MISSING_THOUGHT_SIGNATURE
                MALFORMED_RESPONSE ESCALATION PUP_LIMITED_DISABLED CONTINUATION MODEL_ARMOR""",
            "BlockedReason": """BLOCKED_REASON_UNSPECIFIED SAFETY OTHER BLOCKLIST PROHIBITED_CONTENT IMAGE_SAFETY
                MODEL_ARMOR JAILBREAK""",
            "Environment": "ENVIRONMENT_UNSPECIFIED ENVIRONMENT_BROWSER ENVIRONMENT_MOBILE ENVIRONMENT_DESKTOP",
        }.items()
    }
)
FINISH_REASONS: Final = ENUMS["FinishReason"]
BLOCK_REASONS: Final = ENUMS["BlockedReason"]

_MEDIA: Final = {
    "videoMetadata": "VideoMetadata",
    "mediaResolution": "PartMediaResolution",
    "mediaProcessing": "string",
    "documentMetadata": "struct",
    "spreadsheetMetadata": "struct",
    "audioMetadata": "struct",
}

MESSAGES: Final[Mapping[str, Members]] = {
    "GenerateContentRequest": {
        "model": "string",
        "contents": "[Content]",
        "systemInstruction": "Content",
        "tools": "[Tool]",
        "toolConfig": "ToolConfig",
        "safetySettings": "[SafetySetting]",
        "generationConfig": "GenerationConfig",
        "cachedContent": "string",
        "labels": "{string}",
        "serviceTier": "enum ServiceTier",
        "store": "bool",
        "modelArmorConfig": "struct",
        "generationOutputConfig": "struct",
        "continuationToken": "bytes",
    },
    "CountTokensRequest": {
        "model": "string",
        "contents": "[Content]",
        "generateContentRequest": "GenerateContentRequest",
        "systemInstruction": "Content",
        "tools": "[Tool]",
        "generationConfig": "GenerationConfig",
        "instances": "[value]",
    },
    "Content": {"role": "string", "parts": "[Part]"},
    "Part": {
        "text": "string",
        "inlineData": "Blob",
        "fileData": "FileData",
        "functionCall": "FunctionCall",
        "functionResponse": "FunctionResponse",
        "executableCode": "ExecutableCode",
        "codeExecutionResult": "CodeExecutionResult",
        "toolCall": "ToolCall",
        "toolResponse": "ToolResponse",
        "audioTranscription": "struct",
        "thought": "bool",
        "thoughtSignature": "bytes",
        "partMetadata": "struct",
        "speechMetadata": "struct",
        **_MEDIA,
    },
    "Blob": {"mimeType": "string", "data": "bytes", "displayName": "string"},
    "FileData": {"mimeType": "string", "fileUri": "string", "displayName": "string"},
    "VideoMetadata": {
        "startOffset": "string",
        "endOffset": "string",
        "fps": "number",
        "contentLayers": "[string]",
    },
    "PartMediaResolution": {"level": "enum MediaResolution", "numTokens": "int"},
    "FunctionCall": {
        "id": "string",
        "name": "string",
        "args": "struct",
        "partialArgs": "[struct]",
        "willContinue": "bool",
    },
    "FunctionResponse": {
        "id": "string",
        "name": "string",
        "response": "struct",
        "parts": "[FunctionResponsePart]",
        "willContinue": "bool",
        "scheduling": "enum Scheduling",
    },
    "FunctionResponsePart": {"inlineData": "Blob", "fileData": "FileData", **_MEDIA},
    "ExecutableCode": {"id": "string", "language": "enum Language", "code": "string"},
    "CodeExecutionResult": {"id": "string", "outcome": "enum Outcome", "output": "string"},
    "ToolCall": {"id": "string", "toolType": "enum ToolType", "args": "struct"},
    "ToolResponse": {"id": "string", "toolType": "enum ToolType", "response": "struct"},
    "Tool": {
        "functionDeclarations": "[FunctionDeclaration]",
        "googleSearch": "struct",
        "googleSearchRetrieval": "struct",
        "codeExecution": "struct",
        "urlContext": "struct",
        "computerUse": "ComputerUse",
        "fileSearch": "FileSearch",
        "googleMaps": "struct",
        "mcpServers": "[struct]",
        "retrieval": "struct",
        "enterpriseWebSearch": "struct",
        "parallelAiSearch": "struct",
        "exaAiSearch": "struct",
    },
    "ComputerUse": {
        "environment": "enum Environment",
        "excludedPredefinedFunctions": "[string]",
        "enablePromptInjectionDetection": "bool",
        "disabledSafetyPolicies": "[string]",
    },
    "FileSearch": {"fileSearchStoreNames": "[string]", "topK": "int", "metadataFilter": "string"},
    "FunctionDeclaration": {
        "name": "string",
        "description": "string",
        "behavior": "enum Behavior",
        "parameters": "Schema",
        "parametersJsonSchema": "value",
        "response": "Schema",
        "responseJsonSchema": "value",
    },
    "Schema": {
        "type": "enum Type",
        "format": "string",
        "title": "string",
        "description": "string",
        "nullable": "bool",
        "enum": "[string]",
        "items": "Schema",
        "minItems": "int",
        "maxItems": "int",
        "properties": "{Schema}",
        "required": "[string]",
        "minProperties": "int",
        "maxProperties": "int",
        "minLength": "int",
        "maxLength": "int",
        "pattern": "string",
        "example": "value",
        "anyOf": "[Schema]",
        "propertyOrdering": "[string]",
        "default": "value",
        "minimum": "number",
        "maximum": "number",
        "additionalProperties": "value",
        "ref": "string",
        "defs": "{Schema}",
    },
    "ToolConfig": {
        "functionCallingConfig": "FunctionCallingConfig",
        "retrievalConfig": "RetrievalConfig",
        "includeServerSideToolInvocations": "bool",
    },
    "FunctionCallingConfig": {
        "mode": "enum Mode",
        "allowedFunctionNames": "[string]",
        "streamFunctionCallArguments": "bool",
    },
    "RetrievalConfig": {"latLng": "LatLng", "languageCode": "string"},
    "LatLng": {"latitude": "number", "longitude": "number"},
    "SafetySetting": {
        "category": "enum HarmCategory",
        "threshold": "enum HarmBlockThreshold",
        "method": "enum HarmBlockMethod",
    },
    "GenerationConfig": {
        "stopSequences": "[string]",
        "responseMimeType": "string",
        "responseSchema": "Schema",
        "responseJsonSchema": "value",
        "responseModalities": "[enum Modality]",
        "responseFormat": "[struct]",
        "candidateCount": "int",
        "maxOutputTokens": "int",
        "temperature": "number",
        "topP": "number",
        "topK": "number",
        "seed": "int",
        "presencePenalty": "number",
        "frequencyPenalty": "number",
        "responseLogprobs": "bool",
        "logprobs": "int",
        "enableEnhancedCivicAnswers": "bool",
        "enableAffectiveDialog": "bool",
        "speechConfig": "SpeechConfig",
        "thinkingConfig": "ThinkingConfig",
        "imageConfig": "ImageConfig",
        "mediaResolution": "enum MediaResolution",
        "audioTimestamp": "bool",
        "audioTranscriptionConfig": "struct",
        "translationConfig": "struct",
        "routingConfig": "struct",
        "modelSelectionConfig": "struct",
    },
    "ThinkingConfig": {"includeThoughts": "bool", "thinkingBudget": "int", "thinkingLevel": "enum ThinkingLevel"},
    "ImageConfig": {
        "aspectRatio": "string",
        "imageSize": "string",
        "personGeneration": "string",
        "prominentPeople": "string",
        "outputMimeType": "string",
        "outputCompressionQuality": "int",
        "imageOutputOptions": "struct",
    },
    "SpeechConfig": {
        "voiceConfig": "VoiceConfig",
        "multiSpeakerVoiceConfig": "MultiSpeakerVoiceConfig",
        "languageCode": "string",
    },
    "VoiceConfig": {
        "prebuiltVoiceConfig": "PrebuiltVoiceConfig",
        "replicatedVoiceConfig": "struct",
        "voice": "string",
    },
    "PrebuiltVoiceConfig": {"voiceName": "string"},
    "MultiSpeakerVoiceConfig": {"speakerVoiceConfigs": "[SpeakerVoiceConfig]"},
    "SpeakerVoiceConfig": {"speaker": "string", "voiceConfig": "VoiceConfig"},
}

# Members that the Gemini API doesn't know, by message.
VERTEX_ONLY: Final[Mapping[str, frozenset[str]]] = {
    "GenerateContentRequest": frozenset({"labels", "modelArmorConfig", "generationOutputConfig"}),
    "CountTokensRequest": frozenset({"systemInstruction", "tools", "generationConfig", "instances"}),
    "FunctionCall": frozenset({"partialArgs", "willContinue"}),
    "FunctionCallingConfig": frozenset({"streamFunctionCallArguments"}),
    "SafetySetting": frozenset({"method"}),
    "Schema": frozenset({"additionalProperties", "ref", "defs"}),
    "Tool": frozenset({"retrieval", "enterpriseWebSearch", "parallelAiSearch", "exaAiSearch"}),
    "GenerationConfig": frozenset({"audioTimestamp", "routingConfig", "modelSelectionConfig"}),
    "ImageConfig": frozenset(
        {"personGeneration", "prominentPeople", "outputMimeType", "outputCompressionQuality", "imageOutputOptions"}
    ),
}
# Members that Vertex AI doesn't know, by message.
GEMINI_ONLY: Final[Mapping[str, frozenset[str]]] = {
    "GenerateContentRequest": frozenset({"store"}),
    "CountTokensRequest": frozenset({"generateContentRequest"}),
    "Part": frozenset({"toolCall", "toolResponse", "partMetadata", "mediaProcessing"}),
    "FunctionResponse": frozenset({"willContinue"}),
    "FunctionResponsePart": frozenset({"mediaProcessing"}),
    "Tool": frozenset({"fileSearch", "mcpServers"}),
    "GenerationConfig": frozenset({"enableEnhancedCivicAnswers"}),
}


@lru_cache(maxsize=1024)
def camel_case(name: str) -> str:
    """``thought_signature`` as ``thoughtSignature``; a name without an underscore stays as it is."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


@lru_cache(maxsize=1024)
def snake_case(name: str) -> str:
    """``thoughtSignature`` as ``thought_signature``: the name that Google's errors use."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
