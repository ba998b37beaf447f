"""Labels that follow the scan's own tissue: what the atlas expects where, and the scan's intensities, fitted by EM."""
