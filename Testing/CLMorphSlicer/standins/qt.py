"""Stand-in for Slicer's module `qt`: Qt's classes under one roof, with PythonQt's manners."""

from typing import ClassVar

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from . import pythonqt

application = pythonqt.application()
Qt = QtCore.Qt
Signal, Property = QtCore.Signal, QtCore.Property
# plain values and objects, whose interface is the same in both
QColor, QIcon, QPixmap, QPainter, QFont = QtGui.QColor, QtGui.QIcon, QtGui.QPixmap, QtGui.QPainter, QtGui.QFont
QTextCursor, QStandardItemModel, QStandardItem = QtGui.QTextCursor, QtGui.QStandardItemModel, QtGui.QStandardItem
QSize, QPoint, QRect, QUrl, QFile = QtCore.QSize, QtCore.QPoint, QtCore.QRect, QtCore.QUrl, QtCore.QFile
QEventLoop, QThread, QSettings, QObject = QtCore.QEventLoop, QtCore.QThread, QtCore.QSettings, QtCore.QObject
QSizePolicy, QStyle = QtWidgets.QSizePolicy, QtWidgets.QStyle
# layouts are not named by modules, so theirs stay PySide6's own
QVBoxLayout, QHBoxLayout, QFormLayout = QtWidgets.QVBoxLayout, QtWidgets.QHBoxLayout, QtWidgets.QFormLayout

# dir() and not vars(): PySide6 makes its classes when they are asked for
for _base in [QtCore.QTimer, QtGui.QAction, *(getattr(QtWidgets, name) for name in dir(QtWidgets))]:
    if isinstance(_base, type) and issubclass(_base, (QtCore.QTimer, QtGui.QAction, QtWidgets.QWidget)):
        globals()[_base.__name__] = pythonqt.wrap(_base)


class QUiLoader(QtUiTools.QUiLoader):
    """Loads the real .ui file, making the stand-in of each widget class by its name.

    A connection that names a MRML slot means nothing to PySide6; test_widget.py checks those in the XML.
    """

    _alive: ClassVar[list] = []  # without a Python reference, Qt hands out the widget again as its plain C++ class

    def createWidget(self, class_name: str, parent=None, name: str = ""):
        import ctk
        import slicer

        for module in (slicer, ctk):
            kind = getattr(module, class_name, None)
            if kind is not None:
                break
        else:
            kind = globals().get(class_name)
        if kind is None:
            raise RuntimeError(f"no stand-in for the widget class {class_name}")
        widget = kind(parent) if parent is not None else kind()
        widget.setObjectName(name)
        self._alive.append(widget)
        return widget

    def load(self, file, parent=None):
        previous = QtCore.qInstallMessageHandler(_only_what_matters)
        try:
            return super().load(file, parent)
        finally:
            QtCore.qInstallMessageHandler(previous)


def _only_what_matters(_kind, _context, message: str) -> None:
    about_connections = ("No such s", "sender name", "receiver name", "QObject::connect")
    if not any(part in message for part in about_connections):
        complaints.append(message)


complaints: list[str] = []  # what Qt says against the .ui file; a test asserts that it says nothing
