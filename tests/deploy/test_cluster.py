"""Drills on a real cluster: three replicas behind the shipped nginx, with real Redis and PostgreSQL.

All in one test file, so that one worker runs them with one cluster; the last ones restart it.
"""

import pytest

from tests.deploy.drill_access import *  # noqa: F403
from tests.deploy.drill_failures import *  # noqa: F403
from tests.deploy.drill_rollout import *  # noqa: F403

from tests.deploy.drill_backup import *  # noqa: F403  # isort: skip

pytestmark = pytest.mark.timeout(400)  # the first one waits for the cluster
