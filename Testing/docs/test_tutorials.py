"""The runner of the tutorials: what a block prints is held against the page, or put into it."""

import pytest
from site_pages.blocks import blocks_of, commands_of
from site_pages.tutorials import PAGES, TutorialError, run_page

PAGE = """# A page

```python
a = 2
```

```python
print(a + 1, "is three")
```
```text
3 is three
```

<!-- not run: it would end everything -->
```sh
exit 3
```

```sh
echo "Dice 0.871"
```
```text
Dice 0.872
```
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    return path


def test_a_page_that_shows_what_is_printed_passes(page):
    run_page(page)
    assert page.read_text(encoding="utf-8") == PAGE


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("3 is three", "4 is three", "page.md:7 prints"),
        ("print(a + 1", "print(b + 1", "NameError"),
        ('echo "Dice 0.871"', "false", "ended with 1"),
    ],
)
def test_a_page_that_shows_something_else_fails(page, right, wrong, said):
    page.write_text(PAGE.replace(right, wrong, 1), encoding="utf-8")
    with pytest.raises(TutorialError, match=said):
        run_page(page)


def test_what_is_printed_is_put_in(page):
    page.write_text(PAGE.replace("3 is three\n", "").replace("Dice 0.872\n", "another\nline\n"), encoding="utf-8")
    run_page(page, update=True)
    assert page.read_text(encoding="utf-8") == PAGE.replace("0.872", "0.871")


def test_blocks_have_their_line_their_language_and_why_they_are_not_run(page):
    found = blocks_of(page)
    assert [block.language for block in found] == ["python", "python", "text", "sh", "sh", "text"]
    assert [block.line for block in found][:2] == [3, 7] and found[3].not_run == "it would end everything"


def test_commands_are_joined_and_without_remarks():
    assert commands_of("# a remark\na b \\\n    c  # and another\n\nd '#e'\n") == ["a b c", "d '#e'"]


def test_there_is_a_tutorial_for_each_way_in_that_can_be_run():
    assert {page.stem for page in PAGES} == {"command-line", "python", "servers"}
