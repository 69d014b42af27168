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
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import onebit

ROOT = Path(__file__).parent.parent
SITE = ROOT / "build" / "web"
PROMPT = "It was a dark night"
# Milliseconds for each token, of ten tokens together, because a page's clock ticks every 0.1 ms. The first text is left out: meanwhile the browser
# compiles the engine a second time, for speed.
MEASURE = """async (load, file, prompt, tokens, repeats) => {
  const model = await load(file), times = [];
  for (let repeat = 0; repeat <= repeats; ++repeat) {
    let before = 0, made = 0;
    for await (const { token } of model.generate(prompt, { tokens, temperature: 0 })) {
      if (made++ % 10 !== 0) continue;
      const now = performance.now();
      if (made > 1 && repeat > 0) times.push((now - before) / 10);
      before = performance.now();
    }
  }
  model.close();
  return times;
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def in_node(file: Path, tokens: int, repeats: int) -> list[float]:
    program = f"""
import {{ readFile }} from "node:fs/promises";
import {{ load }} from {json.dumps((SITE / "onebit.js").as_uri())};
const times = await ({MEASURE})(load, await readFile({json.dumps(str(file))}), {json.dumps(PROMPT)}, {tokens}, {repeats});
console.log(JSON.stringify(times));
"""
    done = subprocess.run(["node", "--input-type=module", "-e", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def in_package(file: Path, tokens: int, repeats: int) -> list[float]:
    times, before = [], 0.0
    session = onebit.load(file, threads=1)
    for repeat in range(repeats + 1):
        for made, _ in enumerate(session.generate_pieces(PROMPT, tokens, temperature=0.0)):
            if made % 10 == 0:
                now = time.perf_counter()
                if made > 0 and repeat > 0:
                    times.append(100 * (now - before))
                before = time.perf_counter()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["books-10m", "books-31m"], help="networks of the package")
    parser.add_argument("--tokens", type=int, default=200, help="of each text")
    parser.add_argument("--repeats", type=int, default=5, help="texts that are measured, after one that is not")
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
    print("| model | where | ms a token, median | fastest tenth | tokens/s |")
    print("| --- | --- | ---: | ---: | ---: |")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        for name in arguments.models:
            file = SITE / f"{name}.onebit"

            def in_chromium(file: Path = file) -> list[float]:
                return page.evaluate(
                    f"""async ([name, prompt, tokens, repeats]) => {{
  const {{ load }} = await import(new URL("onebit.js", document.baseURI));
  const file = await (await fetch(name)).arrayBuffer();
  return ({MEASURE})(load, file, prompt, tokens, repeats);
}}""",
                    [file.name, PROMPT, arguments.tokens, arguments.repeats],
                )

            ways = {
                f"Chromium {browser.version}": in_chromium,
                "node": functools.partial(in_node, file, arguments.tokens, arguments.repeats),
                "the package": functools.partial(in_package, file, arguments.tokens, arguments.repeats),
            }
            for way, measure in ways.items():
                times = measure()
                median, fast = statistics.median(times), statistics.quantiles(times, n=10)[0]
                print(f"| {name} | {way} | {median:.3f} | {fast:.3f} | {1e3 / median:,.0f} |")
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
