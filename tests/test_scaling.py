"""The page on scaling holds what its script computes, and the formula does what it should."""

import importlib.util

import pytest

from tests.runs import ROOT


@pytest.fixture(scope="module")
def scaling():
    spec = importlib.util.spec_from_file_location("scaling", ROOT / "scripts/scaling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_tables_of_the_script(scaling):
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for table in (scaling.checks(), scaling.predictions(16_384, 256), scaling.small_steps()):
        assert "\n".join(table) in page


def test_the_formula_is_near_what_was_published(scaling):
    for line in scaling.checks()[2:]:
        assert abs(int(line.split("|")[5].strip().rstrip("%"))) <= 10, line


def test_more_to_tell_takes_longer_and_sharding_makes_adamw_cheaper(scaling):
    size = scaling.gpt2_sizes()[-1]

    def seconds(n, tokens=16_384, shard=False, parts=1):
        return scaling.step_seconds(size, n, tokens, 256, shard, parts)

    assert seconds(1) < seconds(8) < seconds(64) < seconds(512)
    assert seconds(8, tokens=64) > seconds(1, tokens=64)
    assert seconds(8, shard=True) < seconds(8)
    assert seconds(8, shard=True, parts=16, tokens=4096) > seconds(8, parts=16, tokens=4096)
    flops = [round(of.flops(256) / 1e9, 2) for of in scaling.gpt2_sizes()]
    assert flops == pytest.approx([0.77, 2.20, 4.78, 9.57], rel=0.01)
