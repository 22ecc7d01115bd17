"""Documents as token ids on disk: `prepare` writes shards, `open_split` maps them into memory."""

from training.shards.dataset import TokenDataset, load_tokenizer, open_split, verify_split
from training.shards.layout import BadShard
from training.shards.prepare import prepare

__all__ = ["BadShard", "TokenDataset", "load_tokenizer", "open_split", "prepare", "verify_split"]
