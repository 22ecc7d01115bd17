"""Training rows: the format of serving, the same for any number of processes, nothing lost on the way."""

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.model.tokenizer import (
    END_OF_TEXT,
    FILE_SEP,
    FIM_MIDDLE,
    FIM_PREFIX,
    FIM_SUFFIX,
    SENTINELS,
    SPLIT_PATTERN,
    Scheme,
    Tokenizer,
)
from training.fim import FimConfig, RowSampler
from training.middles import characters, rest_of_line, syntax_node, whole_lines
from training.neighbours import find_imports, imported_names
from training.shards import open_split, prepare

numbers = st.integers(0, 10**9)
shares = st.sampled_from([0.0, 0.3, 1.0])


@pytest.fixture(scope="module")
def dataset(data, tokenizer):
    return open_split(data, "train", tokenizer)


@pytest.fixture(scope="module")
def files(dataset, tokenizer):
    return [spelled(tokenizer, dataset.document(n).tolist()) for n in range(len(dataset))]


def sampler(dataset, tokenizer, length=257, seed=0, **config):
    return RowSampler(dataset, tokenizer, length, FimConfig(**config), seed)


def spelled(tokenizer, tokens) -> bytes:
    return b"".join(tokenizer.token_bytes(token) for token in tokens)


def readable(tokenizer, tokens) -> str:
    names = {tokenizer.sentinel(name): name.encode() for name in SENTINELS}
    pieces = [names.get(token) or tokenizer.token_bytes(token) for token in tokens]
    return b"".join(pieces).decode("utf-8", "replace")


def split_at(tokens, *sentinels):
    """`tokens` cut before each of `sentinels`, which come once each and in this order."""
    parts, begin = [], 0
    for sentinel in sentinels:
        parts.append(tokens[begin : tokens.index(sentinel)])
        begin = tokens.index(sentinel) + 1
    return [*parts, tokens[begin:]]


def samples(row, end):
    """The complete samples of a row, without their last token."""
    while end in row:
        yield row[: row.index(end)]
        row = row[row.index(end) + 1 :]


@settings(max_examples=40)
@given(number=numbers, length=st.integers(65, 600), fim=shares, psm=shares, syntax=shares, path=shares, context=shares)
def test_rows_have_the_asked_length_and_sentinels_where_they_belong(
    dataset, tokenizer, number, length, fim, psm, syntax, path, context
):
    config = {"fim_rate": fim, "psm_share": psm, "path_share": path, "context_share": context}
    lines = {"line_end_share": 0.0, "whole_line_share": 0.0, "syntax_share": syntax}
    row = sampler(dataset, tokenizer, length, **config, **lines).row(number)
    assert len(row) == length
    assert all(0 <= token < tokenizer.vocab_size for token in row)
    letters = {FIM_PREFIX: "P", FIM_SUFFIX: "S", FIM_MIDDLE: "M", END_OF_TEXT: "E", FILE_SEP: "F"}
    names = {tokenizer.sentinel(name): letter for name, letter in letters.items()}
    order = "".join(names[token] for token in row if tokenizer.is_sentinel(token))
    assert re.fullmatch("(F|E|PSME)*(P|PS|PSM)?", order)
    assert path or "F" not in order
    assert fim or "P" not in order


def test_a_row_depends_on_seed_and_number_alone(dataset, tokenizer):
    first, again = sampler(dataset, tokenizer), sampler(dataset, tokenizer)
    rows = [first.row(n) for n in range(5)]
    assert [again.row(n) for n in reversed(range(5))] == rows[::-1]
    assert sampler(dataset, tokenizer, seed=1).row(0) != rows[0]


def test_rows_do_not_depend_on_how_the_data_was_cut(dataset, corpus, tokenizer, tmp_path):
    prepare(corpus, "train", tokenizer, tmp_path, shard_bytes=20_000)
    cut = open_split(tmp_path, "train", tokenizer)
    assert [sampler(cut, tokenizer).row(n) for n in range(5)] == [sampler(dataset, tokenizer).row(n) for n in range(5)]


