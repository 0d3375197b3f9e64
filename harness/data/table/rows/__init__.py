"""From the rows of a source to the files of a table, shared by processes where that pays."""
