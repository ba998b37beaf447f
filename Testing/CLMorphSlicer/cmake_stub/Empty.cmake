# Slicer makes the package of the extension here.
