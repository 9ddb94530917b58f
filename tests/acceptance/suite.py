"""All tests of this folder with what they need, for a module that has servers of its own to test.

`from tests.acceptance.suite import *` collects them there; the module, or its conftest.py, has fixtures `target` and
`flavorless_target`, which each give a Target or skip. A scripted storage server that containers reach is
`open_storage(dict(build_sample().files), address)`.
"""

from __future__ import annotations

# What the tests and fixtures are called is their own business.
from tests.acceptance.fixtures import *  # noqa: F403
from tests.acceptance.test_admin import *  # noqa: F403
from tests.acceptance.test_counts import *  # noqa: F403
from tests.acceptance.test_flavorless import *  # noqa: F403
from tests.acceptance.test_meta import *  # noqa: F403
from tests.acceptance.test_registries import *  # noqa: F403
from tests.acceptance.test_resources import *  # noqa: F403
from tests.acceptance.test_watchers import *  # noqa: F403
