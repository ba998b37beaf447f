"""Stand-in for `slicer.parameterNodeWrapper`: typed attributes kept in a real vtkMRMLScriptedModuleNode.

Follows Base/Python/slicer/parameterNodeWrapper of Slicer 5.10 and 5.12 (wrapper.py, serializers.py, guiConnectors.py):
values are kept as text under the parameter's name, nodes as references; a wrapper caches all of them, nodes too, and
renews them when the node is modified by somebody else. connectGui() ties each widget that has the property
SlicerParameterName to its parameter, where Slicer has a connector for the two. In Slicer 5.10 (`LEAVES_OBSERVERS`)
disconnectGui() leaves the node's observer behind; 5.12 removes it.

Differs: lists, packs, dictionaries and validators other than ranges and choices are missing.
"""

from __future__ import annotations

import enum
import pathlib
import types
import typing
import weakref
from dataclasses import dataclass

import ctk
import qt
import slicer
import vtk

LEAVES_OBSERVERS = False  # True: as Slicer 5.10


@dataclass(frozen=True)
class WithinRange:
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Minimum:
    minimum: float


@dataclass(frozen=True)
class Maximum:
    maximum: float


@dataclass(frozen=True)
class Choice:
    choices: tuple


@dataclass(frozen=True)
class Default:
    value: object


@dataclass(frozen=True)
class Decimals:
    value: int


@dataclass(frozen=True)
class SingleStep:
    value: float


class Parameter:
    """A typed attribute of a wrapper: reads from and writes to the node, and refuses a value of another type."""

    def __init__(self, name: str, hint: object, default: object) -> None:
        self.hint = hint
        bare, *self.annotations = typing.get_args(typing.Annotated[hint, ""])[:-1]
        union = typing.get_origin(bare) in (typing.Union, types.UnionType)
        self.name, self.kinds = name, typing.get_args(bare) if union else (bare,)
        given = [annotation.value for annotation in self.annotations if isinstance(annotation, Default)]
        self.default = default if default is not None else (given or [self._empty()])[0]

    @property
    def is_node(self) -> bool:
        return isinstance(self.kinds[0], type) and issubclass(self.kinds[0], slicer.vtkMRMLNode)

    def _empty(self) -> object:
        if self.is_node:
            return None
        return next(iter(self.kinds[0])) if issubclass(self.kinds[0], enum.Enum) else self.kinds[0]()

    def __get__(self, wrapper, _owner=None):
        return self if wrapper is None else wrapper.cache[self.name]

    def read(self, node: slicer.vtkMRMLScriptedModuleNode):
        """The value that the node holds; the default, written into it, where it holds none."""
        if not node.HasParameter(self.name):  # the scene was closed, which empties its singletons
            self.write(node, self.default)
        if self.is_node:
            return node.GetNodeReference(self.name)
        text, kind = node.GetParameter(self.name), self.kinds[0]
        if issubclass(kind, enum.Enum):
            if text not in kind.__members__:
                raise ValueError(f"Found {text!r} in parameter node but it is not a name in {kind!r}")
            return kind[text]
        return text == "True" if kind is bool else kind(text)

    def __set__(self, wrapper, value) -> None:
        self._check(value)
        writing = wrapper.writing
        writing.add(self.name)
        try:
            with slicer.util.NodeModify(wrapper.parameterNode):
                self.write(wrapper.parameterNode, value)
                wrapper.cache[self.name] = self.read(wrapper.parameterNode)
        finally:
            writing.discard(self.name)

    def write(self, node: slicer.vtkMRMLScriptedModuleNode, value: object) -> None:
        if self.is_node:
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value else None)
        else:
            node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))

    def _check(self, value: object) -> None:
        kinds = (int, float) if self.kinds == (float,) else self.kinds
        if not (isinstance(value, kinds) or (self.is_node and value is None)):
            raise TypeError(f"parameter {self.name} takes {self.kinds}, not {value!r}")
        for limit in self.annotations:
            low = isinstance(limit, (WithinRange, Minimum)) and value < limit.minimum
            high = isinstance(limit, (WithinRange, Maximum)) and value > limit.maximum
            if low or high or (isinstance(limit, Choice) and value not in limit.choices):
                raise ValueError(f"parameter {self.name}: {value!r} is outside {limit}")


