"""The whole model as one ONNX graph: token ids and their mask in, token states and the embedding out.

onnx/model.onnx            inputs input_ids, attention_mask [batch, length]; outputs last_hidden_state
                           [batch, length, D], sentence_embedding [batch, D]
onnx/model_quantized.onnx  the same with int8 weights

text-embeddings-inference takes `sentence_embedding` if it is there, and pools `last_hidden_state` itself otherwise;
sentence-transformers' backend="onnx" takes `last_hidden_state` and goes on with the folder's own modules.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.encoder.encoder import Encoder
from harness.model_folder.find import words_of
from harness.types import TokenBatch

FILE, QUANTISED_FILE = Path("onnx/model.onnx"), Path("onnx/model_quantized.onnx")
INPUTS, STATES, EMBEDDING = ["input_ids", "attention_mask"], "last_hidden_state", "sentence_embedding"
TOLERANCE = 1e-4
LARGEST_FILE = 1_500_000_000  # bytes of weights; an ONNX file ends at 2 GiB, the rest goes to a file beside it
_EXTERNAL = "model.onnx_data"  # the name that readers download with model.onnx


def require_onnx() -> None:
    """Raise ValueError, with the command that installs them, if the packages of the extra `onnx` are not there."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError:
            raise ValueError(
                f"--format onnx: got no {package}, expected it installed; pip install -c constraints.txt -e '.[onnx]'"
            ) from None


class _Pipeline(nn.Module):
    """Backbone, pooling, head, and length 1 if the folder's embeddings have it."""

    def __init__(self, encoder: Encoder, has_embedding: bool) -> None:
        super().__init__()
        self.encoder, self.has_embedding = encoder, has_embedding

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        state_BLD = self.encoder.states(input_ids, attention_mask)
        if not self.has_embedding:
            return state_BLD
        embedding_BD = self.encoder.pooled(state_BLD, attention_mask, None)
        if self.encoder.normalize:
            embedding_BD = nn.functional.normalize(embedding_BD, dim=1)
        return state_BLD, embedding_BD


def write_onnx(folder: Path, encoder: Encoder, *, largest_file: int = LARGEST_FILE) -> bool:
    """Write FOLDER/onnx/model.onnx from an encoder in fp32 on the CPU. Batch and length are free.

    largest_file: above this many bytes of weights they go to a file of their own. Returns whether the graph has the
    embedding: it has not if the model leaves the prompt out of pooling, because tokens do not say where a prompt ends.

    Raises:
        ValueError: torch cannot export the model.
    """
    has_embedding = encoder.layout.include_prompt
    path = folder / FILE
    path.parent.mkdir()
    example = torch.tensor([[2, 3, 4, 5, 6], [2, 3, 4, 0, 0]])
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}  # an error if the model fixes one
    pipeline = _Pipeline(encoder, has_embedding).eval()
    outputs = [STATES, EMBEDDING] if has_embedding else [STATES]
    with torch.no_grad(), warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        try:
            # Exported by hand: torch.onnx.export falls back to a fixed shape, silently, if the free ones do not work.
            mask = (example > 0).long()
            graph = torch.export.export(pipeline, (example, mask), dynamic_shapes=(free, free), strict=False)
            program: Any = torch.onnx.export(
                graph, (), input_names=INPUTS, output_names=outputs, dynamo=True, verbose=False
            )
        except Exception as error:
            kind = encoder.backbone.config.model_type
            raise ValueError(
                f"--format onnx: got a model of type {kind}, which torch cannot export ({words_of(error)[:200]}), "
                "expected one that it can; export without --format onnx"
            ) from error
    _forget_source(program)
    size = sum(weight.nbytes for weight in encoder.state_dict().values())
    program.save(str(path), external_data=size > largest_file)
    if size > largest_file:
        _rename_external(path)
    return has_embedding


