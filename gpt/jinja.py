"""The prompt for other tools: a template's pieces as the Jinja that `transformers` renders.

    Template.to_dict() ─> chat_template ─> tokenizer_config.json ─> tokenizer.apply_chat_template

With it, whatever is built on transformers asks a tuned model in the very words of its training.
Two things it cannot do. In transformers the end token's text is the end token, in a message too.
And earlier answers are encoded together with what stands before them, so that one that begins with
an empty line merges with the header's line break.

    python -m gpt.template      # ends with the chat template of one

Source: https://huggingface.co/docs/transformers/chat_templating
"""

import json
from collections.abc import Sequence

from gpt.records import Turn

_END_IF = "{%- endif -%}"


def messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Turns as transformers takes them; Alpaca's second field is a key of its own, `input`."""
    return [
        {"role": role, "content": text} | ({"input": input} if input else {})
        for role, text, input in turns
    ]


def chat_template(pieces: dict[str, str]) -> str:
    """Jinja that renders `messages(turns)` to the text whose ids `Template.prompt_ids` gives."""
    opening = _say(pieces["preamble"])
    if pieces["preamble_with_input"]:
        both = _say(pieces["preamble_with_input"]) + "{%- else -%}" + opening
        opening = _if('message["input"]') + both + _END_IF
    response = _say(pieces["response"])
    lines = (
        "{%- for message in messages -%}",
        _if('message["role"] == "assistant"'),
        response + _value("content") + "{{ eos_token }}",
        '{%- elif message["role"] == "system" -%}',
        _frame(pieces, "system", "content"),
        "{%- else -%}",
        _if("loop.first") + opening + _END_IF,
        _frame(pieces, "instruction", "content"),
        _if('message["input"]') + _frame(pieces, "input", "input") + _END_IF,
        _END_IF,
        "{%- endfor -%}",
        _if("add_generation_prompt") + response + _END_IF,
    )
    return "\n".join(lines)


def _frame(pieces: dict[str, str], slot: str, key: str) -> str:
    return _value(key).join(map(_say, pieces[slot].split(f"{{{slot}}}")))


def _if(condition: str) -> str:
    return f"{{%- if {condition} -%}}"


def _value(key: str) -> str:
    return f'{{{{ message["{key}"] }}}}'


def _say(text: str) -> str:
    """A text in Jinja, as an expression: bare, a line break next to a tag would be eaten."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""
