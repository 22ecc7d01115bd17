"""What numba compiled of one state of the sources is not used with another."""

import os
import shutil
import time
from pathlib import Path

from inference_service.engine.kernels import cpu_step, jit, team


def sources(tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(Path(jit.__file__).parent, tmp_path / "kernels", ignore=shutil.ignore_patterns("__*__"))
    )


def test_each_state_of_all_the_sources_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    kernels = sources(tmp_path)
    before = jit.compiled_folder(kernels)
    assert before.name == jit.compiled_folder().name, "the same text elsewhere"
    assert before.parent == kernels / "__pycache__"
    # cpu_step.step holds this function's machine code
    (kernels / "cpu_layers.py").write_text((kernels / "cpu_layers.py").read_text() + "\n")
    assert jit.compiled_folder(kernels).name != before.name


def test_a_given_folder_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "given"))
    assert jit.compiled_folder().parent == tmp_path / "given"


def test_the_step_is_kept_there():
    for function in (cpu_step.step, team.wait):
        assert str(jit.compiled_folder()) in function.stats.cache_path


def test_what_was_unused_for_a_month_goes(tmp_path):
    now, old, recent = (tmp_path / f"step-{digit * 16}" for digit in "0af")
    foreign, checkpoint = tmp_path / "other", tmp_path / "step-1000"
    for folder in (now, old, recent, foreign, checkpoint):
        folder.mkdir()
        month_ago = time.time() - 31 * 86400
        os.utime(folder, (month_ago, month_ago) if folder != recent else None)
    jit.sweep(now)
    assert set(tmp_path.iterdir()) == {now, recent, foreign, checkpoint}
