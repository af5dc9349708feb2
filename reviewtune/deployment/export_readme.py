"""The README.md of an exported model: how it must be asked, what it answers, where it comes from, how to serve it."""

import json
import shlex
from collections.abc import Iterator

from reviewtune.data.prompts import Prompt
from reviewtune.deployment.export_folder import ExportRecord
from reviewtune.deployment.model_writer import Written

EXAMPLE = "Three weeks and still no parcel."
MAX_TOKENS = 60
SYSTEM_MARK, USER_MARK = "REVIEWTUNE_SYSTEM", "REVIEWTUNE_USER"  # as in reviewtune/local_server/engine/export.py


def readme(record: ExportRecord, prompt: Prompt, written: Written) -> str:
    """The page, in Markdown."""
    parts = [*_head(record, written), *_asking(prompt), *_origin(record), *_serving(record, prompt, written)]
    return "\n\n".join(parts) + "\n"


def modelfile(prompt: Prompt, written: Written) -> str:
    """Ollama's Modelfile. Its template is in another language than transformers', so it is for one question only."""
    text = written.text.removeprefix(written.begin)  # Ollama adds it
    template = text.replace(SYSTEM_MARK, "{{ .System }}").replace(USER_MARK, "{{ .Prompt }}")
    return "\n".join(
        [
            "# Not tested here. In this folder: ollama create issues -f Modelfile",
            "FROM .",
            f'TEMPLATE """{template}{{{{ .Response }}}}{written.end}"""',
            f'SYSTEM """{prompt.system}"""',
            f'PARAMETER stop "{written.end}"',
            "PARAMETER temperature 0",
            "",
        ]
    )


def _head(record: ExportRecord, written: Written) -> Iterator[str]:
    yield f"# {record.model}"
    what = "A chat model that names the main issue of a customer review"
    if record.kind == "adapter":
        yield (
            f"{what}: a low-rank adapter in the format of PEFT. It needs the weights of its base model "
            f"`{record.base_model}`, on the machine of the export in `{written.base_folder}`, and gives wrong answers "
            "with any other."
        )
    else:
        yield f"{what}: all weights, in bf16. Base model: `{record.base_model}`."
    yield "Files named LICENSE, NOTICE or ...TERMS are the base model's license; it holds for this model too."


def _asking(prompt: Prompt) -> Iterator[str]:
    yield "## How to ask it"
    yield "The model knows only this form. Send these two messages, with temperature 0; `{text}` is the review."
    yield f"System message:\n\n{_block(prompt.system)}"
    yield f"User message:\n\n{_block(prompt.settings.user)}"
    yield f"A full request:\n\n{_block(_json(_request(prompt)), 'json')}"
    answer = prompt.answer(next(iter(prompt.labels)))
    yield f"An answer looks like this:\n\n{_block(answer, 'json' if prompt.response_format else '')}"
    if prompt.response_format:
        yield (
            "`response_format` lets a server write nothing but one of the labels. A server that does not know it "
            "ignores or refuses it; leave it out then, and treat an answer without one of these labels as none."
        )
    rows = [f"| `{label}` | {meaning.replace('|', chr(92) + '|')} |" for label, meaning in prompt.labels.items()]
    yield "## Labels"
    yield "\n".join(["| label | meaning |", "|---|---|", *rows])


def _origin(record: ExportRecord) -> Iterator[str]:
    facts = {
        "base model": record.base_model,
        "fine-tuning job": record.job_id,
        "MLflow run": record.run_id,
        "data set": record.data,
        "labelled reviews, sha256": record.data_sha256,
        "training file, sha256": record.training_sha256,
        "prompt fingerprint": record.prompt_fingerprint,
    }
    rows = [f"| {name} | `{value}` |" for name, value in facts.items() if value]
    yield "## Where it comes from"
    yield "\n".join(["| what | value |", "|---|---|", *rows])


def _serving(record: ExportRecord, prompt: Prompt, written: Written) -> Iterator[str]:
    yield "## In Python"
    yield _block(_python(record, prompt, written), "python")
    yield "## As a server"
    if record.kind == "adapter":
        yield (
            "`transformers serve` and Ollama take all weights: export the model without `--adapter` for them. "
            "vLLM (not tested here):"
        )
        yield _block(f"vllm serve {shlex.quote(written.base_folder)} --enable-lora --lora-modules issues=.", "sh")
        return
    yield "transformers (`pip install 'transformers[serving]'`), in this folder:"
    yield _block("transformers serve . --port 8001", "sh")
    yield (
        "It calls the model by the path that it was given, so the request's `model` is `.`, and it ignores "
        "`response_format`. In reviewtune: `provider=compatible`, `provider.base_model=.`, "
        "`provider.base_url=http://127.0.0.1:8001/v1`, `provider.structured_output=false`, "
        "`provider.api_key_env=null`, then `reviewtune evaluate --model . --finetuned --ground-truth FILE`. "
        "vLLM (not tested here):"
    )
    yield _block("vllm serve . --served-model-name issues --port 8001", "sh")
    yield "Ollama (not tested here), with the `Modelfile` of this folder:"
    yield _block("ollama create issues -f Modelfile\nollama run issues 'Review: ...'", "sh")


def _python(record: ExportRecord, prompt: Prompt, written: Written) -> str:
    """A program that prints the answer to one review; tests/deployment/test_export.py runs it."""
    adapter = record.kind == "adapter"
    load = (
        [f'base = AutoModelForCausalLM.from_pretrained({written.base_folder!r}, dtype="bfloat16")',
         'model = peft.PeftModel.from_pretrained(base, ".")']
        if adapter
        else ['model = AutoModelForCausalLM.from_pretrained(".", dtype="bfloat16")']
    )  # fmt: skip
    settings = ["settings = GenerationConfig.from_pretrained('.')"] if adapter else []
    given = ", generation_config=settings" if adapter else ""
    names = "AutoModelForCausalLM, AutoTokenizer" + (", GenerationConfig" if adapter else "")
    return "\n".join(
        [
            *(["import peft"] if adapter else []),
            f"from transformers import {names}",
            "",
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            *load,
            *settings,
            f"messages = {_json(prompt.messages(EXAMPLE))}",
            "question = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
            ")",
            f"answer = model.generate(**question, max_new_tokens={MAX_TOKENS}{given})",
            'print(tokenizer.decode(answer[0, question["input_ids"].shape[1] :], skip_special_tokens=True))',
        ]
    )


def _request(prompt: Prompt) -> dict[str, object]:
    request = {"model": "issues", "messages": prompt.messages(EXAMPLE), "temperature": 0, "max_tokens": MAX_TOKENS}
    return {**request, "response_format": prompt.response_format} if prompt.response_format else request


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _block(text: str, language: str = "") -> str:
    """A code block, also around text that holds one."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
