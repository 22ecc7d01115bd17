"""The figures in the pages are those of the newest results, and nothing but a benchmark's file has to change for it."""

from tools.figures.__main__ import DOCS, pages


def test_the_pages_show_the_newest_results():
    stale = [name for name, text in pages().items() if (DOCS / name).read_text() != text]
    assert not stale, "run python -m tools.figures"


def test_every_benchmark_that_was_run_is_on_the_page():
    page = (DOCS / "performance.md").read_text()
    from tools.figures.results import every

    for result in every():
        assert f"results/{result.path.name})" in page
