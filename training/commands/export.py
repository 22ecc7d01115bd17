"""midfill-train export"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.commands.stages import Stages

FORMATS = ("onnx", "torch", "huggingface", "gguf")


def add(stages: Stages) -> None:
    parser = stages.add(
        "export", _run, "write a model for other software, and check it", "nano --format onnx --out nano.onnx"
    )
    parser.add_argument("model", help="model directory, ours or in Hugging Face layout, or name of a bundled model")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        required=True,
        help="onnx: one .onnx file; torch: a torch.export program (.pt2); huggingface: a folder with config.json, "
        "model.safetensors, tokenizer.json; gguf: for llama.cpp, GPT-2's shape only",
    )
    parser.add_argument("--out", type=Path, required=True, help="file or folder to write, which must not exist yet")


def _run(args: argparse.Namespace) -> None:
    from inference_service.model import loading
    from inference_service.model.location import resolve

    loaded = loading.load(resolve(args.model))
    if args.format == "onnx":
        from training.export.onnx_graph import export_onnx as export
    elif args.format == "torch":
        from training.export.program import export_program as export
    elif args.format == "huggingface":
        from training.export.huggingface import export_huggingface as export
    else:
        from training.export.gguf_file import export_gguf as export
    print(f"{args.out}: {export(loaded, args.out)}")
