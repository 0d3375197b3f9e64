"""The pictures of a report; a file per picture."""
