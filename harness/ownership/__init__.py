"""Who may write to a folder: nobody among foreign files, and one command at a time."""
