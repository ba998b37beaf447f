"""Stand-ins for Slicer's MRML widgets: PySide6 in front, the real MRML scene behind."""

from __future__ import annotations

import weakref

import slicer
import slicer.util
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from . import pythonqt

QWidget = pythonqt.wrap(QtWidgets.QWidget)


class qMRMLWidget(QWidget):
    """A panel that knows the scene. In Slicer the .ui file's connections hand it on; here all children get it."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._scene = None
        self.isEntered = False  # until the application enters the module (application.enter_module)

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        self._scene = scene
        for child in self.findChildren(QtWidgets.QWidget):
            if hasattr(child, "setMRMLScene"):
                child.setMRMLScene(scene)
        self.mrmlSceneChanged.emit(scene)


class qMRMLNodeComboBox(pythonqt.wrap(QtWidgets.QComboBox)):
    """Offers the scene's nodes of some types, and follows the scene."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._scene, self._observers, self._shown = None, [], []
        self._types: list[str] = []
        self._attributes: dict[str, str] = {}  # node type -> attribute that such a node must have
        self._flags = {"none": False, "children": True, "hidden": False}
        self._none_text, self._current = "None", None
        self.currentIndexChanged.connect(self._chosen)

    def _flag(name: str) -> Property:
        def change(self, value: bool) -> None:
            self._flags[name] = value
            self._refresh()

        return Property(bool, lambda self: self._flags.get(name, False), change)

    noneEnabled, showChildNodeTypes, showHidden = _flag("none"), _flag("children"), _flag("hidden")
    addEnabled, removeEnabled, editEnabled = _flag("add"), _flag("remove"), _flag("edit")
    renameEnabled, selectNodeUponCreation = _flag("rename"), _flag("select")

    def _set_types(self, types) -> None:
        self._types = list(types)
        self._refresh()

    def _set_none_text(self, text: str) -> None:
        self._none_text = text
        self._refresh()

    nodeTypes = Property("QStringList", lambda self: self._types, _set_types)
    noneDisplay = Property(str, lambda self: self._none_text, _set_none_text)
    currentNodeID = property(lambda self: self._current or "", lambda self, node_id: self._choose(node_id or None))

    def addAttribute(self, node_type: str, attribute: str) -> None:
        self._attributes[node_type] = attribute
        self._refresh()

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        for tag in self._observers:
            self._scene.RemoveObserver(tag)
        self._scene, self._observers = scene, []
        if scene is not None:
            box = weakref.ref(self)

            @vtk.calldata_type(vtk.VTK_OBJECT)
            def changed(_scene, _event, node) -> None:
                # many nodes at once are looked at together, as by qMRMLSceneModel
                if box() and not scene.IsBatchProcessing() and any(map(node.IsA, box()._types)):
                    box()._refresh()

            whole = [scene.EndCloseEvent, scene.EndImportEvent]
            self._observers = [scene.AddObserver(event, lambda *_: box() and box()._refresh()) for event in whole]
            self._observers += [
                scene.AddObserver(event, changed) for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent)
            ]
        self._refresh()

    def currentNode(self):
        return self._scene.GetNodeByID(self._current) if self._scene and self._current else None

    def setCurrentNode(self, node) -> None:
        self._refresh()  # Slicer's box follows the nodes' attributes, this one looks again
        self._choose(node.GetID() if node is not None else None)

    def setCurrentNodeID(self, node_id: str) -> None:
        self._choose(node_id or None)

    def nodeCount(self) -> int:
        return len([node_id for node_id in self._shown if node_id])

    def _offers(self, node) -> bool:
        if node.GetHideFromEditors() and not self._flags["hidden"]:
            return False
        kinds = [kind for kind in self._types if node.IsA(kind)]
        if not self._flags["children"]:
            kinds = [kind for kind in kinds if kind == node.GetClassName()]
        needed = [self._attributes[kind] for kind in kinds if kind in self._attributes]
        return bool(kinds) and all(node.GetAttribute(name) is not None for name in needed)

    def _refresh(self) -> None:
        if self._scene is None:
            return
        found = {node.GetID(): node for kind in self._types for node in slicer.util.getNodesByClass(kind, self._scene)}
        nodes = [node for node in found.values() if self._offers(node)]
        entries = [(None, self._none_text)] if self._flags["none"] else []
        entries += [(node.GetID(), node.GetName()) for node in nodes]
        self._shown = [node_id for node_id, _ in entries]
        was_blocked = self.blockSignals(True)
        self.clear()
        self.addItems([name for _, name in entries])
        self.blockSignals(was_blocked)
        # without a "None" entry Slicer's box shows the first node as soon as there is one
        first = self._shown[0] if self._shown else None
        self._choose(self._current if self._current in self._shown else first)

    def _choose(self, node_id: str | None) -> None:
        was_blocked = self.blockSignals(True)
        self.setCurrentIndex(self._shown.index(node_id) if node_id in self._shown else -1)
        self.blockSignals(was_blocked)
        self._chosen()

    def _chosen(self, _index: int = 0) -> None:
        index = QtWidgets.QComboBox.currentIndex(self)
        chosen = self._shown[index] if index >= 0 else None
        if chosen != self._current:
            self._current = chosen
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(chosen or "")


