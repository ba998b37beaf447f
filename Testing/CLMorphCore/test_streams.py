"""stdout and stderr that are full, closed or left: one line and the code for it, and nothing that terminals obey."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import ONE_STEP

from CLMorphCore.errors import InputError, counted, printable

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
PROGRAM = "import sys; from CLMorphCore.cli import main; sys.exit(main(sys.argv[1:]))"
VERBS = {
    "segment": "segment {scan} --model {model} --affine none -o {out}",
    "register": "register {scan} {scan} --model {model} --affine none -o {out}",
    "evaluate": "evaluate --model {model} --data {data} --split train -o {out}",
    "build-atlas": "build-atlas --data {data} --rounds 1 -o {out}",
    "train": "train {config} --data {data} -o {out}",
    "demo": "demo --model {model} -o {out}",
    "models": "models",
}


@pytest.fixture
def words(scan, tiny_model, tmp_path):
    """The command line of a verb, whose results go to ``out``."""
    (tmp_path / "config.toml").write_text(ONE_STEP)
    rows = [f"{name},{scan},{scan.with_name('labels.nii.gz')},train" for name in "ab"]
    (tmp_path / "data.csv").write_text("\n".join(["subject,image,labels,split", *rows]))
    places = {"scan": scan, "model": tiny_model, "out": tmp_path / "out"}
    places |= {"data": tmp_path / "data.csv", "config": tmp_path / "config.toml"}
    return lambda verb: [word.format(**places) for word in VERBS[verb].split()]


@needs_full
@pytest.mark.parametrize("kind", ["json", "none"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_full_stdout_is_one_line(verb, kind, words, clmorph, monkeypatch, tmp_path):
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        ran = clmorph(*words(verb), "--progress", kind)
        monkeypatch.undo()
    assert ran.code == 2 and ran.err.count("\n") == 1
    assert "cannot write to standard output: No space left on device" in ran.err
    assert ("are complete" in ran.err) == (tmp_path / "out").exists()
    if kind == "json":  # it is noticed before the work
        assert not (tmp_path / "out").exists()


@needs_full
@pytest.mark.parametrize("arguments", [["models"], ["--version"], ["segment", "--help"]])
def test_a_process_with_a_full_stdout_exits_with_2(arguments):
    with FULL.open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, encoding="utf-8"
        )
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("clmorph: cannot write to standard output: No space left on device; send it")


@needs_full
@pytest.mark.parametrize("arguments, code", [(["models"], 0), (["segment", "none.nii"], 2)])
def test_a_process_with_a_full_stderr_exits_as_ever(arguments, code):
    with FULL.open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments], stderr=full, stdout=subprocess.PIPE, encoding="utf-8"
        )
    assert ran.returncode == code and ("brain" in ran.stdout) == (code == 0)


@needs_full
@pytest.mark.parametrize("verb", ["segment", "build-atlas"])
def test_a_full_stderr_changes_nothing(verb, words, clmorph, monkeypatch, tmp_path):
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        ran = clmorph(*words(verb), "--progress", "bar")
        monkeypatch.undo()
    assert ran.code == 0 and str(tmp_path / "out") in ran.out and (tmp_path / "out" / "labels.nii.gz").exists()


@pytest.mark.parametrize("when", ["before the results", "after them"])
def test_a_reader_that_goes_before_the_results_cancels_the_run(when, words, clmorph, monkeypatch, tmp_path):
    read, write = os.pipe()
    if when == "before the results":
        os.close(read)
    else:
        from CLMorphCore.progress import Reporter

        told = Reporter.__call__

        def leave(self, step, fraction):
            if step == "done":
                os.close(read)
            told(self, step, fraction)

        monkeypatch.setattr(Reporter, "__call__", leave)
    with os.fdopen(write, "w") as left:
        monkeypatch.setattr(sys, "stdout", left)
        ran = clmorph(*words("segment"), "--progress", "json")
        monkeypatch.undo()
    assert ran.code == (130 if when == "before the results" else 0)
    assert (tmp_path / "out").exists() == (when == "after them")


def test_a_cancel_file_that_comes_after_the_results_is_too_late(words, clmorph, monkeypatch, tmp_path):
    from CLMorphCore.progress import Reporter

    told = Reporter.__call__

    def appear(self, step, fraction):
        if step == "done":
            (tmp_path / "cancel").touch()
        told(self, step, fraction)

    monkeypatch.setattr(Reporter, "__call__", appear)
    assert clmorph(*words("segment"), "--cancel-file", tmp_path / "cancel").code == 0


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain ä 漢 ✓", "plain ä 漢 ✓"),
        ("\x1b[2J red \x9b31m", "\\x1b[2J red \\x9b31m"),
        ("a\0b\x7f\x08", "a\\x00b\\x7f\\x08"),
        ("\u202egnp.exe\u2028x\x85", "\\u202egnp.exe\\u2028x\\x85"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\udcfc", "\udcfc"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(given, shown):
    assert printable(given) == shown and printable(shown) == shown
    assert InputError(given, given).problem == shown
    assert InputError(given).text() == " ".join(shown.split())


def test_names_and_headers_cannot_command_a_terminal(clmorph, tiny_model, tmp_path):
    evil = tmp_path / "\x1b]0;owned\x07.nrrd"
    evil.write_bytes(b"NRRD0004\ntype: \x1b[31mshort\nsizes: 4 5 6\ndimension: 3\n\n")
    for kind in ("json", "none"):
        ran = clmorph("segment", evil, "--model", tiny_model, "-o", tmp_path / "out", "--progress", kind)
        assert ran.code == 2 and "\x1b" not in ran.err + ran.out and "\\x1b]0;owned\\x07.nrrd" in ran.err
        assert all("\x1b" not in str(value) for line in ran.out.splitlines() for value in json.loads(line).values())


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps the folders that programs are in")
@pytest.mark.parametrize("verb", VERBS)
def test_a_current_folder_that_is_gone_is_one_line(verb, words, tmp_path):
    (tmp_path / "gone").mkdir()
    code = f"import os; os.chdir({str(tmp_path / 'gone')!r}); os.rmdir({str(tmp_path / 'gone')!r}); {PROGRAM}"
    ran = subprocess.run([sys.executable, "-c", code, *words(verb)], capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1, ran.stderr
    assert ran.stderr.startswith("clmorph: the current folder is not there any more"), ran.stderr


def test_one_of_a_thing_is_singular():
    assert [counted(number, "scan") for number in (0, 1, 2)] == ["0 scans", "1 scan", "2 scans"]
    assert [counted(number, "slice is", "slices are") for number in (1, 2)] == ["1 slice is", "2 slices are"]
