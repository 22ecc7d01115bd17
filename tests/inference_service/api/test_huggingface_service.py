"""The real service on small checkpoints in Hugging Face layout, with their own tokenizers and prompt formats."""

import subprocess
import sys

import httpx
import pytest

from tests.inference_service.model.huggingface.small_models import random_model, save

BODY = {"prompt": "def add(a, b):\n    return ", "max_tokens": 8, "temperature": 0, "logprobs": 1}


@pytest.mark.parametrize(("family", "fills_in"), [("qwen2", True), ("gpt2", False)])
def test_a_checkpoint_is_served(start_process, tmp_path, family, fills_in):
    path = save(random_model(family), family, tmp_path / family)
    flags = ("--port", "0", "--model", str(path), "--device", "cpu", "--threads", "1")
    url = start_process(*flags, program=("-m", "inference_service")).ready()
    assert httpx.get(f"{url}/v1/models", timeout=60).json()["data"][0]["id"] == family
    answer = httpx.post(f"{url}/v1/completions", json=BODY, timeout=60).json()
    assert answer["usage"]["completion_tokens"] > 0

    context = [{"path": "b.py", "text": "B = 1\n"}]
    response = httpx.post(
        f"{url}/v1/completions", json=BODY | {"suffix": "\n", "path": "a.py", "context": context}, timeout=60
    )
    if fills_in:
        assert response.status_code == 200, response.text
        # both files' paths and texts, three sentinels, and one before each file
        assert response.json()["usage"]["prompt_tokens"] > answer["usage"]["prompt_tokens"] + 5
        assert response.json()["usage"]["completion_tokens"] > 0
    else:
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "suffix"
        assert "not trained to fill in" in response.json()["error"]["message"]
    # editors send a suffix with each request
    doctor = subprocess.run(
        [sys.executable, "-m", "lsp_server", "doctor", "--endpoint", url], capture_output=True, text=True, timeout=60
    )
    assert doctor.returncode == 0, doctor.stdout
    assert ("not trained to fill in" in doctor.stdout) != fills_in
