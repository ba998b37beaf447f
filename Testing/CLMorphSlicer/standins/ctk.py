"""Stand-ins for the CTK widgets that the panel uses, drawn much as CTK draws them."""

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from . import pythonqt, qt

QWidget = pythonqt.wrap(QtWidgets.QWidget)
HEADER = 26  # pixels


class ctkCollapsibleButton(QWidget):
    """A button-like header above contents that it folds away."""

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self.setContentsMargins(0, HEADER, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Maximum)

    def _set_text(self, text: str) -> None:
        self._text = text
        self.update()

    def _set_collapsed(self, collapsed: bool) -> None:
        if collapsed != self._collapsed:
            self._collapsed = collapsed
            self.setMaximumHeight(HEADER if collapsed else 16777215)  # the contents are clipped away below the header
            self.updateGeometry()

    text = Property(str, lambda self: self._text, _set_text)
    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)

    def mousePressEvent(self, event) -> None:
        if event.position().y() < HEADER:
            self.collapsed = not self._collapsed

    def paintEvent(self, event) -> None:
        painter, option = QtGui.QPainter(self), QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), HEADER - 2)
        option.state |= QtWidgets.QStyle.StateFlag.State_Raised
        self.style().drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        arrow = QtWidgets.QStyle.PrimitiveElement
        option.rect = QtCore.QRect(6, 6, 12, 12)
        kind = arrow.PE_IndicatorArrowRight if self._collapsed else arrow.PE_IndicatorArrowDown
        self.style().drawPrimitive(kind, option, painter, self)
        painter.drawText(24, 17, self._text)


class ctkCollapsibleGroupBox(ctkCollapsibleButton):
    """The same with a title instead of a text."""

    title = Property(str, lambda self: self._text, ctkCollapsibleButton._set_text)


class ctkSliderWidget(QWidget):
    """A slider beside a spin box, which is as wide as those of the sliders around it.

    The latter as CTK's (Libs/Widgets/ctkSliderWidget.cpp, SynchronizeWidth, the default); differs: without a choice.
    """

    valueChanged = Signal(float)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._box, self._slider = QtWidgets.QDoubleSpinBox(self), QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, 1000)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self._moved)
        self._slider.sliderMoved.connect(lambda step: self._box.setValue(self._value_at(step)))

    def _value_at(self, step: int) -> float:
        low, high = self._box.minimum(), self._box.maximum()
        return low + (high - low) * step / 1000

    def _moved(self, value: float) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        self._slider.setValue(round(1000 * (value - low) / max(high - low, 1e-9)))
        self.valueChanged.emit(value)

    def setRange(self, minimum: float, maximum: float) -> None:
        self._box.setRange(minimum, maximum)
        self._synchronize()

    def _synchronize(self) -> None:
        siblings = [each for each in self.parent().findChildren(QWidget) if isinstance(each, ctkSliderWidget)]
        width = max(each._box.sizeHint().width() for each in siblings)
        for each in siblings:
            each._box.setMinimumWidth(width)

    def _set(name: str):
        """Sets a property of the spin box that can make it wider."""

        def change(self, value) -> None:
            getattr(self._box, name)(value)
            self._synchronize()

        return change

    value = Property(float, lambda self: self._box.value(), lambda self, value: self._box.setValue(value))
    minimum = Property(float, lambda self: self._box.minimum(), _set("setMinimum"))
    maximum = Property(float, lambda self: self._box.maximum(), _set("setMaximum"))
    singleStep = Property(float, lambda self: self._box.singleStep(), lambda self, step: self._box.setSingleStep(step))
    decimals = Property(int, lambda self: self._box.decimals(), _set("setDecimals"))
    suffix = Property(str, lambda self: self._box.suffix(), _set("setSuffix"))


class ctkPathLineEdit(QWidget):
    """A line for a path with a button to look for one.

    As CTK's (Libs/Widgets/ctkPathLineEdit.cpp, and nameFiltersToRegExpPattern in Libs/Core/ctkUtils.cpp): without name
    filters every text counts as valid, be there such a path or not, and is told as it is typed; the empty one does not,
    and is told by validInputChanged alone. Differs: name filters are not looked at.
    """

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    Dirs, Drives, Executable, Files, Readable = 1, 2, 4, 8, 16
    NoDot, NoDotDot = 0x2000, 0x4000

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self.filters, self.settingKey, self.nameFilters, self._valid = 0, "", (), False
        self._edit, button = QtWidgets.QLineEdit(self), QtWidgets.QToolButton(self)
        button.setText("…")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)
        layout.addWidget(button)
        self._edit.textChanged.connect(self._changed)

    def _changed(self, path: str) -> None:
        was_valid, self._valid = self._valid, bool(path)
        if self._valid:
            self.currentPathChanged.emit(path)
        if self._valid != was_valid:
            self.validInputChanged.emit(self._valid)

    currentPath = Property(str, lambda self: self._edit.text(), lambda self, path: self._edit.setText(path))


ctkComboBox, ctkDoubleSpinBox = qt.QComboBox, qt.QDoubleSpinBox
ctkCheckBox, ctkMessageBox = qt.QCheckBox, qt.QMessageBox
