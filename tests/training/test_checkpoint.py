"""Checkpoints: whole or not at all, damage is noticed, and there is one to fall back on."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from inference_service.model.gpt import GPT
from tests.training.toy import MODEL, losses, toy
from training import checkpoint
from training.checkpoint import BadCheckpoint, CheckpointNotWritten, Snapshot, Writer
from training.train import train

SMALL = Snapshot(
    {"model.a": torch.arange(6.0).view(2, 3), "optimizer.0.0.step": torch.tensor(3.0)},
    {"step": 7, "skipped": [4], "tokenizer": "abc"},
)


def same(a: Snapshot, b: Snapshot) -> bool:
    tensors = a.tensors.keys() == b.tensors.keys() and all(torch.equal(a.tensors[n], b.tensors[n]) for n in a.tensors)
    return tensors and a.state == b.state


def at_step(step: int) -> Snapshot:
    return Snapshot(SMALL.tensors, SMALL.state | {"step": step})


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    checkpoint.write(tmp_path / "c.safetensors", SMALL)
    assert same(checkpoint.read(tmp_path / "c.safetensors"), SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


@settings(max_examples=60)
@given(st.data())
def test_no_flipped_bit_and_no_cut_is_taken_for_the_checkpoint(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "c.safetensors"
    checkpoint.write(path, SMALL)
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
        damaged = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    path.write_bytes(damaged)
    try:
        assert same(checkpoint.read(path), SMALL)
    except BadCheckpoint as error:
        assert str(path) in str(error)
        assert "delete it to start again" in str(error)


def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path, capsys):
    path = tmp_path / "c.safetensors"
    checkpoint.write(path, at_step(1))
    checkpoint.write(path, at_step(2))
    assert checkpoint.latest(path).step == 2
    path.write_bytes(path.read_bytes()[:-3])
    assert checkpoint.latest(path).step == 1
    told = capsys.readouterr().err
    assert f"{path} is missing or damaged: falling back on {tmp_path / 'c.previous.safetensors'}, step 1" in told
    checkpoint.write(path, at_step(3))
    assert checkpoint.read(tmp_path / "c.previous.safetensors").step == 1


def test_a_crash_between_the_renames_loses_nothing(tmp_path):
    checkpoint.write(tmp_path / "c.safetensors", at_step(1))
    (tmp_path / "c.safetensors").rename(tmp_path / "c.previous.safetensors")
    assert checkpoint.latest(tmp_path / "c.safetensors").step == 1


def test_no_checkpoint_is_no_error(tmp_path):
    assert checkpoint.latest(tmp_path / "c.safetensors") is None


def test_a_damaged_checkpoint_without_another_is_named_and_kept(data, tmp_path):
    (tmp_path / checkpoint.FILE).write_bytes(b"\0" * 100)
    with pytest.raises(BadCheckpoint, match=r"checkpoint\.safetensors cannot be resumed from .* delete it"):
        train(toy(), data, tmp_path, compiled=False)
    assert (tmp_path / checkpoint.FILE).exists()


def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(data, tmp_path):
    recipe = toy(checkpoint_minutes=0.0)
    train(recipe, data, tmp_path / "whole", threads=1, compiled=False)
    train(recipe, data, tmp_path / "run", threads=1, compiled=False)
    path = tmp_path / "run" / checkpoint.FILE
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    train(recipe, data, tmp_path / "run", threads=1, compiled=False)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    whole, mended = (checkpoint.read(tmp_path / out / checkpoint.FILE) for out in ("whole", "run"))
    assert same(whole, mended)


def test_the_older_layout_without_a_checksum_is_resumed_from(data, tmp_path):
    train(toy(), data, tmp_path / "whole", threads=1, compiled=False)
    train(toy(total_tokens=5 * 256, decay_share=0.0), data, tmp_path / "part", threads=1, compiled=False)
    tensors = checkpoint.read(tmp_path / "part" / checkpoint.FILE).tensors
    (tmp_path / "old").mkdir()
    save_file(tensors, tmp_path / "old" / checkpoint.FILE, metadata={"step": "5"})
    train(toy(), data, tmp_path / "old", threads=1, compiled=False)
    old = checkpoint.read(tmp_path / "old" / checkpoint.FILE)
    assert old.step == 12
    assert all(
        torch.equal(t, old.tensors[n]) for n, t in checkpoint.read(tmp_path / "whole" / checkpoint.FILE).tensors.items()
    )


def test_a_checkpoint_of_another_architecture_says_so_and_is_kept(data, tmp_path):
    checkpoint.write(tmp_path / checkpoint.FILE, checkpoint.take(GPT(MODEL), [], {"step": 1}))
    narrow = replace(toy(), model=replace(MODEL, d_ff=32))
    with pytest.raises(BadCheckpoint, match=r"another model, which differs at blocks\.0\.mlp\.down\.weight; take an"):
        train(narrow, data, tmp_path, compiled=False)
    assert checkpoint.read(tmp_path / checkpoint.FILE).step == 1


def test_a_snapshot_does_not_change_while_training_goes_on():
    model = GPT(MODEL)
    model.init_weights()
    snapshot = checkpoint.take(model, [], {"step": 1})
    model.embedding.weight.data.zero_()
    assert snapshot.tensors["model.embedding.weight"].abs().sum() > 0
    checkpoint.restore(snapshot, model, [])
    assert torch.equal(model.embedding.weight, snapshot.tensors["model.embedding.weight"])


def test_the_writer_has_everything_on_disk_when_waited_for(tmp_path):
    writer = Writer(tmp_path / "c.safetensors")
    for step in range(5):
        writer.save(at_step(step))
    writer.wait()
    assert checkpoint.read(tmp_path / "c.safetensors").step == 4
    assert checkpoint.read(tmp_path / "c.previous.safetensors").step == 3


def test_a_failed_write_stops_the_training_that_waits_for_it(tmp_path):
    (tmp_path / "file").write_text("")
    writer = Writer(tmp_path / "file" / "c.safetensors")
    writer.save(SMALL)
    with pytest.raises(CheckpointNotWritten, match=r"c\.safetensors could not be written at step 7"):
        writer.wait()
