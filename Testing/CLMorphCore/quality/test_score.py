"""A fit predicts Dice from evidence, never praises worse evidence, marks odd cases, and comes back from its file."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CLMorphCore.errors import InputError
from CLMorphCore.quality.evidence import CHECKS, FEATURES, Evidence
from CLMorphCore.quality.score import FORMER_NAMES, fit, read_quality, write_quality

VALUES = (4, 17, 1035)


def made_up(seed, count=40):
    """Cases whose logit of Dice is a structure's own level plus 0.5 times the first feature, and noise."""
    random = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        features = random.normal(0.0, 1.0, (3, len(FEATURES)))
        logit = np.array([2.0, 1.0, -0.5]) + 0.5 * features[:, 0] + random.normal(0, 0.05, 3)
        cases.append((Evidence(VALUES, features, random.normal(0.5, 0.1, len(CHECKS))), 1 / (1 + np.exp(-logit))))
    return cases


@pytest.fixture(scope="module")
def quality():
    return fit("average", made_up(0))


def test_expected_dice_follows_the_true_one(quality):
    expected, true = [], []
    for found, dice in made_up(1):
        expected += quality.expected_dice(found).values()
        true += dice.tolist()
    assert np.corrcoef(expected, true)[0, 1] > 0.95
    assert np.abs(np.subtract(expected, true)).mean() < 0.06


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.1, 3.0))
def test_worse_evidence_is_never_praised(seed, step):
    random = np.random.default_rng(seed)
    cases = [(found, random.uniform(0.2, 0.95, 3)) for found, _ in made_up(seed, 12)]
    quality, found = fit("average", cases), cases[0][0]
    worse = replace(found, structures=found.structures - step, case=found.case - step)
    assert all(quality.expected_dice(worse)[v] <= quality.expected_dice(found)[v] for v in VALUES)
    assert quality.outlier_score(worse) >= quality.outlier_score(found)


def test_one_in_twenty_good_cases_and_every_bad_one_is_odd(quality):
    odd = [quality.outlier_score(found) > 1 for found, _ in made_up(2, 400)]
    assert np.mean(odd) < 0.15
    bad = made_up(3, 20)
    place = CHECKS.index("overlap")
    for found, _ in bad:
        found.case[place] = -1.0
        assert quality.outlier_score(found) > 1 and quality.most_unusual(found) == "overlap"


def test_the_limit_leaves_room_for_other_scanners_but_spoilt_cases_beyond_it():
    cases, far, near = made_up(6), [c for c, _ in made_up(7, 40)], [c for c, _ in made_up(8, 40)]
    for one in far:
        one.case[0] -= 3.0
    for one in near:
        one.case[0] -= 0.75
    strict = fit("average", cases)
    assert fit("average", cases, far).limit == pytest.approx(2 * strict.limit)
    between = fit("average", cases, near)
    assert strict.limit < between.limit < 2 * strict.limit
    assert np.mean([between.outlier_score(one) > 1 for one in near]) >= 0.95
    assert fit("average", cases, [found for found, _ in cases]).limit == strict.limit  # no better than good ones


def test_missing_structures_and_cases_without_labels_are_no_obstacle():
    cases = made_up(4)
    for _, dice in cases:
        dice[2] = np.nan
    quality = fit("average", [*cases, (cases[0][0], None)])
    assert set(quality.expected_dice(cases[0][0])) == {4, 17}


def test_a_written_fit_reads_the_same(quality, tmp_path):
    write_quality(tmp_path / "quality.toml", quality)
    read, (found, _) = read_quality(tmp_path), made_up(5)[0]
    assert read.atlas == "average"
    assert read.expected_dice(found) == pytest.approx(quality.expected_dice(found), abs=1e-3)
    assert read.outlier_score(found) == pytest.approx(quality.outlier_score(found), rel=1e-2)


