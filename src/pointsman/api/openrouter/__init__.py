"""Management views of OpenRouter's contract."""
