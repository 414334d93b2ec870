"""The limit of open files: raised at the start, and an operator is warned where that is not enough."""

import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from pointsman.open_files import raise_limit, used_up
from pointsman.settings import ServerSettings
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
raise_limit(ServerSettings(max_connections=100, max_concurrent_requests=50))
print(*resource.getrlimit(resource.RLIMIT_NOFILE), used_up())
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
print(used_up())
"""


@pytest.mark.parametrize(("hard", "warned"), [(405, True), (406, False)])
def test_the_limit_is_raised_as_far_as_allowed_and_too_low_a_one_is_warned_of(hard: int, warned: bool) -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > hard
    command = [sys.executable, "-c", SCRIPT, "64", str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [lines[-2], lines[-1]] == [f"{hard} {hard} False", "True"]
    assert ("fewer open files" in done.stdout + done.stderr) == warned
