"""What can be wrong with nodes and results."""


class NodeError(ValueError):
    """What is wrong with a node or a file of results, in one sentence for the person at the window."""