def quantise_onnx(folder: Path, *, largest_file: int = LARGEST_FILE) -> None:
    """Write FOLDER/onnx/model_quantized.onnx: int8 weights, activations quantised as they come (onnxruntime's dynamic
    quantisation).

    A CPU without VNNI adds two products of 8 bits in 16 bits, which saturates with whole int8 weights. With 7 bits
    (`reduce_range`) 2 · 255 · 64 < 2**15, so that every CPU gives the same sums; a step of its own for each output
    (`per_channel`) gives back more than the bit takes. LOG.md 2026-11-30, "The int8 file on a CPU without VNNI".
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    is_large = sum(file.stat().st_size for file in (folder / FILE).parent.iterdir()) > largest_file
    with _quiet():
        quantize_dynamic(
            folder / FILE,
            folder / QUANTISED_FILE,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            use_external_data_format=is_large,
        )


class OnnxModel:
    """Embeds token batches with an ONNX file of `write_onnx`, on the CPU."""

    def __init__(self, path: Path, encoder: Encoder) -> None:
        """encoder: pools the states of a graph that has no embedding."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._encoder = encoder
        self.has_embedding = EMBEDDING in [output.name for output in self._session.get_outputs()]

    def __call__(self, batch: TokenBatch) -> Tensor:
        """Embeddings [B, D] float32 of a batch."""
        ids_BL, mask_BL, pooling_BL = batch.on(torch.device("cpu"))
        if self.has_embedding:
            return torch.from_numpy(self.run(EMBEDDING, ids_BL, mask_BL))
        state_BLD = torch.from_numpy(self.run(STATES, ids_BL, mask_BL))
        with torch.no_grad():
            return self._encoder.pooled(state_BLD, mask_BL, pooling_BL)

    def run(self, output: str, input_ids_BL: Tensor, attention_mask_BL: Tensor) -> np.ndarray:
        """One output of the graph."""
        inputs = dict(zip(INPUTS, (input_ids_BL.numpy(), attention_mask_BL.numpy()), strict=True))
        (array,) = self._session.run([output], inputs)
        return array


def check_onnx(model: OnnxModel, encoder: Encoder, longest_text: int, name: str) -> float:
    """The largest difference between graph and encoder, of vectors of length 1, and of token states by the largest.

    Over several lengths and batch sizes, with padding on the right. name: of the file, for the message.

    Raises:
        ValueError: it is above 1e-4.
    """
    config = encoder.backbone.config.get_text_config()
    generator, largest = torch.Generator().manual_seed(0), 0.0
    for num_texts, length in ((1, 1), (1, 7), (2, 2), (3, min(33, longest_text)), (5, 12), (2, min(longest_text, 512))):
        ids_BL = torch.randint(0, config.vocab_size, (num_texts, length), generator=generator)
        length_B = torch.randint(1, length + 1, (num_texts,), generator=generator).index_fill(
            0, torch.tensor(0), length
        )
        mask_BL = (torch.arange(length)[None] < length_B[:, None]).long()
        ids_BL = torch.where(mask_BL > 0, ids_BL, config.pad_token_id if isinstance(config.pad_token_id, int) else 0)
        with torch.no_grad():
            state_BLD = encoder.states(ids_BL, mask_BL)
            expected_BD = nn.functional.normalize(encoder.pooled(state_BLD, mask_BL, None), dim=1)
        got_BLD = torch.from_numpy(model.run(STATES, ids_BL, mask_BL))
        got_BD = nn.functional.normalize(model(TokenBatch(ids_BL, mask_BL)), dim=1)
        of_states = ((got_BLD - state_BLD).abs() * mask_BL[..., None]).max() / state_BLD.abs().max()
        largest = max(largest, float((got_BD - expected_BD).abs().max()), float(of_states))
        if not largest <= TOLERANCE:
            raise ValueError(
                f"{name}: got vectors of {num_texts} texts of up to {length} tokens that differ from the model's by "
                f"{largest:.1e}, expected at most {TOLERANCE:.0e}; do not use it, export without --format onnx"
            )
    return largest


def _forget_source(program: Any) -> None:
    """Remove what the exporter notes of each operation: lines of source, with paths of this machine."""
    for graph in (program.model.graph, *(function.graph for function in program.model.functions.values())):
        graph.metadata_props.clear()
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
    for function in program.model.functions.values():
        function.metadata_props.clear()
    program.model.metadata_props.clear()


def _rename_external(path: Path) -> None:
    """Give the file of the weights the name that readers look for."""
    import onnx

    model = onnx.load(path)
    for file in path.parent.iterdir():
        file.unlink()
    onnx.save_model(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=_EXTERNAL)


class _quiet:
    """Without what torch's exporter and onnxruntime say of packages and of steps that nobody asked for."""

    def __enter__(self) -> None:
        self._before = logging.root.manager.disable
        logging.disable(max(logging.WARNING, self._before))

    def __exit__(self, *_: object) -> None:
        logging.disable(self._before)