class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Offers the scene's nodes with a box each to check, as Libs/MRML/Widgets/qMRMLCheckableNodeComboBox.h.

    Differs: the boxes are kept apart from the items, and the text shown is that of the first node.
    """

    checkedNodesChanged = Signal()

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._checked: set[str] = set()

    def checkedNodes(self) -> list:
        return [self._scene.GetNodeByID(node_id) for node_id in self._shown if node_id in self._checked]

    def setCheckState(self, node, state) -> None:
        before = set(self._checked)
        (self._checked.add if state == QtCore.Qt.CheckState.Checked else self._checked.discard)(node.GetID())
        if before != self._checked:
            self.checkedNodesChanged.emit()


class qMRMLSegmentationShow3DButton(pythonqt.wrap(QtWidgets.QPushButton)):
    """Makes and removes the surfaces, as Modules/Loadable/Segmentations/Widgets/qMRMLSegmentationShow3DButton.cxx.

    Pressed while there are surfaces. Differs: no menu for smoothing, and it looks at the node when it is given alone.
    """

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._node = None
        self.setCheckable(True)
        self.setText("Show 3D")
        self.toggled.connect(self._toggled)

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node) -> None:
        self._node = node
        segmentation = node.GetSegmentation() if node is not None else None
        was_blocked = self.blockSignals(True)
        closed = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        self.setChecked(bool(segmentation and segmentation.ContainsRepresentation(closed)))
        self.blockSignals(was_blocked)
        self.setEnabled(bool(segmentation and segmentation.GetNumberOfSegments()))

    def _toggled(self, on: bool) -> None:
        if self._node is None:
            return
        if on:
            self._node.CreateClosedSurfaceRepresentation()
            self._node.GetDisplayNode().SetVisibility3D(True)
            self._node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(
                slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
            )
        else:
            self._node.RemoveClosedSurfaceRepresentation()


class qMRMLSegmentsTableView(QWidget):
    """The segments of a segmentation node: shown or not, colour, opacity, name."""

    COLUMNS = ("", "", "Opacity", "Name")

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._node = None
        self._table = QtWidgets.QTableWidget(0, len(self.COLUMNS), self)
        self._table.setHorizontalHeaderLabels(self.COLUMNS)
        self._table.verticalHeader().hide()
        self._table.verticalHeader().setDefaultSectionSize(22)
        self._table.horizontalHeader().setStretchLastSection(True)
        for column, width in enumerate((28, 28, 60)):
            self._table.setColumnWidth(column, width)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)

    def setMRMLScene(self, _scene) -> None:
        self.setSegmentationNode(None)

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node) -> None:
        self._node = node
        segmentation = node.GetSegmentation() if node else None
        count = segmentation.GetNumberOfSegments() if segmentation else 0
        self._table.setRowCount(count)
        for row in range(count):
            segment = segmentation.GetNthSegment(row)
            colour = QtWidgets.QTableWidgetItem()
            colour.setBackground(QtGui.QColor.fromRgbF(*segment.GetColor()))
            shown = QtWidgets.QTableWidgetItem()
            shown.setCheckState(QtCore.Qt.CheckState.Checked)
            opacity, name = QtWidgets.QTableWidgetItem("1.00"), QtWidgets.QTableWidgetItem(segment.GetName())
            for column, item in enumerate((shown, colour, opacity, name)):
                self._table.setItem(row, column, item)


class qMRMLTableView(pythonqt.wrap(QtWidgets.QTableView)):
    """The cells of a table node."""

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._node = None

    def setMRMLScene(self, _scene) -> None:
        self.setMRMLTableNode(None)

    def mrmlTableNode(self):
        return self._node

    def setMRMLTableNode(self, node) -> None:
        self._node = node
        model = QtGui.QStandardItemModel(self)
        if node is not None and node.GetTable() is not None:
            self._fill(model, node)
        self.setModel(model)

    @staticmethod
    def _fill(model: QtGui.QStandardItemModel, node) -> None:
        """Titles go into the header only where the node says so, else they are a first row; locked cells are fixed."""
        table, titled = node.GetTable(), node.GetUseColumnTitleAsColumnHeader()
        columns = [table.GetColumn(index) for index in range(table.GetNumberOfColumns())]
        titles = [node.GetColumnTitle(column.GetName()) or column.GetName() for column in columns]
        rows = [[column.GetVariantValue(row).ToString() for column in columns] for row in range(node.GetNumberOfRows())]
        for texts in rows if titled else [[column.GetName() for column in columns], *rows]:
            cells = [QtGui.QStandardItem(text) for text in texts]
            for cell in cells:
                cell.setEditable(not node.GetLocked())
            model.appendRow(cells)
        model.setHorizontalHeaderLabels(titles if titled else [chr(ord("A") + index) for index in range(len(columns))])


def widgets() -> dict[str, type]:
    """The stand-ins by the names that Slicer's package `slicer` gives them."""
    kinds = (qMRMLWidget, qMRMLNodeComboBox, qMRMLCheckableNodeComboBox, qMRMLSegmentationShow3DButton,
             qMRMLSegmentsTableView, qMRMLTableView)  # fmt: skip
    return {kind.__name__: kind for kind in kinds}
