"""Docker's health check: 0 when the service has its model and takes work, as /health says."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

port = os.environ.get("MIDFILL_PORT", "8000")
try:
    # a proxy of the environment has no business between a container and itself
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(f"http://127.0.0.1:{port}/health", timeout=4).close()
except (urllib.error.URLError, OSError) as error:
    sys.exit(f"unhealthy: {error}")
