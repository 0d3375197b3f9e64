"""Model folders that other libraries can load. Each library has a file, which writes, reloads and compares a folder.

To add a library: write a file with the two functions of `sentence_transformers_folder.py`, `write_model` and
`verify_model`.
"""
