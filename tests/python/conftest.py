"""Fixtures for the Python tests.

Seeded: NAVMAP_SEED (printed in pytest's header) with the test's own name, so that every test has
its own numbers and one test alone repeats them.  NAVMAP_SHORT=1 shrinks the long ones.
"""

import os
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import navmap  # noqa: E402
from workers import Worker  # noqa: E402

SEED = int(os.environ.get("NAVMAP_SEED", "20240617"))
SHORT = os.environ.get("NAVMAP_SHORT", "0") not in ("", "0")


def pytest_report_header():
    return f"navmap {navmap.__version__}, NAVMAP_SEED={SEED}, NAVMAP_SHORT={int(SHORT)}"


@pytest.fixture
def rng(request):
    return np.random.default_rng([SEED, zlib.crc32(request.node.nodeid.encode())])


@pytest.fixture
def short():
    return SHORT


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "test.navmap")


@pytest.fixture
def make(path):
    """make(space="l2", dim=8, **options): an index at `path`, closed when the test is over."""
    made = []

    def create(space="l2", dim=8, **options):
        index = navmap.create(options.pop("at", path), space, dim, **options)
        made.append(index)
        return index

    yield create
    for index in made:
        index.close()


@pytest.fixture
def private():
    """private(space="l2", dim=8, max_elements=1000, **options): an index in memory, closed when
    the test is over."""
    made = []

    def new(space="l2", dim=8, max_elements=1000, **options):
        index = navmap.Index(space, dim)
        index.init_index(max_elements, **options)
        made.append(index)
        return index

    yield new
    for index in made:
        index.close()


@pytest.fixture(params=["directory", "private"])
def either(request, make, private):
    """either(space="l2", dim=8, **options): the test runs with a directory, and with a private
    index that has room for 10,000."""

    def new(space="l2", dim=8, **options):
        if request.param == "directory":
            return make(space, dim, **options)
        return private(space, dim, 10_000, **options)

    return new


@pytest.fixture
def worker():
    """worker(): another process that obeys (workers.py); ended when the test is over."""
    started = []

    def start():
        started.append(Worker())
        return started[-1]

    yield start
    for process in started:
        process.end()
