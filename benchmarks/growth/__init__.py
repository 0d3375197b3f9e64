"""Does anything grow faster than its data? Each module measures one part of the harness at several sizes."""
