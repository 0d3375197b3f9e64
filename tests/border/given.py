"""The inputs that stand in two folders, written elsewhere: what is right for each."""

from __future__ import annotations

import json
from pathlib import Path

from tests.border.tried import Case, Done, Seen, harness, metrics_of, refused, refused_or_said, said, same_embeddings

REFUSED_MODELS = {
    "no_pooling_file": ("1_Pooling", "config.json"),
    "no_tokenizer": ("tokenizer",),
    "missing_layer": ("layer.1",),
    "other_prefix": ("encoder_model",),
}
# token_beyond_weights: the token added there stands in the vocabulary already, so no id lies beyond the weights. One
# that does is among the inputs of own_models.py.
EQUAL_MODELS = (
    "prompted",
    "include_prompt_false",
    "lower_case",
    "default_prompt",
    "two_poolings",
    "old_layout",
    "token_beyond_weights",
)


def cases(data: Path, models: Path, place: Path) -> list[Case]:
    """A case per input. data, models: the folders with the inputs. place: an empty folder for runs."""

    def train(name: str, *options: str, run: str = "") -> tuple[Done, Path]:
        folder = place / (run or name)
        return harness("train", data / name / "recipe.yaml", "--output", folder, *options), folder

    def plan_of(name: str, file: str, *options: str) -> Done:
        return harness("plan", data / name / "recipe.yaml", "--set", f"tasks.t.path={file}", *options)

    def evaluated(name: str, expected: str) -> Seen:
        return said(harness("evaluate", "demo-minilm", data / name), expected)

    def mine(model: str | Path, bank: str, candidates: str) -> Done:
        files = data / "F17_mining"
        options = "--corpus", files / "corpus.jsonl", "--out", place / bank, "--candidates", candidates
        return harness("mine", model, "--queries", files / "queries.jsonl", *options)

    def custom_code() -> Seen:
        done, run = train("F01_custom_code")
        if done.status:
            return refused(done)
        again = harness("evaluate", run, data / "F03_no_tokenizer" / "sts.jsonl")
        mined = mine(run, "custom_bank", "1")
        asked = any("[y/N]" in step.output for step in (done, again, mined))
        states = done.status, again.status, mined.status
        return Seen(f"train, evaluate, mine end with {states}; asked: {asked}", not any(states) and not asked)

    def examples(name: str, file: str) -> Seen:
        """The wrong answers must not be positives."""
        from harness.data.source.formats import read_formatted_rows
        from harness.data.source.validation import validate

        right = {
            "where is salt kept": "salt is kept in a dry jar",
            "when does the ferry leave": "the ferry leaves at noon",
        }
        wrong = []
        for _, row in read_formatted_rows(str(data / name / file), "train", "retrieval"):
            example = validate(1, row.columns, row.row_format)  # type: ignore[union-attr]
            query, *documents = example.texts  # type: ignore[union-attr]
            wrong += [text for text in documents[: example.num_positives] if text != right[query]]  # type: ignore[union-attr]
        return Seen(f"wrong answers among the positives: {len(wrong)}", not wrong)

    def prompts() -> Seen:
        done, run = train("F04_prompts")
        stored = json.loads((run / "model" / "config_sentence_transformers.json").read_text(encoding="utf-8"))[
            "prompts"
        ]
        right = stored.get("a") == "Kitchen: " and stored.get("b") == "Travel: " and not stored.get("query")
        warned = done.line_with("prompt")
        return Seen(f"exported {stored}; said: {warned}", right and bool(warned))

    def variants(file: str, *options: str) -> Seen:
        done, run = train("F13_variants", "--set", f"tasks.t.path={file}", *options, run=f"F13_{file}")
        loss = metrics_of(run)[0]["loss"]
        return Seen(f"loss of step 1: {loss:.4f} (ln 2 would be 0.6931)", done.status == 0 and loss < 0.1)

    def mined() -> Seen:
        """Of the two documents of the corpus only the one that is no answer is a candidate."""
        return said(mine("demo-minilm", "F17_bank", "2"), r"\b1 candidates? each")

    def no_signal(kind: str) -> Seen:
        recipe = data / "F14_no_signal" / "own.yaml"
        own = "kind: retrieval, path: own.jsonl, quota: 2, negatives: {scope: own, per_query: 1}"
        text = (recipe.parent / "recipe.yaml").read_text(encoding="utf-8")
        recipe.write_text(text.replace("kind: sts, path: sts.jsonl, quota: 2", own), encoding="utf-8")
        name = "recipe.yaml" if kind == "sts" else "own.yaml"
        pattern = "all 2 scores are 1" if kind == "sts" else "2 of 2 queries have no negative"
        return said(harness("train", recipe.with_name(name), "--output", place / f"F14_{kind}"), pattern)

    def reranking(file: str, pattern: str) -> Seen:
        return said(harness("evaluate", "demo-minilm", data / "F15_reranking" / file), pattern)

    unused = "rows have negatives that are not used"
    said_of = dict.fromkeys(("listed", "negatives", "negative1", "rejected"), unused)
    said_of["row_prompt"] = "query, positive, prompt"  # among the columns used
    return [
        Case("F01 own code", custom_code),
        *(
            Case(f"F02 {file}", lambda file=file: examples("F02_labels", file))
            for file in ("pairs.jsonl", "lists.jsonl")
        ),
        Case("F02 scores.jsonl", lambda: refused_or_said(plan_of("F02_labels", "scores.jsonl"), "scores")),
        Case(
            "F03",
            lambda: refused(
                harness("evaluate", data / "F03_no_tokenizer" / "model", data / "F03_no_tokenizer" / "sts.jsonl"),
                "tokenizer",
            ),
        ),
        Case("F04", prompts),
        *(
            Case(
                f"F06 {file}",
                lambda file=file, words=words: said(plan_of("F06_negatives", f"{file}.jsonl"), words),
            )
            for file, words in said_of.items()
        ),
        Case("F07", lambda: evaluated("F07_first_line", "ndcg_at_10.*0.8155")),
        Case("F08", lambda: evaluated("F08_unreachable", r"warning.*\b1\b")),
        Case("F08b", lambda: evaluated("F08b_unknown_query", r"warning.*\b1\b")),
        Case("F13 queries.jsonl", lambda: variants("queries.jsonl")),
        Case(
            "F13 positives.jsonl",
            lambda: variants("positives.jsonl", "--set", "tasks.t.negatives.per_query=2", "--set", "tasks.t.quota=1"),
        ),
        Case("F14 sts.jsonl", lambda: no_signal("sts")),
        Case("F14 own.jsonl", lambda: no_signal("own")),
        Case("F15 numbered.jsonl", lambda: reranking("numbered.jsonl", r"\bmap\b.*0\.5000")),
        Case("F15 half.jsonl", lambda: reranking("half.jsonl", r"rows without a negative.*: 1")),
        Case("F16", lambda: said(train("F16_blank_line")[0], "model:")),
        Case("F17", mined),
        *(Case(f"model {name}", lambda name=name: same_embeddings(models / name)) for name in EQUAL_MODELS),
        *(
            Case(
                f"model {name}",
                lambda name=name, words=words: refused(
                    harness("evaluate", models / name, data / "F03_no_tokenizer" / "sts.jsonl"), *words
                ),
            )
            for name, words in REFUSED_MODELS.items()
        ),
    ]
