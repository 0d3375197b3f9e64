"""From a JSON file, a command line, a shell script or a Python script to another trainer's arguments."""