@settings(max_examples=40)
@given(number=numbers, length=st.integers(200, 800), psm=shares, syntax=shares)
def test_prefix_middle_and_suffix_of_a_sample_are_a_piece_of_a_file(
    dataset, tokenizer, files, number, length, psm, syntax
):
    config = {"line_end_share": (1 - syntax) / 2, "whole_line_share": 0.0, "syntax_share": syntax, "psm_share": psm}
    rows = sampler(dataset, tokenizer, length, fim_rate=1.0, context_share=0.0, path_share=0.0, **config)
    places = [tokenizer.sentinel(name) for name in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)]
    found = [split_at(sample, *places) for sample in samples(rows.row(number), tokenizer.sentinel(END_OF_TEXT))]
    assert found
    for before, prefix, suffix, middle in found:
        piece = spelled(tokenizer, [*prefix, *middle, *suffix])
        assert before == []
        assert any(piece in file for file in files)
        assert psm or prefix == [], "in the format of serving the prefix stands before the middle"


def test_middles_of_both_orders_end_where_their_kind_ends(dataset, tokenizer):
    for psm in (0.0, 1.0):
        lines = {"line_end_share": 0.5, "whole_line_share": 0.5, "syntax_share": 0.0}
        rows = sampler(dataset, tokenizer, 400, fim_rate=1.0, context_share=0.0, psm_share=psm, **lines)
        places = [tokenizer.sentinel(name) for name in (FIM_SUFFIX, FIM_MIDDLE)]
        for number in range(30):
            for sample in samples(rows.row(number), tokenizer.sentinel(END_OF_TEXT)):
                _, suffix, _ = split_at(sample, *places)
                assert spelled(tokenizer, suffix)[:1] in (b"\n", b"")


def test_another_family_of_models_is_trained_in_its_own_order(corpus, tmp_path):
    names = (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE, END_OF_TEXT, "<filename>")
    scheme = Scheme({name: 256 + n for n, name in enumerate(names)}, "starcoder", pattern=SPLIT_PATTERN)
    starcoder = Tokenizer({bytes([byte]): byte for byte in range(256)}, scheme)
    prepare(corpus, "train", starcoder, tmp_path)
    dataset = open_split(tmp_path, "train", starcoder)
    texts = [spelled(starcoder, dataset.document(n).tolist()) for n in range(len(dataset))]
    rows = sampler(dataset, starcoder, 600, fim_rate=1.0, path_share=0.0)
    places = [starcoder.sentinel(name) for name in names[:3]]
    end = starcoder.sentinel(END_OF_TEXT)
    parts = [split_at(sample, *places) for number in range(5) for sample in samples(rows.row(number), end)]
    assert any(prefix and middle for _, prefix, _, middle in parts)
    for _, prefix, suffix, middle in parts:
        assert any(spelled(starcoder, [*prefix, *middle, *suffix]) in text for text in texts)


def test_a_family_that_cannot_fill_in_is_told_apart(corpus, tmp_path):
    plain = Tokenizer({bytes([b]): b for b in range(256)}, Scheme({END_OF_TEXT: 256}, "plain", pattern=SPLIT_PATTERN))
    prepare(corpus, "train", plain, tmp_path)
    dataset = open_split(tmp_path, "train", plain)
    with pytest.raises(ValueError, match=r"set fim_rate = 0 in the recipe's \[fim\]"):
        sampler(dataset, plain)
    assert len(sampler(dataset, plain, fim_rate=0.0).row(0)) == 257


def test_the_path_stands_before_its_file(dataset, tokenizer, files):
    rows = sampler(dataset, tokenizer, 300, fim_rate=0.0, path_share=1.0, context_share=0.0)
    paths = {dataset.path(n): files[n] for n in range(len(dataset))}
    for number in range(20):
        path, _, text = readable(tokenizer, rows.row(number)).removeprefix("<file_sep>").partition("\n")
        assert text.split("<")[0].encode() in paths[path]


