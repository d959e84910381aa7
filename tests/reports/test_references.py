"""The references' losses stand beside the runs of the same name."""

import math

from vuilab.reports.references import loss_table
from vuilab.scoring.comparison import RunResult


def test_the_ratio_is_to_the_lower_of_the_references_losses():
    ours = RunResult(
        "model_1", {"loss": [9, 8], "val_loss": [163.2, 170], "val_cer": [0.7, 0.6]}, {"parameters": 224429}
    )
    own = RunResult("my_model", {"loss": [9], "val_loss": [120], "val_cer": [0.5]})
    lost = RunResult("model_2", {"loss": [math.nan], "val_loss": [math.nan]})
    assert loss_table([ours, own, lost]).splitlines()[2:] == [
        "| model_1 | 224,429 | 163.2 | 136.0, 139.9 | 1.20 | 70.0 | 1 of 2 |",
        "| my_model |  | 120.0 |  |  | 50.0 | 1 of 1 |",
        "| model_2 |  | diverged | 128.1, 128.7 |  |  | 0 of 1 |",
    ]
