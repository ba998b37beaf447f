"""Volumes over time as a chart, for Slicer's plot views."""

from __future__ import annotations

import slicer
import vtk

from .figures import volume_titles
from .words import _

MAX_CURVES = 8  # of the largest structures


def add_chart(table: slicer.vtkMRMLTableNode, index: str, structures: list[dict]) -> list[slicer.vtkMRMLNode]:
    """Add a chart of the volumes in a table of figures over its column `index`, in the structures' colours.

    Returns what was added: the chart and a series for each of the largest structures; nothing where the index is no
    number, or there is one frame.
    """
    data = table.GetTable()
    across = data.GetColumnByName(index)
    if not isinstance(across, vtk.vtkDoubleArray) or data.GetNumberOfRows() < 2:
        return []
    chart = _new("vtkMRMLPlotChartNode", table.GetName())
    chart.SetTitle(table.GetName())
    chart.SetXAxisTitle(index)
    chart.SetYAxisTitle(_("volume (ml)"))
    added = [chart]
    titles = volume_titles(structures)
    largest = sorted(titles, key=lambda title: -data.GetColumnByName(title).GetRange()[1])[:MAX_CURVES]
    for title, structure in titles.items():
        if title not in largest:
            continue
        series = _new("vtkMRMLPlotSeriesNode", structure["name"])
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(index)
        series.SetYColumnName(title)
        series.SetColor(*(int(structure["color"][place : place + 2], 16) / 255 for place in (1, 3, 5)))
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
        added.append(series)
    return added


def _new(class_name: str, name: str) -> slicer.vtkMRMLNode:
    return slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(name))
