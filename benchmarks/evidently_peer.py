"""Evidently's tests of data drift with its defaults, for monitoring.py, which starts this file in Evidently's Python.

Reads one JSON object per line from standard input, with the tables `reference` and `new` (columns text, label,
confidence, length), and answers each with one line: the drifted columns, and whether the data set drifted (by default
if at least half of the columns did). `--preset` runs Evidently's whole report, DataDriftPreset, which takes about 20 s.
Without it the tests are those that Evidently chooses for these columns, with its thresholds, and no report is drawn.
The 1,000 random areas under the ROC curve for the text come from ranks then: equal values in less time. Both ways count
the same columns.
"""

import json
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

DRIFT_SHARE = 0.5  # of the columns, as in DataDriftPreset
NUMBERS = ("confidence", "length")


def main() -> None:
    warnings.filterwarnings("ignore", message="Maximum number of iteration")  # of the text's classifier
    answer = preset if sys.argv[1:] == ["--preset"] else tests
    for line in sys.stdin:
        asked = json.loads(line)
        count, columns = answer(pd.DataFrame(asked["reference"]), pd.DataFrame(asked["new"]))
        is_drifted = count >= DRIFT_SHARE * (len(NUMBERS) + 2)
        print(json.dumps({"columns": columns, "count": count, "drifted": is_drifted}), flush=True)


def tests(reference: pd.DataFrame, new: pd.DataFrame) -> tuple[int, list[str]]:
    """Number and names of the drifted columns, by the test that Evidently chooses for each."""
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType
    from evidently.legacy.utils import data_drift_utils

    data_drift_utils.roc_auc_score = area
    kinds = {
        "text": ColumnType.Text,
        "label": ColumnType.Categorical,
        **dict.fromkeys(NUMBERS, ColumnType.Numerical),
    }
    drifted = []
    for column, kind in kinds.items():
        test = get_stattest(reference[column], new[column], kind, None)
        if test(reference[column], new[column], kind, None).drifted:
            drifted.append(column)
    return len(drifted), drifted


def preset(reference: pd.DataFrame, new: pd.DataFrame) -> tuple[int, list[str]]:
    """Their number, by Evidently's report, which names no columns in its values."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns = DataDefinition(text_columns=["text"], categorical_columns=["label"], numerical_columns=list(NUMBERS))
    new_data, old_data = (Dataset.from_pandas(table, columns) for table in (new, reference))
    metrics = Report([DataDriftPreset()]).run(new_data, old_data).dict()["metrics"]
    return int(next(one["value"]["count"] for one in metrics if "DriftedColumns" in one["metric_name"])), []


def area(truth: Any, scores: Any) -> float:  # noqa: ANN401 - arrays or series
    """The area under the ROC curve, as scikit-learn's `roc_auc_score`."""
    positive = np.asarray(truth, dtype=bool)
    n, ranks = int(positive.sum()), rankdata(scores)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))


if __name__ == "__main__":
    main()
