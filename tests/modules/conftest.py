"""Leaves out combinations that add time and nothing else."""


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
        if item.originalname == "test_compile":  # slow: each attention once, and shared maps with all that they can have
            shared = {"SA-relative-shared", "LLSA-relative-shared"}
            return block == "Conformer" and name in everywhere | in_two | shared | {"Summary"}
        if name is None or name in everywhere or block == "Conformer":
            return True
        return name in in_two and block == "Transformer"

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]
