"""Milliseconds for each token of the packaged decoders in WebAssembly, in node and in Chromium, compared with the package, and compressed sizes.

Needs `make wasm`, node, chromium, and Python's playwright.
"""

import argparse
import functools
import gzip
import json
import shutil
import statistics
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright

import onebit

ROOT = Path(__file__).parent.parent
SITE = ROOT / "build" / "web"
PROMPT = "It was a dark night"
# Milliseconds for each token but the first, which reads the prompt. Of a whole text, because a page's clock ticks every 0.1 ms.
MEASURE = """async (load, file, prompt, tokens) => {
  const model = await load(file);
  let start = 0, made = 0;
  for await (const { token } of model.generate(prompt, { tokens, temperature: 0 })) {
    if (start === 0) start = performance.now();
    else if (token >= 0) ++made;
  }
  const end = performance.now();
  model.close();
  return (end - start) / made;
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def in_node(file: Path, tokens: int) -> float:
    program = f"""
import {{ readFile }} from "node:fs/promises";
import {{ load }} from {json.dumps((SITE / "onebit.js").as_uri())};
const time = await ({MEASURE})(load, await readFile({json.dumps(str(file))}), {json.dumps(PROMPT)}, {tokens});
console.log(time);
"""
    done = subprocess.run(["node", "--input-type=module", "-e", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


def in_package(file: Path, tokens: int) -> float:
    times = onebit.load(file, threads=1).write(PROMPT, tokens, temperature=0.0)
    return (1e3 * times.seconds - times.first_token_ms) / (len(times.tokens) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["books-10m", "books-31m"], help="networks of the package")
    parser.add_argument("--tokens", type=int, default=200, help="of each text")
    parser.add_argument("--repeats", type=int, default=5, help="texts of each kind, by turns")
    arguments = parser.parse_args()
    sizes = {
        name: len(gzip.compress((SITE / name).read_bytes(), 9)) for name in ("onebit.wasm", "onebit.js", "worker.js")
    }
    print(
        "gzip -9:",
        ", ".join(f"{name} {size:,}" for name, size in sizes.items()),
        f"bytes; {sum(sizes.values()):,} in all\n",
    )
    for name in arguments.models:
        shutil.copy(onebit.pretrained.find(name), SITE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("| model | where | ms a token, median of the texts | fastest text | tokens/s |")
    print("| --- | --- | ---: | ---: | ---: |")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        for name in arguments.models:
            file = SITE / f"{name}.onebit"

            def in_chromium(file: Path = file) -> float:
                return page.evaluate(
                    f"""async ([name, prompt, tokens]) => {{
  const {{ load }} = await import(new URL("onebit.js", document.baseURI));
  const file = await (await fetch(name)).arrayBuffer();
  return ({MEASURE})(load, file, prompt, tokens);
}}""",
                    [file.name, PROMPT, arguments.tokens],
                )

            ways = {
                f"Chromium {browser.version}": in_chromium,
                "node": functools.partial(in_node, file, arguments.tokens),
                "the package": functools.partial(in_package, file, arguments.tokens),
            }
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(arguments.repeats):
                for way, measure in ways.items():
                    times[way].append(measure())
            for way, all_times in times.items():
                median = statistics.median(all_times)
                print(f"| {name} | {way} | {median:.3f} | {min(all_times):.3f} | {1e3 / median:,.0f} |")
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
