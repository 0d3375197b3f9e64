"""Show whether more and better negatives help: a training long enough to say so, on whole packages held out."""
