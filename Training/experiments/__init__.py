"""The paper's experiments: runs are rows of one results folder, tables and figures are views of it."""
