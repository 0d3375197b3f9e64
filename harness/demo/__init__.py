"""Makes the data of the demo from the documentation of installed packages."""
