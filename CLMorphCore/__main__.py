"""``python -m CLMorphCore`` is ``clmorph``."""

from .cli import main

raise SystemExit(main())
