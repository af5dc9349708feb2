"""Personal data: planted addresses and numbers are detected and masked; texts without any are unchanged."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviewtune.core.config.config import Config
from reviewtune.core.config.data import ColumnsConfig
from reviewtune.data.personal_data import KINDS, MASKS, count, find, mask
from reviewtune.data.reviews import prepare

PLANTED = [
    ("en", "Write to jane.doe+shop@mail.example.co.uk, please!", "Write to [EMAIL], please!"),
    ("en", "Call me on (212) 555-0123 after six.", "Call me on [PHONE] after six."),
    ("en", "From abroad: +44 20 7946 0958.", "From abroad: [PHONE]."),
    ("en", "Order #20481773 never came", "Order #[ORDER_NUMBER] never came"),
    ("en", "my order number is AB-99213-7, still open", "my order number is [ORDER_NUMBER], still open"),
    ("en", "112-3456789-7654321 was refused", "[ORDER_NUMBER] was refused"),
    ("ko", "문의는 hong.gildong@naver.com으로 주세요", "문의는 [EMAIL]으로 주세요"),
    ("ko", "전화 010-2345-6789로 연락 주세요", "전화 [PHONE]로 연락 주세요"),
    ("ko", "주문번호 20250311998877 환불요", "주문번호 [ORDER_NUMBER] 환불요"),
    ("ko", "이메일foo@bar.com으로 답장 주세요", "이메일[EMAIL]으로 답장 주세요"),
    ("de", "Schreibt an müller@bücher.example", "Schreibt an [EMAIL]"),
]  # fmt: skip
INNOCENT = [
    "I ordered on 2024-05-12 and it came on 12-06-2024, nineteen days late.",
    "order 2 sizes up", "order status since 12 of last month", "10000 mAh, 5V 2.4A, 1200x800 px, € 1,299.00",
    "@home it fits, 50% off @ the shop",
]  # fmt: skip


@pytest.mark.parametrize(("language", "text", "masked"), PLANTED)
def test_planted_items_are_masked_and_the_rest_is_unchanged(language: str, text: str, masked: str) -> None:
    assert mask(text, language) == masked


@pytest.mark.parametrize("text", INNOCENT)
def test_dates_sizes_and_prices_are_not_personal_data(text: str) -> None:
    assert find(text, "en") == []


@pytest.mark.parametrize("language", ["en", "ko"])
def test_our_own_reviews_contain_no_personal_data(language: str, project: Path) -> None:
    texts = pd.read_csv(project / f"data/raw/reviews_{language}.csv")["text"]
    assert count(texts, language) == dict.fromkeys(KINDS, 0)


@given(st.text(max_size=200), st.sampled_from(["en", "ko", "xx", ""]))
@settings(max_examples=200)
def test_masking_twice_is_the_same_as_masking_once(text: str, language: str) -> None:
    once = mask(text, language)
    assert mask(once, language) == once


@given(st.lists(st.sampled_from([text for _, text, _ in PLANTED]), min_size=1, max_size=4))
def test_a_masked_text_contains_no_personal_data(texts: list[str]) -> None:
    masked = mask(" / ".join(texts), "en")
    assert (
        find(masked, "en") == [] or find(masked, "en")[0].kind == "phone"
    )  # Korean numbers need Korean numbering plans
    assert any(token in masked for token in MASKS.values()) or "010" in masked


def test_stage_prepare_masks_if_it_is_set(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "own.csv"
    rows = [f"parcel {label} {i}, mail me: a{i}@b.example,{label}" for label in ("late", "broken") for i in range(4)]
    path.write_text("text,label\n" + "\n".join(row.replace(", mail", " mail") for row in rows) + "\n")
    columns = ColumnsConfig(text="text", label="label", id=None, second_label=None)
    labels = {"late": "came late", "broken": "came broken"}
    data = config.data.model_copy(update={"columns": columns, "labels": labels, "slices": ()})
    assert "a0@b.example" in prepare(path, data).reviews["text"].iloc[0]
    masked = prepare(path, data.model_copy(update={"mask_personal": True})).reviews["text"]
    assert masked.iloc[0] == "parcel late 0 mail me: [EMAIL]"
    assert count(masked, "en")["email"] == 8
