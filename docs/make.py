"""What the documentation is made with: python docs/make.py readme | tutorials | way | screenshot | accessibility

``readme`` puts the generated tables and figures into README and pages, ``tutorials`` runs every block of the tutorials,
``way`` draws the picture of CONTRIBUTING, ``screenshot PAGE PICTURE`` draws a page of HTML with Chromium,
``accessibility PAGES`` has axe-core look at pages.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]


def main() -> int:
    """Does one of the verbs; 1 where a tutorial does not do what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("readme")
    verbs.add_parser("way")
    tutorials = verbs.add_parser("tutorials")
    tutorials.add_argument("--update", action="store_true")
    tutorials.add_argument("page", nargs="?", type=Path, help="one alone, in this process")
    accessible = verbs.add_parser("accessibility")
    accessible.add_argument("places", nargs="+", type=Path, help="pages, or folders of them")
    screenshot = verbs.add_parser("screenshot")
    screenshot.add_argument("page", type=Path)
    screenshot.add_argument("picture", type=Path)
    screenshot.add_argument("--width", type=int, default=1100)
    screenshot.add_argument("--height", type=int, default=900)
    options = parser.parse_args()
    if options.verb == "readme":
        from site_pages.readme import fill_all

        for page in fill_all():
            print(f"{page} has new tables or figures")
    elif options.verb == "accessibility":
        from site_pages.accessibility import check

        wrong = check(options.places)
        print("\n".join(wrong) or "axe finds nothing wrong")
        return bool(wrong)
    elif options.verb == "way":
        from site_pages.places import DOCS
        from site_pages.way import draw as draw_way

        draw_way(DOCS / "pictures" / "way.svg")
    elif options.verb == "screenshot":
        from site_pages.browser import screenshot as draw

        draw(options.page, options.picture, options.width, options.height)
    else:
        from site_pages.tutorials import PAGES, TutorialError, run_all, run_alone

        try:
            if options.page:
                run_alone(options.page.resolve(), update=options.update)
            else:
                run_all(PAGES, update=options.update)
        except TutorialError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
