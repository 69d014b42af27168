"""The messages of a chat as the text that a model continues."""

from __future__ import annotations

from typing import Any

from onebit.errors import shown
from onebit.serving.refusal import Refusal

MOST_MESSAGES = 1000
MOST_TEMPLATE_CHARACTERS = 100_000
PLAIN = "this model has no chat template: the messages were joined plainly"
_ROLES = ("system", "developer", "user", "assistant", "tool")


def prompt_of(messages: Any, template: Any) -> tuple[str, str | None]:
    """The text that continues a chat, and a note for the client where the model is not made for chats.

    Args:
        messages: as OpenAI's clients send them.
        template: a template in Jinja that the file carries, or None.

    Raises:
        Refusal: a message is wrong, or the template does not take the messages.
    """
    checked = _checked(messages)
    if not isinstance(template, str):
        return "\n".join(message["content"] for message in checked) + "\n", PLAIN
    return _rendered(template, checked), None


def _checked(messages: Any) -> list[dict[str, str]]:
    if not isinstance(messages, list) or not 1 <= len(messages) <= MOST_MESSAGES:
        raise Refusal(400, f"messages={shown(messages)}: give a list of 1 to {MOST_MESSAGES} messages", "messages")
    checked = []
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if not isinstance(message, dict):
            raise Refusal(400, f"{where}={shown(message)}: give an object with role and content", where)
        role = message.get("role")
        if role not in _ROLES:
            raise Refusal(400, f"{where}.role={shown(role)}: use {', '.join(_ROLES)}", f"{where}.role")
        checked.append({"role": role, "content": _content(message.get("content"), f"{where}.content")})
    return checked


def _content(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else None
    if parts is None or not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
        raise Refusal(400, f"{where}={shown(content)}: give a text, or a list of parts with texts", where)
    return "".join(part["text"] for part in parts)


def _rendered(template: str, messages: list[dict[str, str]]) -> str:
    """The messages in a template, which may read nothing else and change nothing."""
    if len(template) > MOST_TEMPLATE_CHARACTERS:
        raise Refusal(500, f"the model's chat template has more than {MOST_TEMPLATE_CHARACTERS} characters")
    # Imported here: few models have a template.
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: object) -> None:
        raise Refusal(400, f"the chat template refuses these messages: {message}", "messages")

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.globals["raise_exception"] = refuse
    try:
        compiled = environment.from_string(template)
        return compiled.render(messages=messages, add_generation_prompt=True, bos_token="", eos_token="")
    except Refusal:
        raise
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise Refusal(500, f"the model's chat template does not work: {type(error).__name__}") from None
