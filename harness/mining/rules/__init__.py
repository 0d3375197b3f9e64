"""The replacement rules, one file each. A file's name is what `mining.rule` says in a recipe; its class is `Rule`."""
