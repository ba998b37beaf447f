"""PySide6 classes that look like PythonQt's, the way Slicer's Python sees Qt.

The differences that matter to a module: a Qt property is an attribute (`button.text`, not `button.text()`), any object
connects by a signal's signature (`button.connect("clicked(bool)", slot)`), `name` is the object's name, and
`className()` tells the class.
"""

import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtWidgets

# Qt asks Python for these virtual functions: a property of the same name would hide them
VIRTUAL = {"sizeHint", "minimumSizeHint"}
_wrapped: dict[type, type] = {}


class PythonQtObject:
    """What PythonQt adds to every object."""

    def __getattribute__(self, attribute: str):
        # PySide6 finds its own connect() and disconnect() before a subclass's, hence here
        if attribute == "connect":
            return lambda signature, slot: bool(getattr(self, signature.split("(")[0]).connect(slot))
        if attribute == "disconnect":
            return lambda signature, slot=None: getattr(self, signature.split("(")[0]).disconnect(slot)
        return super().__getattribute__(attribute)

    @property
    def name(self) -> str:
        return QtCore.QObject.property(self, "objectName")

    @name.setter
    def name(self, value: str) -> None:
        self.setObjectName(value)

    def className(self) -> str:
        return type(self).__name__

    def findChildren(self, kind: type = QtCore.QObject, *arguments) -> list:
        return super().findChildren(_qt_base(kind), *arguments)


def _qt_base(kind: type) -> type:
    return next(base for base in kind.__mro__ if base.__module__.startswith("PySide6"))


def _attribute(base: type, name: str) -> property:
    return property(lambda self: base.property(self, name), lambda self, value: base.setProperty(self, name, value))


def wrap(base: type) -> type:
    """The PythonQt look-alike of a PySide6 class, of the same name; the same one each time."""
    if base not in _wrapped:
        meta = base.staticMetaObject
        names = {meta.property(index).name() for index in range(meta.propertyCount())} - VIRTUAL
        _wrapped[base] = type(base.__name__, (PythonQtObject, base), {name: _attribute(base, name) for name in names})
    return _wrapped[base]


def application() -> QtWidgets.QApplication:
    """The one QApplication of this process."""
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
