"""Runs one target under the fuzzer: ``python -m fuzz.target edge [options of libFuzzer] [corpus folders]``."""

import importlib
import sys

import atheris
import structlog


def main() -> None:
    """Instrument the package, then fuzz until libFuzzer's options end it; a finding ends it with a traceback."""
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["pointsman"]):
        target = importlib.import_module(f"fuzz.{name}")
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # refusals are logged: not here
    atheris.Setup(sys.argv, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
