"""Sources for the tests of collecting: any number of Python files, none like another."""

import io
import json
import random
import string
import subprocess
import tarfile
from collections import Counter
from dataclasses import dataclass, field

from training.corpus.split import split_of

CODE = """def area(width, height):
    return width * height


def perimeter(width, height):
    return 2 * (width + height)
"""


def module(seed, functions=8):
    """A module of random words that no other seed's module resembles."""
    rng = random.Random(seed)

    def word():
        return "".join(rng.choices(string.ascii_lowercase, k=7))

    return "\n\n".join(
        f"def {word()}({word()}, {word()}):\n    {word()} = {word()} + {word()}\n    return {word()}\n"
        for _ in range(functions)
    )


def write_files(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def checkout(folder, files):
    """A git checkout with one commit of `files`."""
    write_files(folder, files)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "-m", "first")
    return folder


def git(folder, *command):
    return subprocess.run(["git", "-C", folder, *command], check=True, capture_output=True, text=True).stdout


def archive(path, licence, files, name="demo"):
    with tarfile.open(path, "w:gz") as tar:
        members = {"PKG-INFO": f"Name: {name}\nVersion: 2\nLicense: {licence}\n", **files}
        for member, text in members.items():
            info = tarfile.TarInfo(f"{name}-2/{member}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def documents(corpus):
    """{(package, path): text} of both splits of a corpus folder."""
    lines = [line for split in ("train", "heldout") for line in (corpus / f"{split}.jsonl").read_text().splitlines()]
    return {(doc["package"], doc["path"]): doc["text"] for doc in map(json.loads, lines)}


def manifest(corpus):
    return json.loads((corpus / "manifest.json").read_text())


@dataclass(frozen=True)
class Listed:
    """A source that notes that it was read."""

    name: str
    files: dict[str, str]
    max_chars: int | None = None
    reads: list[str] = field(default_factory=list, repr=False)
    version: str = "1"
    licence: str = "MIT"
    sha256: str = "0"

    @property
    def split(self):
        return split_of(self.name)

    def read(self, counts: Counter):
        self.reads.append(self.name)
        for path, text in self.files.items():
            yield path, text.encode()

    def parts(self):
        return [self]
