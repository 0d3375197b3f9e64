"""Commands that come before a training: `harness init`, `harness convert`, `harness launch`."""