def test_no_file_is_no_fit_and_a_wrong_one_is_said(tmp_path, quality):
    assert read_quality(tmp_path) is None and read_quality(None) is None
    write_quality(tmp_path / "quality.toml", quality)
    text = (tmp_path / "quality.toml").read_text(encoding="utf-8")
    (tmp_path / "quality.toml").write_text(text.replace('"volume_change"', '"luck"'), encoding="utf-8")
    with pytest.raises(InputError, match=r"fitted to other evidence; make it again"):
        read_quality(tmp_path)
    (tmp_path / "quality.toml").write_text("limit = [", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read as a quality fit"):
        read_quality(tmp_path)


def test_a_fit_that_would_praise_worse_evidence_or_narrow_intervals_below_nothing_is_refused(tmp_path, quality):
    write_quality(tmp_path / "quality.toml", quality)
    text = (tmp_path / "quality.toml").read_text(encoding="utf-8")
    for key in ("weights", "spread", "reach"):
        changed = re.sub(rf"^{key} = (\[?)", rf"{key} = \1-", text, flags=re.MULTILINE)
        (tmp_path / "quality.toml").write_text(changed, encoding="utf-8")
        with pytest.raises(InputError, match=r"cannot be read as a quality fit .*out of range"):
            read_quality(tmp_path)


def test_a_fit_of_version_0_1_is_read_under_its_evidences_former_names(tmp_path, quality):
    write_quality(tmp_path / "quality.toml", quality)
    text = (tmp_path / "quality.toml").read_text(encoding="utf-8")
    for former, name in FORMER_NAMES.items():
        assert f'"{name}"' in text
        text = text.replace(f'"{name}"', f'"{former}"')
    expected = read_quality(tmp_path)
    (tmp_path / "quality.toml").write_text(text, encoding="utf-8")
    assert read_quality(tmp_path) == expected


def unseen(seed, count=40, lower=0.7):
    """The same kind of cases of subjects that the atlas does not know: a logit lower, and noisier."""
    random = np.random.default_rng(seed)
    cases = []
    for found, dice in made_up(seed, count):
        logit = np.log(dice / (1 - dice)) - lower + random.normal(0, 0.3, 3)
        cases.append((found, 1 / (1 + np.exp(-logit))))
    return cases


def test_nine_of_ten_true_values_of_subjects_that_the_atlas_has_not_seen_lie_in_their_interval():
    quality = fit("average", made_up(0), unseen=unseen(1, 60))
    inside, errors = [], []
    for found, dice in unseen(2, 400):
        expected, ends = quality.expected_dice(found), quality.interval(found)
        for value, true in zip(VALUES, dice, strict=True):
            low, high = ends[value]
            assert low < expected[value] < high
            inside.append(low <= true <= high)
            errors.append(expected[value] - true)
    assert 0.86 < np.mean(inside) < 0.94 and abs(np.mean(errors)) < 0.02
    assert quality.shift == pytest.approx(-0.7, abs=0.1)


def alike(random, subjects, cases):
    """(name, case) of subjects, all of whose structures and cases are off by the subject's own amount, of SD 0.4."""
    for n in range(subjects):
        own = random.normal(0, 0.4)
        for found, dice in made_up(int(random.integers(10**6)), cases):
            yield str(n), (found, 1 / (1 + np.exp(-np.log(dice / (1 - dice)) - own)))


def test_two_subjects_seen_often_are_two():
    """What a subject's structures have in common is no less for being measured ten times."""
    random, known, inside = np.random.default_rng(0), made_up(0), []
    for _ in range(60):
        names, held_out = zip(*alike(random, 2, 5), strict=True)
        quality = fit("average", known, unseen=held_out, subjects=names)
        for _, (found, dice) in alike(random, 10, 1):
            ends = quality.interval(found)
            inside += [ends[value][0] <= true <= ends[value][1] for value, true in zip(VALUES, dice, strict=True)]
    assert np.mean(inside) > 0.6  # .46 by residuals about what both say; how far two differ tells little of a third


def test_two_subjects_that_are_alike_by_chance_make_no_narrow_intervals():
    """Where those of the fit differ as much as new ones do, nine of ten hold whatever two more happen to say."""
    random, inside = np.random.default_rng(0), []
    for _ in range(60):
        seen, known = zip(*alike(random, 9, 2), strict=True)
        subjects, held_out = zip(*alike(random, 2, 2), strict=True)
        quality = fit("average", known, unseen=held_out, subjects=subjects, seen=seen)
        for _, (found, dice) in alike(random, 10, 1):
            ends = quality.interval(found)
            inside += [ends[value][0] <= true <= ends[value][1] for value, true in zip(VALUES, dice, strict=True)]
    assert 0.87 < np.mean(inside) < 0.95  # .68 by the two alone


def test_without_unseen_subjects_each_is_told_by_the_others():
    """Logits of 0, 0.3 and 0.9 lie up to 0.9 − (0 + 0.3) / 2 from what the two others say: so wide it is either way."""
    same = Evidence(VALUES, np.zeros((3, len(FEATURES))), np.zeros(len(CHECKS)))
    quality = fit("average", [(same, np.full(3, 1 / (1 + np.exp(-logit)))) for logit in (0.0, 0.3, 0.9)])
    for ends in quality.interval(same).values():
        assert ends == pytest.approx([1 / (1 + np.exp(-logit)) for logit in (0.4 - 0.75, 0.4 + 0.75)])


def test_labels_that_show_none_of_the_structures_tell_nothing():
    """Neither of a subject of the fit nor of one that the atlas has not seen: both serve for the checks alone."""
    nothing = [(found, np.full(3, np.nan)) for found, _ in made_up(20, 2)]
    unlabelled = [(found, None) for found, _ in nothing]
    known, held_out = made_up(0, 6), unseen(1, 4)
    expected = fit("average", [*known, *unlabelled], unseen=[*held_out, *unlabelled])
    assert fit("average", [*known, *nothing], unseen=[*held_out, *nothing]) == expected


def test_structures_that_the_fit_does_not_know_tell_no_interval():
    known, held_out = made_up(0, 6), unseen(1, 4)
    for _, dice in known:
        dice[2] = np.nan
    for _, dice in held_out:
        dice[:2] = np.nan
    assert fit("average", known, unseen=held_out).reach == fit("average", known).reach > 0


def test_without_such_subjects_nothing_is_shifted():
    quality = fit("average", made_up(0))
    assert quality.shift == 0 and quality.reach > 0
    assert set(quality.interval(made_up(1)[0][0])) == set(VALUES)


def test_one_subject_alone_tells_no_interval():
    """Two scans of it differ by far less than two subjects do."""
    quality = fit("average", made_up(0, 2), seen=["a", "a"])
    assert quality.reach == 0 and quality.interval(made_up(1)[0][0]) == {}


def test_structures_that_are_always_all_but_whole_have_an_interval():
    """Logits do not tell a Dice of 0.985 from one of 0.995, so that no residual is left; the interval is open to 1."""
    quality = fit("average", [(found, np.full(3, 0.985 + 0.001 * n)) for n, (found, _) in enumerate(made_up(0, 8))])
    for found, _ in made_up(1, 3):
        for low, high in quality.interval(found).values():
            assert low == pytest.approx(0.98, abs=1e-3) and low <= 0.98 and high == 1.0
        assert len(quality.interval(found)) == len(VALUES)


def test_the_expected_dice_lies_in_its_interval_beyond_what_logits_tell_apart_too(quality):
    (found, _), ends = made_up(1)[0], {}
    for level in (5.0, -5.0):
        certain = replace(quality, usual=dict.fromkeys(VALUES, level), weights=(0.0,) * len(FEATURES))
        certain = replace(certain, deviation=dict.fromkeys(VALUES, 0.01), reach=1.0)
        ends[level] = certain.interval(found)
        assert all(low <= certain.expected_dice(found)[v] <= high for v, (low, high) in ends[level].items())
    assert set(ends[5.0].values()) == {(0.98, 1.0)} and set(ends[-5.0].values()) == {(0.0, 0.02)}


def test_ends_that_logits_do_not_tell_apart_are_open():
    quality = replace(fit("average", made_up(0)), reach=500.0)
    assert set(quality.interval(made_up(1)[0][0]).values()) == {(0.0, 1.0)}


def test_a_fit_from_before_the_intervals_is_read_without_them(quality, tmp_path):
    write_quality(tmp_path / "quality.toml", quality)
    text = (tmp_path / "quality.toml").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.startswith(("shift", "reach", "deviation"))]
    (tmp_path / "quality.toml").write_text("\n".join(kept))
    read, (found, _) = read_quality(tmp_path), made_up(5)[0]
    assert read is not None and read.interval(found) == {} and read.shift == 0
    assert read.expected_dice(found) == pytest.approx(quality.expected_dice(found), abs=2e-3)
