"""Other trainers' arguments as a recipe: `harness convert`, docs/coming_from.md."""
