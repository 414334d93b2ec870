"""Ollama's own API as clients speak it: `chat` and `generate` are dialects, `models` and `embeddings` have the rest."""
