"""Serves packed models over HTTP: texts as OpenAI's clients ask for them, images, and a page. docs/serving.md describes it."""
