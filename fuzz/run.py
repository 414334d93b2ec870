"""``make fuzz``: fuzz the targets, one after another, each in a process of its own.

    python -m fuzz.run [--seconds 60] [TARGET ...]

What was found and learnt stands in .fuzz/. The exit status is 1 when something was found.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEEDS = Path(__file__).resolve().parent / "corpus"
SCRATCH = ROOT / ".fuzz"
# Name -> the longest input in bytes.
TARGETS = {
    "edge": 4096,
    "upstream": 4096,
    "chat_request": 2048,
    "event_stream": 4096,
    "anthropic_request": 4096,
    "anthropic_stream": 4096,
    "gemini_request": 4096,
    "gemini_stream": 4096,
    "chat_hub_request": 4096,
    "responses_request": 4096,
    "ollama_request": 4096,
    "openai_streams": 4096,
    "provider_streams": 4096,
}
MEMORY_MB = 1024
GRACE_SECONDS = 60


def fuzz(target: str, seconds: int) -> bool:
    """Fuzz one target; False when it found something."""
    learnt, found = SCRATCH / "corpus" / target, SCRATCH / "found"
    for folder in (learnt, found):
        folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fuzz.target", target, f"-max_total_time={seconds}"]
    command += [f"-max_len={TARGETS[target]}", f"-rss_limit_mb={MEMORY_MB}", "-timeout=10", "-print_final_stats=1"]
    command += [f"-artifact_prefix={found}/{target}-", str(learnt), str(SEEDS / target)]
    log = SCRATCH / f"{target}.log"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("wb") as out:
        try:
            status = subprocess.run(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
                cwd=ROOT,
                timeout=seconds + GRACE_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    text = log.read_text(errors="replace")
    runs = [line.split()[1] for line in text.splitlines() if line.startswith("stat::number_of_executed_units")]
    print(
        f"{target}: {runs[0] if runs else '?'} inputs, {'nothing found' if status == 0 else 'FOUND, see ' + str(log)}"
    )
    return status == 0


def main() -> int:
    """Fuzz what the arguments name; all without."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, metavar="S", help="for each target; default 60")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    results = [fuzz(target, options.seconds) for target in options.targets or TARGETS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
