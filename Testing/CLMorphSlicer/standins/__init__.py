"""Stand-ins for the parts of 3D Slicer that exist only inside the application."""
