"""The figures of report.html: the catalogue of all figures, and what they are drawn with."""
