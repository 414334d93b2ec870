"""How a program of ours ends: one line on standard error and an exit code, whatever went wrong.

Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 the audit log was tampered with,
130 stopped by Ctrl-C.
"""

import sys
from collections.abc import Callable
from typing import Final

from pointsman.errors import ConfigError, GatewayError

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count


def run(program: Callable[[], object]) -> None:
    """Run ``program``: an operator's mistake is one line and exit code 2, a failed call one line and exit code 1."""
    try:
        program()
    except ConfigError as error:
        _leave(str(error), 2)
    except GatewayError as error:
        _leave(error.message, 1)
    except OSError as error:
        _leave(f"{error.strerror or error}: {error.filename}", 1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _leave(words: str, code: int) -> None:
    sys.stderr.write(f"pointsman: {words}\n")
    sys.exit(code)
