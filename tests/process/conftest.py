# SPDX-License-Identifier: Apache-2.0
"""One node is prepared for all tests of a worker; what can be failed is counted on it."""

from __future__ import annotations

import pytest

from tests.process.command import Prepared, prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("process"))
