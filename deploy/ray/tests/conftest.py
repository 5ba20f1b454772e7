"""One cluster for the tests of a file; without a program to serve, they are skipped and say so."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    import stage as staging  # noqa: PLC0415 - it imports Ray

    if staging.program() is None:
        pytest.skip("there is no `troika`; name one by TROIKA_PROGRAM")
    home: Path = tmp_path_factory.mktemp("troika")
    with staging.stage(home) as it:
        yield it
