"""What a module tells below a run's results, also from one of several processes."""

from collections.abc import Callable
from typing import Any, Final

import pytest

TELLERS: Final = pytest.StashKey[dict[str, Callable[[], str]]]()  # of this process
TOLD: Final = pytest.StashKey[dict[str, str]]()  # by other processes


def tell_at_the_end(config: pytest.Config, title: str, tell: Callable[[], str]) -> None:
    """Show what ``tell`` gives once all tests have run, below ``title``."""
    config.stash.setdefault(TELLERS, {})[title] = tell


def _texts(config: pytest.Config) -> dict[str, str]:
    return {title: tell() for title, tell in config.stash.get(TELLERS, {}).items()}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist hands its texts over."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["summary"] = _texts(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a process has handed over; one that died has nothing."""
    node.config.stash.setdefault(TOLD, {}).update(getattr(node, "workeroutput", {}).get("summary", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Each text below its title."""
    config = terminalreporter.config
    for title, text in {**_texts(config), **config.stash.get(TOLD, {})}.items():
        terminalreporter.section(title)
        terminalreporter.write(text)
