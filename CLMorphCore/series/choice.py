"""Which frames of a series are asked for: 'all', 'ed,es', '3', '5,all', numbers from 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError

EXPECTED = "all, ed, es or numbers of frames from 1, with commas between them"


@dataclass(frozen=True)
class FrameChoice:
    """Frames by number, from 0; ``everything``, or the ``phases`` ed and es that are found from the volumes."""

    numbers: tuple[int, ...] = ()
    everything: bool = False
    phases: tuple[str, ...] = ()

    @property
    def first(self) -> int | None:
        """The frame that is to be segmented: the number that comes first, None where there is none."""
        return self.numbers[0] if self.numbers else None

    @property
    def needs_all(self) -> bool:
        """Whether every frame has to be followed, to be given or to be compared with."""
        return self.everything or bool(self.phases)

    def alone(self) -> int | None:
        """The number of the only frame that is asked for, or None where there are others too."""
        return self.numbers[0] if len(set(self.numbers)) == 1 and not self.needs_all else None


def frame_choice(frames: str | Sequence[int] | FrameChoice) -> FrameChoice:
    """What ``frames`` asks for: words and numbers with commas between them, or numbers, from 1.

    InputError for all else.
    """
    if isinstance(frames, FrameChoice):
        return frames
    words = frames.split(",") if isinstance(frames, str) else [str(number) for number in frames]
    numbers, phases, everything = [], [], False
    for word in (word.strip().lower() for word in words):
        if word == "all":
            everything = True
        elif word in ("ed", "es"):
            phases.append(word)
        elif word.isascii() and word.isdecimal() and int(word) > 0:
            numbers.append(int(word) - 1)
        else:
            raise InputError(f"`frames={frames}` has {word!r}; expected {EXPECTED}")
    if not words:
        raise InputError(f"`frames` names none; expected {EXPECTED}")
    return FrameChoice(tuple(dict.fromkeys(numbers)), everything, tuple(dict.fromkeys(phases)))


def check_numbers(choice: FrameChoice, count: int) -> None:
    """InputError for the number of a frame that the series has not, and for ed and es of a single one."""
    if choice.phases and count < 2:
        raise InputError(
            f"`frames` asks for {' and '.join(choice.phases)}, and the image has one frame; expected a series "
            "of two at least",
            "omit `frames`, or give the series",
        )
    if choice.numbers and max(choice.numbers) >= count:
        raise InputError(f"`frames` names frame {max(choice.numbers) + 1} of a series of {count}; expected 1 … {count}")


def no_phases(choice: FrameChoice) -> None:
    """InputError for ed and es where labels have no names, and nothing tells which is the heart's left ventricle."""
    if choice.phases:
        raise InputError(
            "`frames` asks for ed or es, which are found by the volume of a heart's left ventricle in clmorph segment",
            "give all, or numbers of frames",
        )
