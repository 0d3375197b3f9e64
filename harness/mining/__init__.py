"""Which negatives every query uses: searched before training, replaced or ranked anew while it runs, or masked."""
