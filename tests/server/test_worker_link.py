"""What a worker tells its supervisor."""

import asyncio
import socket
from typing import cast

import pytest

from pointsman.accounting.telemetry import Gauge, Sums
from pointsman.server import worker_link
from pointsman.server.worker_link import AnyMessage, Channel, Place, Report, WorkerLink
from steady_load import until


@pytest.mark.parametrize("broken", ["made", "told"])
def test_a_figure_that_cannot_be_made_or_told_ends_no_reports_and_is_no_silence(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr(worker_link, "REPORT_SECONDS", 0.01)
    reports: list[AnyMessage] = []
    looks = 0

    def figures() -> Sums:
        nonlocal looks
        looks += 1
        if looks > 20:
            return Sums()
        if broken == "made":
            raise RuntimeError("a gauge of what is gone")
        return Sums(gauges={"one": cast(Gauge, object())})

    async def story() -> None:
        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours, reports.append, lambda: None)
        channel.silent_turns = 7
        link = WorkerLink(Place(control=theirs.detach(), share=0, listeners=[]))
        await link.connect(figures)
        reporting = asyncio.create_task(link.report())
        await until(lambda: channel.silent_turns == 0, "a sign of life")
        assert not reports
        await until(lambda: reports, "a report")
        reporting.cancel()
        await asyncio.wait([reporting])
        channel.close()
        await link.aclose()

    asyncio.run(story())
    assert all(isinstance(report, Report) for report in reports)


def test_what_cannot_be_understood_is_no_silence() -> None:
    heard: list[AnyMessage] = []

    async def story() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            channel = await Channel.over(ours, heard.append, lambda: None)
            channel.silent_turns = 7
            theirs.sendall(b'{"type":"Report","of":"a later version"}\n')
            await until(lambda: channel.silent_turns == 0, "the message")
            channel.close()

    asyncio.run(story())
    assert not heard
