"""The messages of a chat as the text that a model continues."""

from __future__ import annotations

from typing import Any

from onebit.errors import DataError, shown
from onebit.runtime.chat import prompt_tokens
from onebit.serving.refusal import Refusal
from onebit.subwords import AnyTokenizer

MOST_MESSAGES = 1000
PLAIN = "this model has no chat template: the messages were joined plainly"
_ROLES = ("system", "developer", "user", "assistant", "tool")


def prompt_of(
    messages: list[dict[str, str]], template: Any, tokenizer: AnyTokenizer
) -> tuple[str | list[int], str | None]:
    """What continues a chat, and a note for the client where the model is not made for chats.

    Args:
        messages: of `checked`.
        template: a template in Jinja that the file carries, or None.
        tokenizer: the model's.

    Returns:
        A text, or tokens without those that begin every text.

    Raises:
        Refusal: the template does not take the messages.
    """
    if not isinstance(template, str):
        return "\n".join(message["content"] for message in messages) + "\n", PLAIN
    try:
        return prompt_tokens(template, messages, tokenizer)[len(tokenizer.starts) :] or "", None
    except DataError as error:
        raise Refusal(400, str(error), "messages") from None


def checked(messages: Any) -> list[dict[str, str]]:
    """The messages of a request, each with a role and a content. Raises Refusal if one is wrong."""
    if not isinstance(messages, list) or not 1 <= len(messages) <= MOST_MESSAGES:
        raise Refusal(400, f"messages={shown(messages)}: give a list of 1 to {MOST_MESSAGES} messages", "messages")
    found = []
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if not isinstance(message, dict):
            raise Refusal(400, f"{where}={shown(message)}: give an object with role and content", where)
        role = message.get("role")
        if role not in _ROLES:
            raise Refusal(400, f"{where}.role={shown(role)}: use {', '.join(_ROLES)}", f"{where}.role")
        found.append({"role": role, "content": _content(message.get("content"), f"{where}.content")})
    return found


def _content(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else None
    if parts is None or not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
        raise Refusal(400, f"{where}={shown(content)}: give a text, or a list of parts with texts", where)
    return "".join(part["text"] for part in parts)
