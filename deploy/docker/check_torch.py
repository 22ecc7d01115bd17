"""Fail where the PyTorch of this environment is not the build for the device that is named: cpu or cuda.

PyPI's wheel for Linux on x86 is the one for CUDA, whose libraries a CPU has no use for; they are gigabytes.
"""

from __future__ import annotations

import sys

import torch

device = sys.argv[1]
built_for = "cpu" if torch.version.cuda is None else "cuda"
if device != built_for:
    sys.exit(
        f"this PyTorch is the build for {built_for}, and the image is for {device}: let pip find the other build by a "
        f"pip.conf (--secret id=pip,src=pip.conf; docs/docker.md), or build with --build-arg DEVICE={built_for}"
    )
