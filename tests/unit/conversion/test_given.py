"""Shell scripts as the shell reads them: which command of them trains, and with which words."""

from __future__ import annotations

from pathlib import Path

from harness.config import check_tree
from harness.conversion.convert import Converted, convert
from harness.conversion.given.read import read_given
from tests.unit.cli.command_line import invoke


def of_shell(folder: Path, text: str) -> Converted:
    (folder / "run.sh").write_text(text)
    found = convert(read_given([str(folder / "run.sh")], None))
    check_tree(found.tree, "converted", folder)
    return found


ECHOED = r"""
num_gpus=2  # don't count on more
data_args="\\
    --train_data d.jsonl \\
    --query_instruction_for_retrieval 'Find the answer' \\
    --query_instruction_format 'Instruct: {}\\nQuery: {}' \\
"
cmd="torchrun --nproc_per_node $num_gpus \\
    -m FlagEmbedding.finetune.embedder.decoder_only.base \\
    --model_name_or_path m $data_args \\
    --kd_loss_type kl_div \\
"
echo $cmd
eval $cmd
"""


def test_a_command_that_a_script_echoes_and_evaluates_is_read_once_as_the_shell_reads_it(tmp_path: Path) -> None:
    """FlagEmbedding's own examples do both; a backslash before n in their format is a line break and no blank."""
    found = of_shell(tmp_path, ECHOED.replace("\\\\", "\\"))
    assert found.ranks == 2
    assert found.tree["tasks"][0]["prompts"] == {"query": "Instruct: Find the answer\nQuery: "}
    assert all(remark.argument != "nproc_per_node" for remark in found.remarks)
    assert next(r.value for r in found.remarks if r.argument == "kd_loss_type") == "kl_div"


def test_a_script_that_mines_and_then_trains_gives_the_training(tmp_path: Path) -> None:
    mining = "python hn_mine.py --embedder_name_or_path m --input_file a.jsonl\n"
    training = "torchrun -m FlagEmbedding.x --model_name_or_path {} --train_data d.jsonl\n"
    found = of_shell(tmp_path, mining + training.format("m"))
    assert found.tree["tasks"][0]["path"] == "d.jsonl"
    assert any("hn_mine.py" in str(remark) and "not converted" in str(remark) for remark in found.remarks)
    (tmp_path / "two.sh").write_text(training.format("m") + training.format("n"))
    done = invoke("convert", str(tmp_path / "two.sh"))
    assert (done.exit_code, "got 2 commands that train" in done.output) == (2, True)
