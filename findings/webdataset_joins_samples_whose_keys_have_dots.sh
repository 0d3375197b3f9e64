#!/usr/bin/env bash
# webdataset 1.0.2: samples whose keys hold a dot, such as arXiv's numbers (2408.15710), written by TarWriter and read by WebDataset.
#
# Expected: as many samples as were written, with their keys and fields; or a refusal by TarWriter.
# Seen: the file name is key.extension, and the reader takes the key to end at the first dot. Neighbours whose keys are equal up to
# there become one sample with the fields "15710.txt" and "15711.txt", which no pipeline asks for; where a sample stands alone its field
# "txt" is missing. TarWriter, the reader and decode() say nothing. A folder in the key may have dots.
# What helps: replace dots in keys, and keep the id inside the sample (in its json).
#
# Versions seen: webdataset 1.0.2, numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q webdataset==1.0.2 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import sys
import tarfile
from importlib.metadata import version

import webdataset

print("versions:", *(f"{name} {version(name)}" for name in ("webdataset", "numpy")))
papers = {"2408.15710": "first", "2408.15711": "second", "2409.00001": "third"}
for name, change in (("dots", str), ("no dots", lambda key: key.replace(".", "_")), ("dots in a folder", lambda key: f"v1.0/{key[5:]}")):
    path = f"{sys.argv[1]}/{name}.tar"
    with webdataset.TarWriter(path) as writer:
        for key, text in papers.items():
            writer.write({"__key__": change(key), "txt": text, "json": {"id": key}})
    with tarfile.open(path) as tar:
        files = len(tar.getnames())
    samples = [*webdataset.WebDataset(path, shardshuffle=False).decode()]
    fields = [sorted(field for field in sample if not field.startswith("__")) for sample in samples]
    texts = [sample.get("txt") for sample in samples]
    print(f"result: {name}: {files} files, keys {[sample['__key__'] for sample in samples]}, fields {fields}, txt {texts}")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: dots: 6 files, keys ['2408', '2409'], fields [['15710.json', '15710.txt', '15711.json', '15711.txt'], ['00001.json', '00001.txt']], txt [None, None]
result: no dots: 6 files, keys ['2408_15710', '2408_15711', '2409_00001'], fields [['json', 'txt'], ['json', 'txt'], ['json', 'txt']], txt ['first', 'second', 'third']
result: dots in a folder: 6 files, keys ['v1.0/15710', 'v1.0/15711', 'v1.0/00001'], fields [['json', 'txt'], ['json', 'txt'], ['json', 'txt']], txt ['first', 'second', 'third']
SEEN
