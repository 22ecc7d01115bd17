"""The learning-rate schedule."""

from __future__ import annotations

from training.recipe import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """Factor on the peak rates at `step`: warm-up, stable, linear decay (WSD, Hu et al. 2024, section 4)."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    left = (config.steps - step) / max(config.decay_share * config.steps, 1)
    return config.final_lr + (1 - config.final_lr) * min(left, 1.0)