class Wrapper:
    """What the decorator gives to a class of annotated parameters."""

    def __init__(self, node: slicer.vtkMRMLScriptedModuleNode) -> None:
        self.parameterNode, self._guis, self._updating = node, {}, False
        self.cache: dict[str, object] = {}
        self.writing: set[str] = set()
        for name, parameter in self.allParameters.items():
            if not node.HasParameter(name):
                parameter.write(node, parameter.default)
            self.cache[name] = parameter.read(node)
        me = weakref.ref(self)  # the observer must not keep the wrapper alive
        self._observer = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: me() and me()._renew())

    def __del__(self) -> None:
        self.parameterNode.RemoveObserver(self._observer)

    def _renew(self) -> None:
        for name, parameter in self.allParameters.items():
            if name not in self.writing:
                self.cache[name] = parameter.read(self.parameterNode)

    @classmethod
    def dataType(cls, name: str) -> object:
        return cls.allParameters[name].hint

    def AddObserver(self, event, callback, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, was_modifying: int) -> int:
        return self.parameterNode.EndModify(was_modifying)

    def connectGui(self, ui) -> int:
        named = {widget.property("SlicerParameterName"): widget for widget in vars(ui).values()}
        connectors = {name: connector(widget, self.allParameters[name]) for name, widget in named.items() if name}
        links = [(name, link, self._follow(name, link)) for name, link in connectors.items()]
        for name, link, slot in links:
            link.write(getattr(self, name))
            link.signal.connect(slot)
        tag = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._show(links))
        self._guis[tag] = links
        return tag

    def disconnectGui(self, tag: int) -> None:
        if tag in self._guis:
            links = self._guis.pop(tag)
            for _, link, slot in links:
                link.signal.disconnect(slot)
            links.clear()  # an observer that is left behind finds nothing to show
            if not LEAVES_OBSERVERS:
                self.RemoveObserver(tag)

    def _follow(self, name: str, link: Connector):
        def changed(*_) -> None:
            if not self._updating:
                setattr(self, name, link.read())

        return changed

    def _show(self, links) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for name, link, _ in links:
                link.write(getattr(self, name))
        finally:
            self._updating = False


@dataclass(frozen=True)
class Connector:
    """How a widget shows a parameter: read() the widget, write(value) to it, `signal` when the user changes it."""

    read: typing.Callable[[], object]
    write: typing.Callable[[object], None]
    signal: object


def _by_property(widget, name: str, signal, kind: type) -> Connector:
    return Connector(lambda: kind(getattr(widget, name)), lambda value: setattr(widget, name, value), signal)


def connector(widget, parameter: Parameter) -> Connector:
    """The connector of a widget and a parameter. Raises RuntimeError where Slicer has none for the two."""
    kind, widget_kind = parameter.kinds[0], type(widget)
    if parameter.is_node and widget_kind is slicer.qMRMLNodeComboBox:
        widget.nodeTypes = [node().GetClassName() for node in parameter.kinds if node is not type(None)]
        return Connector(widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged)
    if kind is bool and widget_kind is qt.QCheckBox:
        return _by_property(widget, "checked", widget.stateChanged, bool)
    if kind is bool and widget_kind is qt.QPushButton and widget.checkable:
        return _by_property(widget, "checked", widget.toggled, bool)
    of_numbers = (qt.QDoubleSpinBox, ctk.ctkSliderWidget)
    of_whole_numbers = (*of_numbers, qt.QSpinBox, qt.QSlider)
    if (kind is float and widget_kind in of_numbers) or (kind is int and widget_kind in of_whole_numbers):
        _limit(widget, parameter)
        return _by_property(widget, "value", widget.valueChanged, kind)
    if issubclass(kind, enum.Enum) and widget_kind is qt.QComboBox:
        return _choices(widget, list(kind), getattr(kind, "label", lambda choice: choice.name))
    if kind is str and widget_kind is qt.QLineEdit:
        return _by_property(widget, "text", widget.textChanged, str)
    if kind is pathlib.Path and widget_kind is ctk.ctkPathLineEdit:
        return Connector(lambda: kind(widget.currentPath), lambda path: setattr(widget, "currentPath", str(path)),
                         widget.currentPathChanged)  # fmt: skip
    raise RuntimeError(f"Slicer cannot connect {widget_kind.__name__} to the parameter {parameter.name} ({kind})")


def _limit(widget, parameter: Parameter) -> None:
    limits = [limit for limit in parameter.annotations if isinstance(limit, WithinRange)]
    if not limits:
        raise RuntimeError(f"{type(widget).__name__} needs limits: annotate {parameter.name} with WithinRange")
    widget.minimum, widget.maximum = limits[0].minimum, limits[0].maximum
    for hint in parameter.annotations:
        if isinstance(hint, Decimals):
            widget.decimals = hint.value
        elif isinstance(hint, SingleStep):
            widget.singleStep = hint.value


def _choices(widget, choices: list, label) -> Connector:
    widget.clear()
    widget.addItems([label(choice) for choice in choices])
    return Connector(
        lambda: choices[widget.currentIndex],
        lambda choice: setattr(widget, "currentIndex", choices.index(choice)),
        widget.currentIndexChanged,
    )


def parameterNodeWrapper(described: type) -> type:
    """Class decorator: each annotated attribute becomes a parameter of the MRML node given to the constructor."""
    hints = typing.get_type_hints(described, include_extras=True)
    parameters = {name: Parameter(name, hint, getattr(described, name, None)) for name, hint in hints.items()}
    methods = {"allParameters": parameters, "__doc__": described.__doc__, "__module__": described.__module__}
    return type(described.__name__, (Wrapper,), {**parameters, **methods})
