"""What a worker tells its supervisor."""

import asyncio
import socket

import pytest

from pointsman.accounting.telemetry import Sums
from pointsman.server import worker_link
from pointsman.server.worker_link import AnyMessage, Channel, Place, Report, WorkerLink
from steady_load import until


def test_a_figure_that_cannot_be_made_ends_no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_link, "REPORT_SECONDS", 0.01)
    reports: list[AnyMessage] = []
    looks = 0

    def figures() -> Sums:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise RuntimeError("a gauge of what is gone")
        return Sums()

    async def story() -> None:
        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours, reports.append, lambda: None)
        link = WorkerLink(Place(control=theirs.detach(), share=0, listeners=[]))
        await link.connect(figures)
        reporting = asyncio.create_task(link.report())
        await until(lambda: len(reports) >= 3, "reports")
        reporting.cancel()
        await asyncio.wait([reporting])
        channel.close()
        await link.aclose()

    asyncio.run(story())
    assert all(isinstance(report, Report) for report in reports)
    assert looks >= 3
