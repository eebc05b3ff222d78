"""tools/COMMANDS.md: the commands still print what the page shows, but for the numbers."""

import sys
from pathlib import Path

import pytest

from cli import needed

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import transcript  # noqa: E402

pytestmark = needed


def test_the_page(short):
    if short:
        pytest.skip("NAVMAP_SHORT: the page adds 20,000 words, several times")
    page = transcript.PAGE.read_text()
    again = transcript.rerun(page)
    assert transcript.differences(page, again) == []


def test_it_can_tell():
    page = "```console\n$ echo 17 sound\n17 sound\n```\n"
    assert transcript.differences(page, transcript.rerun(page)) == []
    for other in ("17 damaged", "17", "17 sound\nand more"):
        changed = page.replace("17 sound\n```", f"{other}\n```")
        assert transcript.differences(changed, transcript.rerun(changed)) != []
    assert transcript.shape("a  1,234.5 b\n3.1 MiB") == transcript.shape("a 7 b\n99 KiB")
