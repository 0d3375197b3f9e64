"""The replacement rules, one file per rule. The file name is the value of `mining.rule`; the class is called `Rule`."""
