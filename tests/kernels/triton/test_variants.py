"""The compile table contains exactly the kernel variants that are launched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fused_contrastive.triton.launch import Launcher
from fused_contrastive.triton.variants import Variant, all_variants, variant_of

from tests.kernels.cases import FEATURES, make_case

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled here, not interpreted")

DTYPES = (torch.float32, torch.float16)


def test_every_variant_that_is_launched_is_compiled_for_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """And every variant of the table is launched by some case."""
    launched: set[Variant] = set()
    launch = Launcher.launch

    def noting(self: Launcher, kernel: Any, num_programs: int, block: Any, arguments: dict[str, Any]) -> None:
        launched.add(variant_of(kernel, block, arguments))
        launch(self, kernel, num_programs, block, arguments)

    monkeypatch.setattr(Launcher, "launch", noting)
    for dtype in DTYPES:
        for levels in ({"nothing"}, {"levels"}):
            for workspace in (None, 4096):
                for feature in (*FEATURES, "nothing"):
                    make_case({feature} | levels, num_documents=40).run("triton", dtype, workspace_bytes=workspace)
                make_case({"symmetric", "excluded"} | levels).run("triton", dtype, workspace_bytes=workspace)
    assert launched == {variant for dtype in DTYPES for variant in all_variants("interpreter", dtype)}
