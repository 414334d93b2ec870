"""Upstreams to test against: real sockets, true wire shapes, and a wall of faults. Needs no test framework.

    async with Simulator(OpenAIChat(api_key="sk-1"), Behaviour(pace_ms=5)) as simulator:
        ...                                              # point a client at simulator.base_url
        request = await simulator.wait_for_disconnect()  # what was received, and how it ended

    with running_simulator() as simulator:               # the same in a thread, for code that blocks
        ...
    await serve("127.0.0.1", 9001, on_bound=report)      # until cancelled, for a command line

A request says how it wants to be treated in the header ``x-simulate: tokens=100;fault=cut_at_byte;at_byte=317`` or in
the model's name after a ``#``; ``Behaviour`` lists the directives and ``FAULTS`` the faults.
A user's text that says ``call the tool`` gets a call of the first tool; ``call the tool NAME with {...}`` gets a call
of that tool with these arguments.
Each simulated API is a class: ``OpenAIChat``, ``OpenAIResponses``, ``AnthropicMessages``, ``Gemini``, ``Ollama``,
``Cohere`` ... or an ``Api`` of your own.
Another API is simulated by passing another ``Api`` than ``OpenAIChat``, such as ``Gemini``.
"""

from .anthropic_messages import AnthropicMessages
from .bedrock import Bedrock
from .behaviour import Behaviour, DirectiveError
from .cohere import Cohere
from .cohere_retrieval import CohereRetrieval
from .embedding_hosts import GeminiEmbeddings, MistralEmbeddings
from .faults import FAULTS, Fault
from .gemini import Gemini
from .mixture import FaultMixture
from .notdiamond import NotDiamond
from .ollama import Ollama
from .openai_chat import OpenAIChat
from .openai_flavours import FLAVOURS, Flavour
from .openai_operations import OpenAIOperations
from .openai_responses import OpenAIResponses
from .reply import Api
from .request_log import Outcome, ReceivedRequest, RequestLog
from .simulator import RunningSimulator, Simulator, running_simulator, serve
from .voyage import JinaRetrieval, VoyageRetrieval

__all__ = [
    "FAULTS",
    "FLAVOURS",
    "AnthropicMessages",
    "Api",
    "Bedrock",
    "Behaviour",
    "Cohere",
    "CohereRetrieval",
    "DirectiveError",
    "Fault",
    "FaultMixture",
    "Flavour",
    "Gemini",
    "GeminiEmbeddings",
    "JinaRetrieval",
    "MistralEmbeddings",
    "NotDiamond",
    "Ollama",
    "OpenAIChat",
    "OpenAIOperations",
    "OpenAIResponses",
    "Outcome",
    "ReceivedRequest",
    "RequestLog",
    "RunningSimulator",
    "Simulator",
    "VoyageRetrieval",
    "running_simulator",
    "serve",
]
