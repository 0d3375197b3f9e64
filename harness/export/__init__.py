"""Model folders that other libraries can load: a file for each library, which writes, reloads and compares.

A new one has the two functions of `sentence_transformers_folder.py`: `write_model` and `verify_model`.
"""
