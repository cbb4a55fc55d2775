"""A checkpoint is whole or not there."""

import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer

from recipes.LibriSpeech.training.checkpoint import AtomicCheckpointer


def test_a_save_that_stops_half_way_leaves_no_checkpoint(tmp_path):
    modules = {name: torch.nn.Linear(1, 1) for name in ("first", "second")}
    checkpointer = AtomicCheckpointer(tmp_path, modules)
    whole = checkpointer.save_checkpoint(meta={"WER": 3.0})
    value = modules["first"].weight.item()

    def full_disk(module, path):
        assert (path.parent / "first.ckpt").exists()  # half of it is written
        raise OSError("the disk is full")

    checkpointer.custom_save_hooks["second"] = full_disk
    modules["first"].weight.data += 1
    with pytest.raises(OSError, match="full"):
        checkpointer.save_checkpoint()
    assert checkpointer.list_checkpoints() == Checkpointer(tmp_path).list_checkpoints() == [whole]
    again = AtomicCheckpointer(tmp_path, modules)
    assert [path.name for path in tmp_path.iterdir()] == [whole.path.name]
    assert again.recover_if_possible(min_key="WER").meta["WER"] == 3.0 and modules["first"].weight.item() == value
    later = again.save_checkpoint(name="mine")
    assert later.path.name == "CKPT+mine" and set(again.list_checkpoints()) == {whole, later}


def test_many_checkpoints_in_a_second_are_all_there(tmp_path):
    checkpointer = AtomicCheckpointer(tmp_path, {"module": torch.nn.Linear(1, 1)})
    saved = [checkpointer.save_checkpoint() for _ in range(20)]
    assert {checkpoint.path for checkpoint in checkpointer.list_checkpoints()} == {checkpoint.path for checkpoint in saved}
    assert len(set(tmp_path.iterdir())) == 20
    assert all(path.is_file() for path in saved[0].paramfiles.values())
    checkpointer.save_and_keep_only(num_to_keep=1)
    assert len(list(tmp_path.iterdir())) == 1


def test_each_save_takes_as_long_as_the_first(tmp_path, monkeypatch):
    """SpeechBrain's would look through all checkpoints twice more than at the save before."""
    checkpointer, looks, count = AtomicCheckpointer(tmp_path, {"module": torch.nn.Linear(1, 1)}), [], []
    monkeypatch.setattr(checkpointer, "list_checkpoints", lambda look=checkpointer.list_checkpoints: looks.append(0) or look())
    for _ in range(3):
        looks.clear()
        checkpointer.save_and_keep_only(num_to_keep=1)
        count.append(len(looks))
    assert count[0] == count[1] == count[2] > 0
    assert len(list(tmp_path.iterdir())) == 1
