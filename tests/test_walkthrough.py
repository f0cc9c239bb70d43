"""The walkthrough shows what the chapters print, and leaves no chapter out."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load_script():
    spec = importlib.util.spec_from_file_location("walkthrough", ROOT / "scripts/walkthrough.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["README.md", "README.tr.md", "docs/walkthrough.md"])
def test_every_link_of_a_page_leads_to_a_file(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_walkthrough_shows_what_every_chapter_prints():
    walkthrough = load_script()
    page = walkthrough.PAGE.read_text(encoding="utf-8")
    shown = {match[1] for match in walkthrough.BLOCK.finditer(page)}
    chapters = {
        f"gpt.{path.stem}"
        for path in (ROOT / "gpt").glob("*.py")
        if "\ndef _demo() -> None:\n" in path.read_text(encoding="utf-8")
    }
    assert shown == chapters - {"gpt.download"}  # it lists what is on this very machine
    assert walkthrough.with_what_is_printed(page) == page
