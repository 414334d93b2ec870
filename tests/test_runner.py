"""The runner: coroutines without a Task until they need one."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pointsman.runner import Runner, Waiting, in_task


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(5):
            await main()

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - turns of the loop are what is waited for
        await asyncio.sleep(0)


def test_a_coroutine_that_waits_for_nothing_is_done_when_start_returns() -> None:
    async def main() -> None:
        seen: list[str] = []

        async def work() -> None:
            seen.append("done")

        Runner(asyncio.get_running_loop(), work()).start()
        assert seen == ["done"]

    run(main)


def test_what_was_waited_for_wakes_the_coroutine_at_once_and_without_a_task() -> None:
    async def main() -> None:
        waiting, seen = Waiting(), []
        tasks = len(asyncio.all_tasks())

        async def work() -> None:
            await waiting
            seen.append("woken")

        Runner(asyncio.get_running_loop(), work()).start()
        assert len(asyncio.all_tasks()) == tasks
        waiting.finish()
        assert seen == ["woken"]

    run(main)


def test_an_error_is_raised_where_it_is_awaited() -> None:
    async def main() -> None:
        waiting, seen = Waiting(), []

        async def work() -> None:
            try:
                await waiting
            except ValueError as error:
                seen.append(str(error))

        Runner(asyncio.get_running_loop(), work()).start()
        waiting.break_off(ValueError("broken"))
        waiting.finish()  # later news changes nothing
        assert seen == ["broken"]

    run(main)


def test_cancelling_raises_where_the_coroutine_waits_and_lets_it_clean_up() -> None:
    async def main() -> None:
        waiting, seen = Waiting(), []

        async def work() -> None:
            try:
                await waiting
            except asyncio.CancelledError:
                await asyncio.sleep(0.001)
                seen.append("cleaned up")
                raise

        runner = Runner(asyncio.get_running_loop(), work())
        runner.start()
        runner.cancel()
        await until(lambda: bool(seen))
        waiting.finish()  # nobody listens any more

    run(main)


@pytest.mark.parametrize("ask", [True, False])
def test_a_coroutine_gets_a_task_when_it_asks_for_one_or_awaits_asyncio(ask: bool) -> None:
    async def main() -> None:
        seen: list[object] = []

        async def work() -> None:
            if ask:
                await in_task()
                async with asyncio.timeout(1):
                    await asyncio.sleep(0.001)
            else:
                await asyncio.sleep(0.001)
                await asyncio.sleep(0.001)
            seen.append(asyncio.current_task())

        Runner(asyncio.get_running_loop(), work()).start()
        await until(lambda: bool(seen))
        assert seen[0] is not None
        assert seen[0] is not asyncio.current_task()

    run(main)


def test_a_coroutine_in_a_task_is_cancelled_through_its_runner() -> None:
    async def main() -> None:
        seen: list[str] = []

        async def work() -> None:
            await asyncio.sleep(0)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        runner = Runner(asyncio.get_running_loop(), work())
        runner.start()
        await asyncio.sleep(0.01)
        runner.cancel()
        await until(lambda: bool(seen))

    run(main)


def test_the_first_futures_error_is_raised_where_it_is_awaited_and_so_is_each_after_it() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(3)]
        seen: list[object] = []

        async def work() -> None:
            for future in futures:
                try:
                    seen.append(await future)
                except ValueError as error:
                    seen.append(str(error))

        Runner(loop, work()).start()
        futures[0].set_exception(ValueError("first"))
        futures[1].set_exception(ValueError("second"))
        futures[2].set_result("third")
        await until(lambda: len(seen) == 3)
        assert seen == ["first", "second", "third"]

    run(main)


@pytest.mark.parametrize("done", [False, True])
def test_a_coroutine_that_is_cancelled_before_its_task_has_begun_hears_of_it(done: bool) -> None:
    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        seen: list[BaseException] = []

        async def work() -> None:
            try:
                await future
            except BaseException as error:
                seen.append(error)
                raise

        runner = Runner(asyncio.get_running_loop(), work())
        runner.start()
        if done:
            future.set_result(None)
        runner.cancel()
        await until(lambda: bool(seen))
        assert isinstance(seen[0], asyncio.CancelledError)
        assert future.cancelled() != done

    run(main)


def test_a_coroutine_woken_inside_another_task_does_not_take_that_task_for_its_own() -> None:
    async def main() -> None:
        waiting, owners = Waiting(), []

        async def work() -> None:
            await waiting
            await in_task()
            owners.append(asyncio.current_task())

        async def waker() -> None:
            waiting.finish()
            await asyncio.sleep(0.01)
            owners.append(asyncio.current_task())

        Runner(asyncio.get_running_loop(), work()).start()
        await asyncio.create_task(waker())
        assert len(owners) == 2
        assert owners[0] is not owners[1]

    run(main)


def test_waiting_works_in_an_ordinary_task_too() -> None:
    async def main() -> None:
        waiting = Waiting()
        asyncio.get_running_loop().call_later(0.001, waiting.finish)
        await waiting
        assert waiting.done

    run(main)
