"""Parts of commands that are no commands themselves."""
