"""Floor 2: sources → tasks → negative bank → plan → token batches. See README.md beside this file."""
