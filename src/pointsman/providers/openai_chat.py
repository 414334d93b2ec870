"""OpenAI Chat Completions as a provider format: the upstream half of translation, and each host's departures in it."""

from typing import Final

from pointsman.providers.openai_chat_errors import parse_error as parse_error
from pointsman.providers.openai_chat_request import auth_headers as auth_headers
from pointsman.providers.openai_chat_request import build_request as build_request
from pointsman.providers.openai_chat_request import departures as departures
from pointsman.providers.openai_chat_request import lacks as lacks
from pointsman.providers.openai_chat_request import marks as marks
from pointsman.providers.openai_chat_request import patch_request as patch_request
from pointsman.providers.openai_chat_response import StreamParser as StreamParser
from pointsman.providers.openai_chat_response import parse_response as parse_response

WIRE: Final = "openai.chat"
STREAM_TYPE: Final = b"text/event-stream"