def test_a_sample_sees_the_definition_that_its_file_imports(tokenizer, tmp_path):
    circle = "class Circle:\n    radius: float\n\n    def area(self):\n        return 3.14 * self.radius**2\n"
    shapes = "'''Shapes of all kinds.'''\n\n\n" + "".join(f"SIZE_{n} = {n}\n" for n in range(2000)) + circle
    user = "from .shapes import Circle\n\n" + "".join(f"print(Circle().area(), {n})\n" for n in range(400))
    texts = {f"pkg/other{n}.py": "nothing = None\n" * 30 for n in range(5)} | {"pkg/shapes.py": shapes}
    documents = [{"package": "pkg", "path": path, "text": text} for path, text in texts.items()]
    documents += [{"package": "pkg", "path": "pkg/user.py", "text": user}]
    documents += [{"package": "stranger", "path": "pkg/shapes.py", "text": "class Circle: ...\n" * 30}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    prepare(tmp_path, "train", tokenizer, tmp_path)
    rows = sampler(
        open_split(tmp_path, "train", tokenizer), tokenizer, 600, fim_rate=0.0, path_share=1.0, context_share=1.0
    )
    written = [readable(tokenizer, rows.row(number)) for number in range(40)]
    of_user = [text for text in written if re.match("<file_sep>[^<]*<file_sep>pkg/user.py\n", text)]
    assert len(of_user) >= 3
    assert all(text.startswith("<file_sep>pkg/shapes.py\nclass Circle:\n    radius") for text in of_user)


def test_a_file_without_neighbours_has_no_context(tokenizer, tmp_path):
    documents = [{"package": f"p{n}", "path": f"p{n}.py", "text": "alone = True\n" * 400} for n in range(3)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    prepare(tmp_path, "train", tokenizer, tmp_path)
    dataset = open_split(tmp_path, "train", tokenizer)
    rows = sampler(dataset, tokenizer, 300, fim_rate=0.0, path_share=1.0, context_share=1.0)
    assert readable(tokenizer, rows.row(0)).count("<file_sep>") == 1


@pytest.mark.parametrize(
    ("importing", "statement", "path", "names"),
    [
        ("pkg/a.py", "from pkg.b import C, d as e", "pkg/b.py", {"C", "d"}),
        ("pkg/a.py", "from pkg.b import (\n    C,\n    D,\n)", "src/pkg/b.py", {"C", "D"}),
        ("pkg/a.py", "from .b import C", "pkg/b.py", {"C"}),
        ("pkg/sub/a.py", "from ..b import C", "pkg/b.py", {"C"}),
        ("pkg/a.py", "from . import b", "pkg/b.py", set()),
        ("pkg/a.py", "import pkg.b as x", "pkg/b.py", set()),
        ("a.py", "from b import C", "b.py", {"C"}),
        ("pkg/__init__.py", "from .b import C", "pkg/b.py", {"C"}),
        ("pkg/a.py", "from pkg import b", "pkg/__init__.py", {"b"}),
        ("pkg/a.py", "import json", "pkg/json.py", None),
        ("pkg/a.py", "from .b import C", "pkg/sub/b.py", None),
        ("pkg/a.py", "from ....b import C", "pkg/b.py", None),
    ],
)
def test_imports_are_found_by_the_rules_of_python(importing, statement, path, names):
    assert imported_names(find_imports(importing, f'"""Text."""\n{statement}\nx = 1\n'), path) == names


kinds = st.sampled_from([characters, rest_of_line, whole_lines, syntax_node])


@settings(max_examples=200)
@given(kind=kinds, seed=numbers, text=st.text(st.sampled_from("ab:=(),\n\n    \t\r\f\\\"'#é\0")) | st.text())
def test_a_middle_is_a_part_of_any_text(kind, seed, text):
    start, end = kind(random.Random(seed), text)
    assert 0 <= start <= end <= len(text)


@given(seed=numbers)
def test_line_middles_end_with_a_line_and_whole_ones_begin_behind_the_indentation(seed, files):
    text = files[0].decode()
    for kind in (rest_of_line, whole_lines):
        start, end = kind(random.Random(seed), text)
        assert text[end : end + 1] in ("\n", "")
    line_begin = text.rfind("\n", 0, start) + 1
    assert text[line_begin:start].strip() == ""
    assert text[start:end].strip()


def test_syntax_middles_are_expressions_statements_and_bodies():
    text = "    def total(self, items):\n        if items:\n            return add(self.first, *items)\n"
    found = {text[slice(*syntax_node(random.Random(seed), text))] for seed in range(300)}
    assert found == {
        text[4:-1],
        "if items:\n            return add(self.first, *items)",
        "return add(self.first, *items)",
        "add(self.first, *items)",
        "self.first",
        "*items",
    }


def test_what_does_not_parse_is_cut_at_its_indented_block():
    text = "else if x {\n    first(\n    y = 2 2\n}\nlast = = 1\n"
    found = {text[slice(*syntax_node(random.Random(seed), text))] for seed in range(100)}
    assert found == {"else if x {\n    first(\n    y = 2 2\n}", "first(", "y = 2 2", "}", "last = = 1"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"fim_rate": 1.5}, "fim_rate must be from 0 to 1, not 1.5"),
        ({"psm_share": -0.1}, "psm_share must be from 0 to 1"),
        ({"context_share": float("nan")}, "context_share must be from 0 to 1"),
        ({"line_end_share": 0.6, "syntax_share": 0.5}, "must not exceed 1 together"),
    ],
)
def test_shares_that_are_none_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        FimConfig(**config)
