"""llama.cpp as it comes with npm's node-llama-cpp: its converter to GGUF, and llama-embedding, compiled against its
libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

VERSION = "3.22.1"  # of node-llama-cpp; llama.cpp v0.5.0
_SEPARATOR = "<#sep#>"


def llama_cpp(folder: Path) -> Path:
    """The folder of its source, with `lib/llama-embedding`. Needs npm, git and g++."""
    npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional"]
    packages = [f"node-llama-cpp@{VERSION}", f"@node-llama-cpp/linux-x64@{VERSION}"]
    _done([*npm, "--prefix", str(folder), *packages])
    modules, source = folder / "node_modules", folder / "llama.cpp"
    _done(["git", "clone", "-q", str(modules / "node-llama-cpp" / "llama" / "gitRelease.bundle"), str(source)])
    lib = modules / "@node-llama-cpp" / "linux-x64" / "bins" / "linux-x64"
    (source / "lib").symlink_to(lib)
    program = source / "examples" / "embedding" / "embedding.cpp"
    end = "    llama_backend_free();"
    # Without this, what it prints last may be lost.
    program.write_text(program.read_text().replace(end, f"{end} common_log_flush(common_log_main());"))
    includes = [f"-I{source / part}" for part in ("include", "common", "ggml/include", "vendor")]
    libraries = [f"-l:{path.name}" for path in sorted(lib.glob("lib*.so")) if "ggml-cpu" not in path.name]
    flags = ["-O1", "-std=c++17", "-w", "-Wl,-rpath,$ORIGIN", f"-L{lib}"]
    _done(["g++", str(program), *flags, *includes, *libraries, "-o", str(lib / "llama-embedding")])
    return source


def converted(source: Path, folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """`out`, a GGUF file in float32 of a model folder, or a status that is not 0."""
    command = [sys.executable, str(source / "convert_hf_to_gguf.py"), str(folder), "--outtype", "f32"]
    return _run([*command, "--outfile", str(out)])


def embedded(source: Path, file: Path, texts: list[str]) -> list[list[float]]:
    """Vectors of length 1."""
    prompts = file.with_suffix(".txt")
    prompts.write_text(_SEPARATOR.join(texts))
    options = ["--embd-separator", _SEPARATOR, "--embd-output-format", "array", "-t", "1", "-c", "512", "-b", "512"]
    command = [str((source / "lib").resolve() / "llama-embedding"), "-m", str(file), "-f", str(prompts), "--no-escape"]
    done = _done([*command, *options])
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[[")))


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # The checkout's own modules are not for these programs.
    free = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, env=free, timeout=600)


def _done(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = _run(command)
    assert done.returncode == 0, done.stderr[-2000:]
    return done
