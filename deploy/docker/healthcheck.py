"""Whether the process of this container is alive: `/health` on its own port. Standard library only."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

_TIMEOUT_S = 4.0


def main() -> int:
    """Exit code 0: alive. 1: not, which is what a container engine takes for unhealthy."""
    url = f"http://127.0.0.1:{os.environ.get('TILLSTREAM_HTTP_PORT', '8080')}/health"
    # No proxy of the environment stands between a process and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as answer:
            return 0 if answer.status == 200 else 1
    except (OSError, urllib.error.URLError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
