"""CLMorph with BYOL in place of NT-Xent: the paper's last two rows of table III.

The network is CLMorph's own. BYOL (Grill et al., NeurIPS 2020) needs no negatives: a predictor on the projection meets
a target network, the moving average of encoder and projection; both are in ``training.byol``, for training only.
"""

from __future__ import annotations

from .clmorph import CLMorph, CLMorphConfig, capabilities
from .contract import System

SYSTEM = System(CLMorphConfig, CLMorph, {"loss": {"contrastive": "byol"}}, capabilities=capabilities)
