"""`model.attention_mask`: which tokens of a text a token reads.

- `direction.py`: writes it into a configuration, in the key that readers of the exported folder honour.
- `probe.py`: whether the layers of a loaded backbone really read so.
- `soft_mask.py`: the way from causal to bidirectional over the steps of a run.
"""
