"""Leaves out combinations that add time and nothing else, and marks as slow what a fast run can do without."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
FAST = {
    "Conformer": {"AA", "MAA", "SA", "LLSA-chunk3", "Summary-chunk3", "SA-relative-shared"},
    "Transformer": {"LLSA"},
    "Branchformer": {"Summary-lite-chunk3"},
}
"""What a fast run of the contract takes in each block."""

SLOW = {
    "test_compile",
    "test_encoders_of_public_shapes",
    "test_equals_the_plain_loop_beyond_blocks",
    "test_overfits_one_batch",
    "test_the_attention_of_each_experiment_keeps_the_contract",
    "test_the_attention_that_changes_scores_alone_keeps_the_contract",
}


def is_slow(item):
    """Whether a test of this folder is left to the complete run."""
    if item.originalname in SLOW:
        return True
    values = getattr(item, "callspec", None) and item.callspec.params
    if not values or "case" not in values:
        return False
    if "family" in values:
        return values["case"].name != "LLSA-chunk3" or values["pool"] == 1
    parts = item.callspec.id.split("-")
    block = next((name for name in FAST if name in parts), "Conformer")
    return values["case"].name not in FAST[block] or "waveform" in parts or "torch.float32" in parts


@pytest.hookimpl(tryfirst=True)  # before pytest selects by markers
def pytest_collection_modifyitems(config, items):
    """Every attention runs in a Conformer, every block with SA, AA, LLSA in chunks and a summary; options of one attention
    (shared maps, relative positions, edges of a window) need not run in every block."""
    everywhere = {"AA", "SA", "LLSA-chunk3", "Summary-lite-chunk3", "Summary-chunk3"}
    in_two = {"MAA", "LLSA", "LLSA-revisions", "LLSA-chunk2-revisions"}

    def wanted(item):
        parts = getattr(item, "callspec", None) and item.callspec.id
        if not parts:
            return True
        block = next((name for name in ("Transformer", "Conformer", "Branchformer") if name in parts.split("-")), "Conformer")
        name = getattr(item.callspec.params.get("case"), "name", None)
        if item.originalname == "test_compile":  # slow: each attention once, shared maps with all that they can have, each block
            once = everywhere | in_two | {"SA-relative-shared", "LLSA-relative-shared", "Summary"}
            blocks = {"Transformer": once, "Conformer": {"SA", "LLSA-chunk2-revisions", "AA"}, "Branchformer": {"SA"}}
            return name in blocks[block]
        if name is None or name in everywhere or block == "Conformer":
            return True
        return name in in_two and block == "Transformer"

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]
    for item in items:
        if item.path.is_relative_to(HERE) and is_slow(item):
            item.add_marker(pytest.mark.slow)
