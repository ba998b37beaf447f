"""Runs the engine as `python child.py ROOT FOLDER ARGUMENTS...`, and ends with the program that started it.

The parent keeps the other end of this process's standard input. When the parent closes it, dies or is killed, reading
it comes to an end: FOLDER is removed (an empty FOLDER means: nothing to remove) and the process stops at once. This
works on every platform and through PythonSlicer's launcher, which a signal to the launched process does not.
"""

import os
import runpy
import shutil
import sys
import threading

CANCELLED = 130


def _end_with_parent(folder: str) -> None:
    while os.read(0, 4096):
        pass
    if folder:
        os.chdir(os.path.dirname(folder))
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(CANCELLED)


if __name__ == "__main__":
    root, folder, *arguments = sys.argv[1:]
    sys.path[0] = root  # in place of this file's own folder, whose names are of no use to the engine
    sys.argv = ["clmorph", *arguments]
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    runpy.run_module("CLMorphCore", run_name="__main__", alter_sys=True)
