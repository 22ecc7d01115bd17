"""GPT-2 of 124 million random weights, and who else can run it: the same weights for everybody, greedy, two threads.

Each contestant returns seconds: `prefill` from a prompt that was never seen to its first token, `decode` for so many
tokens after the first, `streams` for so many tokens of each prompt, prompts of one length, all together.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference_service.engine import engine as engine_module
from inference_service.engine.block_manager import common_prefix
from inference_service.engine.engine import Engine
from inference_service.engine.request import Chunk, CompletionRequest
from inference_service.engine.runner import Runner
from inference_service.model import loading
from inference_service.model.directory import LoadedModel
from inference_service.model.tokenizer import Tokenizer

Ids = list[int]


def write_gpt2(path: Path, vocab_size: int = 50257, **shape: int) -> None:
    """GPT-2's shape as transformers writes it, or another one, with a tokenizer trained on installed Python files."""
    import tokenizers
    import transformers

    if (path / "model.safetensors").exists():
        return
    path.mkdir(parents=True, exist_ok=True)
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    sources = sorted(Path(transformers.__file__).parent.rglob("*.py"))[:1500]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=byte_level.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator((source.read_text(encoding="utf-8") for source in sources), trainer)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=vocab_size, bos_token_id=0, eos_token_id=0, **shape)
    )
    model.save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))


class Ours:
    """The engine; without speculation where what random weights repeat would make it win too much."""

    name = "midfill"

    def __init__(self, loaded: LoadedModel, threads: int, speculation: bool) -> None:
        if not speculation:
            engine_module.SPECULATING_SEQUENCES = 0
        self._tokenizer = loaded.tokenizer
        self._runner = Runner(loaded, "cpu", threads)
        self._engine = Engine(self._runner, loaded.tokenizer)
        if not self._runner.tuned.wait(600):
            raise TimeoutError("the choice of kernels took more than ten minutes")
        self.kernel = self._runner.kernel

    def run(self, requests: list[CompletionRequest]) -> list[Chunk]:
        """The last chunks of requests that are submitted together."""
        import queue

        finished: queue.SimpleQueue[Chunk] = queue.SimpleQueue()

        def emit(chunk: Chunk) -> None:
            if chunk.finish_reason is not None:
                finished.put(chunk)

        for request in requests:
            self._engine.submit(request, emit)
        return [finished.get() for _ in requests]

    def _request(self, prompt: Ids, count: int) -> CompletionRequest:
        return CompletionRequest(self._tokenizer.decode(prompt), max_tokens=count)

    def prefill(self, prompt: Ids) -> float:
        started = time.perf_counter()
        self.run([self._request(prompt, 1)])
        return time.perf_counter() - started

    def decode(self, prompt: Ids, count: int) -> float:
        [last] = self.run([self._request(prompt, count + 1)])
        assert last.stats is not None
        return last.stats.decode_ms / 1e3 * count / (last.stats.completion_tokens - 1)

    def streams(self, prompts: list[Ids], count: int) -> float:
        started = time.perf_counter()
        chunks = self.run([self._request(prompt, count) for prompt in prompts])
        seconds = time.perf_counter() - started
        done = sum(chunk.stats.completion_tokens for chunk in chunks if chunk.stats)
        return seconds * count * len(prompts) / done

    def close(self) -> None:
        self._engine.stop()


class LlamaCpp:
    """llama.cpp's library with Q8_0 weights, called as its server calls it but without HTTP.

    A prompt keeps the longest prefix that it shares with the last one in the cache, as a slot of the server does.
    """

    name = "llama.cpp Q8_0"

    def __init__(self, gguf: Path, threads: int, streams: int) -> None:
        import llama_cpp

        self._c = c = llama_cpp
        self._silence = c.llama_log_callback(lambda level, text, data: None)  # hundreds of lines; lives with us
        c.llama_log_set(self._silence, None)
        quantized = gguf.with_suffix(".q8_0.gguf")
        if not quantized.exists():
            parameters = c.llama_model_quantize_default_params()
            parameters.ftype = c.LLAMA_FTYPE_MOSTLY_Q8_0
            if c.llama_model_quantize(str(gguf).encode(), str(quantized).encode(), ctypes.byref(parameters)):
                raise RuntimeError("llama.cpp could not quantize the model")
        self._model = c.llama_model_load_from_file(str(quantized).encode(), c.llama_model_default_params())
        parameters = c.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = 1024 * 8, 2048, 512
        parameters.n_seq_max, parameters.kv_unified = streams, True
        parameters.n_threads = parameters.n_threads_batch = threads
        self._context = c.llama_init_from_model(self._model, parameters)
        self._vocabulary = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self._model))
        self._batch = c.llama_batch_init(2048, 0, 1)
        self._held: Ids = []
        self.kernel = c.llama_print_system_info().decode()

    def _compute(self, items: list[tuple[int, int, int, bool]]) -> Ids:
        """Compute (token, position, sequence, wanted); the most probable tokens after the wanted ones."""
        batch = self._batch
        batch.n_tokens = len(items)
        for i, (token, position, sequence, wanted) in enumerate(items):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wanted
        if self._c.llama_decode(self._context, batch):
            raise RuntimeError("llama.cpp could not compute a batch")
        return [
            int(np.ctypeslib.as_array(self._c.llama_get_logits_ith(self._context, i), (self._vocabulary,)).argmax())
            for i, item in enumerate(items)
            if item[3]
        ]

    def _forget(self, start: int = 0, sequence: int = -1) -> None:
        self._c.llama_memory_seq_rm(self._c.llama_get_memory(self._context), sequence, start, -1)
        self._held = self._held[:start]

    def answer(self, prompt: Ids, count: int) -> Ids:
        """The next tokens, for a replay."""
        kept = min(common_prefix(self._held, prompt), len(prompt) - 1)
        self._forget(kept, 0)
        last = len(prompt) - 1
        out = self._compute([(prompt[i], i, 0, i == last) for i in range(kept, len(prompt))])
        for i in range(count - 1):
            out += self._compute([(out[-1], len(prompt) + i, 0, True)])
        self._held = prompt + out[:-1]
        return out

    def prefill(self, prompt: Ids) -> float:
        self._forget()
        started = time.perf_counter()
        self.answer(prompt, 1)
        return time.perf_counter() - started

    def decode(self, prompt: Ids, count: int) -> float:
        self._forget()
        token = self.answer(prompt, 1)
        started = time.perf_counter()
        for i in range(count):
            token = self._compute([(token[0], len(prompt) + i, 0, True)])
        seconds = time.perf_counter() - started
        self._forget()
        return seconds

    def streams(self, prompts: list[Ids], count: int) -> float:
        self._forget()
        started = time.perf_counter()
        length, tokens = len(prompts[0]), []
        at_once = 2048 // length
        for first in range(0, len(prompts), at_once):
            some = prompts[first : first + at_once]
            tokens += self._compute(
                [(ids[i], i, first + s, i == length - 1) for s, ids in enumerate(some) for i in range(length)]
            )
        for n in range(count - 1):
            tokens = self._compute([(token, length + n, s, True) for s, token in enumerate(tokens)])
        seconds = time.perf_counter() - started
        self._forget()
        return seconds


