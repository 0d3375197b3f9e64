"""From files to the token batches of a step: source, table, bank, plan, batch. See README.md beside this file."""
