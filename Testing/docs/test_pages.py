"""README and site: links lead somewhere, tables are as generated, nothing is left out, pictures can be made again."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from site_pages import commands, models, schema, settings
from site_pages.copies import COPIES
from site_pages.places import DOCS, GENERATED, README, ROOT, pages
from site_pages.readme import filled, filled_pages
from site_pages.tutorials import alike
from site_pages.way import WAY, way_svg

import CLMorphCore
from CLMorphCore.bundles.config import Config
from CLMorphCore.networks import NETWORKS

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"[^>]*alt=\"([^\"]*)\"")
MADE_AT_BUILD = {"commands", "settings", "report-schema", "models", "benchmarks"}
TRAINING = [path for path in COPIES if path.is_relative_to(ROOT / "Training")]


def _text(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("page", [*pages(), *TRAINING], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    for match in LINK.finditer(_text(page)):
        link = match[1] or match[2]
        if "://" in link:
            assert link.startswith("https://"), link
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if target.is_relative_to(GENERATED):
            known = {GENERATED / f"{name}.md" for name in MADE_AT_BUILD} | set(COPIES.values())
            assert target in known, link
            target = next((source for source, copy in COPIES.items() if copy == target), target)
        else:
            assert target.exists(), f"{page.name}: {link}"
        if heading and target.suffix == ".md" and target.exists():
            assert heading in _anchors(target), f"{page.name}: {link}"


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", _text(page), re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", head).lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", filled_pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_tables_and_figures_are_as_they_are_generated(page):
    """python docs/make.py readme puts them in."""
    text = page.read_text(encoding="utf-8")
    assert filled(text, page) == text


def test_the_readme_is_short_and_has_every_model():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert models.accuracy_table() in text


def test_every_picture_has_its_command_and_is_described():
    listed = (DOCS / "pictures.md").read_text(encoding="utf-8")
    makers = re.findall(r"^\| `([^`]+)` \| `([^`]+)`", listed, re.M)
    for page in pages():
        for description, link, image, alt in PICTURE.findall(_text(page)):
            assert description or alt, f"{page.name}: {link or image} has no description"
            path = (page.parent / (link or image)).resolve()
            assert path.is_file()
            assert any(path.match(pattern) for pattern, _ in makers), f"{path.name} has no command"
    for pattern, command in makers:
        assert list(ROOT.glob(pattern)), pattern
        program = command.split()[2] if command.split()[1] == "-m" else command.split()[1]
        there = ROOT / program.replace(".", "/") if "-m" in command.split() else ROOT / program
        assert there.exists(), command


def test_every_page_is_in_the_sites_contents():
    contents = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {line.strip().rpartition("<")[2].rstrip(">") for line in contents.splitlines()}
    there = {page.relative_to(DOCS).with_suffix("").as_posix() for page in pages() if page.is_relative_to(DOCS)}
    copied = {path.relative_to(DOCS).with_suffix("").as_posix() for path in COPIES.values()}
    made = {f"generated/{name}" for name in MADE_AT_BUILD}
    assert (there | copied | made) - {"index"} <= listed


def test_every_option_of_every_verb_is_on_the_page_of_commands():
    page = commands.commands_page()
    for name, verb in commands.verbs(commands.cli.build_parser()).items():
        section = page.partition(f"## clmorph {name}\n")[2].partition("\n## ")[0]
        common = page.partition("## Options of every command")[2]
        for action in verb._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert option in section or option in common
    assert not re.search(r"%\(\w+\)", page)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_setting_of_a_network_says_what_it_is(name):
    assert all(each.meaning for each in settings.settings_of(NETWORKS[name].settings, "network"))


@pytest.mark.parametrize("section", [each.name for each in fields(Config) if each.name != "network"])
def test_every_setting_of_a_training_says_what_it_is(section):
    kind = type(getattr(Config(), section))
    found = list(settings.settings_of(kind, section))
    assert len(found) == len(fields(kind)) and all(each.meaning for each in found)


def test_defaults_stand_as_a_file_has_them():
    crop = next(each for each in settings.settings_of(type(Config().augment), "augment") if each.name.endswith("crop"))
    assert crop.default == str(list(Config().augment.crop[::-1]))
    assert "above 0" in crop.kind


def test_the_schema_has_every_field_of_every_entry():
    page = schema.schema_page()
    for kind in (CLMorphCore.Report, *(value for value in vars(schema.report).values() if is_dataclass(value))):
        section = page.partition(f"## {kind.__name__}\n")[2].partition("\n## ")[0]
        assert all(f"| `{each.name}` |" in section for each in fields(kind))


def test_the_reference_names_everything_that_is_public():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r":: CLMorphCore\.(\w+)", text))
    assert listed == set(CLMorphCore.__all__) - {"__version__"}


def test_the_picture_of_the_way_is_of_modules_that_are_there():
    assert all((ROOT / "CLMorphCore" / stop.module).is_file() for stop in WAY)
    assert (DOCS / "pictures" / "way.svg").read_text(encoding="utf-8") == way_svg()


def test_small_differences_of_numbers_are_alike_and_others_are_not():
    assert alike("Dice 0.897 of 2\n", "Dice 0.903 of 2  \n")
    assert not alike("Dice 0.897 of 2", "Dice 0.80 of 2")
    assert not alike("verdict: pass", "verdict: review")
    assert not alike("two words", "two")


def test_versions_are_the_same_everywhere():
    version = CLMorphCore.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