class CTranslate2:
    """CTranslate2 with int8 weights and activations."""

    name = "CTranslate2 int8"

    def __init__(self, model: Path, threads: int) -> None:
        import ctranslate2

        converted = model.with_name(model.name + "-ct2")
        if not converted.exists():
            ctranslate2.converters.TransformersConverter(str(model)).convert(str(converted), quantization="int8")
        self._generator = ctranslate2.Generator(str(converted), device="cpu", intra_threads=threads, inter_threads=1)
        self._pieces = json.loads((converted / "vocabulary.json").read_text(encoding="utf-8"))
        self.kernel = self._generator.compute_type

    def _seconds(self, prompts: list[Ids], count: int) -> float:
        pieces = [[self._pieces[token] for token in prompt] for prompt in prompts]
        started = time.perf_counter()
        self._generator.generate_batch(
            pieces, max_length=count, min_length=count, sampling_topk=1, include_prompt_in_result=False
        )
        return time.perf_counter() - started

    def prefill(self, prompt: Ids) -> float:
        return self._seconds([prompt], 1)

    def decode(self, prompt: Ids, count: int) -> float:
        return self._seconds([prompt], count + 1) - self._seconds([prompt], 1)

    def streams(self, prompts: list[Ids], count: int) -> float:
        return self._seconds(prompts, count)


class Transformers:
    """transformers in float32."""

    name = "transformers float32"

    def __init__(self, model: Path) -> None:
        import transformers

        self._model = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
        self.kernel = "float32"

    @torch.inference_mode()
    def _seconds(self, prompts: list[Ids], count: int) -> float:
        ids = torch.tensor(prompts)
        started = time.perf_counter()
        self._model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False,
            pad_token_id=0,
        )  # fmt: skip
        return time.perf_counter() - started

    def prefill(self, prompt: Ids) -> float:
        return self._seconds([prompt], 1)

    def decode(self, prompt: Ids, count: int) -> float:
        return self._seconds([prompt], count + 1) - self._seconds([prompt], 1)

    def streams(self, prompts: list[Ids], count: int) -> float:
        return self._seconds(prompts, count)


def present(
    work: Path, threads: int, streams: int, without: Sequence[str] = (), speculation: bool = False
) -> tuple[LoadedModel, dict[str, Any]]:
    """The model, and by name each contestant or, as text, why it is not there."""
    model = work / "gpt2"
    write_gpt2(model)
    loaded = loading.load(model)
    gguf = work / "gpt2.gguf"
    if not gguf.exists():
        from training.export.gguf_file import export_gguf

        export_gguf(loaded, gguf)
    torch.set_num_threads(threads)
    makers = {
        Ours.name: lambda: Ours(loaded, threads, speculation),
        LlamaCpp.name: lambda: LlamaCpp(gguf, threads, streams),
        CTranslate2.name: lambda: CTranslate2(model, threads),
        Transformers.name: lambda: Transformers(model),
    }
    found: dict[str, Any] = {}
    for name, make in makers.items():
        if name in without:
            found[name] = "left out"
            continue
        try:
            found[name] = make()
        except ImportError as error:
            found[name] = f"not installed ({error.name})"
    return loaded, found


def code(tokenizer: Tokenizer) -> Iterator[Ids]:
    """Endless token ids of Python code, another piece at each call."""
    sources = sorted(Path(torch.__file__).parent.rglob("*.py"))
    for source in sources:
        with contextlib.suppress(UnicodeDecodeError):
            yield tokenizer.encode(source.read_text(encoding="utf-8"))
